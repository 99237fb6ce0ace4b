"""A base model has a digest, and transcribes, only when its weights are whole: its own, all finite."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from base_model_edits import MISFITS, edit
from command_line import Run
from safetensors.torch import load_file, save_file
from small_whisper import write_speech

from adapter_hub import embedded
from adapter_hub.base_model.digest import base_model_digest
from adapter_hub.errors import AdapterHubError
from adapter_hub.model.base_model import load_base_model

Tensors = dict[str, torch.Tensor]
CONV, NORM = "model.encoder.conv1.weight", "model.decoder.layer_norm.bias"


def prefixed(prefix: str) -> Callable[[Tensors], Tensors]:
    return lambda tensors: {f"{prefix}{name}": tensor for name, tensor in tensors.items()}


def without(*names: str) -> Callable[[Tensors], Tensors]:
    return lambda tensors: {name: tensor for name, tensor in tensors.items() if name not in names}


def put(name: str, tensor: torch.Tensor) -> Callable[[Tensors], Tensors]:
    return lambda tensors: tensors | {name: tensor}


def spoilt(name: str, value: float) -> Callable[[Tensors], Tensors]:
    def change(tensors: Tensors) -> Tensors:
        tensors[name].view(-1)[-1] = value
        return tensors

    return change


def edited(source: Path, target: Path, change: Callable[[Tensors], Tensors]) -> Path:
    shutil.copytree(source, target)
    weights = target / "model.safetensors"
    save_file(change(load_file(weights)), weights, {"format": "pt"})
    return target


UNSOUND: dict[str, tuple[Callable[[Tensors], Tensors], str]] = {
    "saved inside PEFT": (prefixed("base_model.model."), "merge_and_unload() before save_pretrained()"),
    "saved by DataParallel": (prefixed("module."), "save its .module"),
    "saved compiled": (prefixed("_orig_mod."), "save the module that was compiled"),
    "saved inside another model": (prefixed("asr.whisper."), "every name begins with 'asr.whisper.'"),
    "a tensor is missing": (without(CONV), f"1 missing: {CONV}"),
    "many tensors are missing": (
        lambda tensors: {k: v for k, v in tensors.items() if ".layers." not in k},
        "more",
    ),
    "a LoRA was left in": (
        put("model.encoder.layers.0.fc1.lora_A.default.weight", torch.zeros(2, 16)),
        "1 unknown: model.encoder.layers.0.fc1.lora_A.default.weight",
    ),
    "of another width": (put(NORM, torch.zeros(5)), f"{NORM} is [5], config.json makes it ["),
    "NaN": (spoilt(NORM, float("nan")), f"{NORM} has values that are NaN or infinite"),
    "infinite": (spoilt(CONV, float("-inf")), f"{CONV} has values that are NaN or infinite"),
}


@pytest.mark.parametrize("case", UNSOUND)
def test_weights_that_are_not_whole_have_no_digest_and_say_why_in_one_line(
    case: str, base_folder: Path, tmp_path: Path
) -> None:
    change, said = UNSOUND[case]
    folder = edited(base_folder, tmp_path / "model", change)
    with pytest.raises(AdapterHubError, match="model") as refused:
        base_model_digest(folder)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 1000
    with pytest.raises(AdapterHubError, match="model"):
        load_base_model(folder, cache=tmp_path / "cache")


@pytest.mark.parametrize("case", MISFITS)
def test_settings_that_ask_for_other_weights_have_no_digest(case: str, tmp_path: Path) -> None:
    folder = edit(shutil.copytree(embedded.base_model_path(), tmp_path / "model"), *MISFITS[case])
    with pytest.raises(AdapterHubError, match="not the weights of its config.json"):
        base_model_digest(folder)


def test_a_model_that_is_not_whole_transcribes_nothing(base_folder: Path, tmp_path: Path, run: Run) -> None:
    folder = edited(base_folder, tmp_path / "wrapped", prefixed("base_model.model."))
    write_speech(tmp_path / "a.wav")
    answer = run("transcribe", "base-model", "a.wav", "--base-model", folder, "--language", "en")
    assert answer.code != 0
    assert answer.out == ""
    assert answer.err.count("error:") == 1


def test_what_means_nothing_may_be_there_or_not(base_folder: Path, tmp_path: Path) -> None:
    marked = edited(base_folder, tmp_path / "marked", put("model.encoder.version", torch.ones(1)))
    tied = load_file(base_folder / "model.safetensors")["model.decoder.embed_tokens.weight"]
    headed = edited(base_folder, tmp_path / "headed", put("proj_out.weight", tied.clone()))
    assert base_model_digest(headed) == base_model_digest(base_folder)
    assert load_base_model(marked, cache=tmp_path / "cache").chunk_seconds == 4.0


def test_a_file_without_the_head_is_whole(base_folder: Path, tmp_path: Path) -> None:
    def headless(tensors: Tensors) -> Tensors:
        return {name.removeprefix("model."): tensor for name, tensor in tensors.items()}

    folder = edited(base_folder, tmp_path / "headless", headless)
    whole, other = load_base_model(base_folder), load_base_model(folder, cache=tmp_path / "cache")
    assert other.model.state_dict()[CONV].equal(whole.model.state_dict()[CONV])


def test_weights_that_became_whole_are_looked_at_again(base_folder: Path, tmp_path: Path) -> None:
    folder, cache = edited(base_folder, tmp_path / "model", without(CONV)), tmp_path / "cache"
    with pytest.raises(AdapterHubError, match="1 missing"):
        load_base_model(folder, cache=cache)
    shutil.copy(base_folder / "model.safetensors", folder)
    assert load_base_model(folder, cache=cache).digest == base_model_digest(base_folder)


def test_shards_are_whole_together(base_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "sharded"
    shutil.copytree(base_folder, folder)
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = sorted(tensors)
    parts = {"a.safetensors": names[::2], "b.safetensors": names[1::2]}
    for file, part in parts.items():
        save_file({name: tensors[name] for name in part}, folder / file, {"format": "pt"})
    index = {"weight_map": {name: file for file, part in parts.items() for name in part}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert base_model_digest(folder) == base_model_digest(base_folder)
    index["weight_map"] = dict.fromkeys(names, "a.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(AdapterHubError, match=r"\d+ missing: "):
        base_model_digest(folder)
