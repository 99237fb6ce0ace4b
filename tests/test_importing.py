"""Importing a third-party PEFT adapter: what is plain LoRA on this base model comes in, the rest does not."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from audit_defects import make_home
from making import MODULES, WIDTH, lora_tensors, peft_config, write_safetensors, write_weights

from adapter_hub.artifact.folder import Artifact
from adapter_hub.audit import audit
from adapter_hub.base_model.finding import find_base_model
from adapter_hub.cli import main
from adapter_hub.errors import AdapterHubError, ConflictError, NotFoundError
from adapter_hub.exchange.importing import Identity, base_model_pin, import_peft, languages_of
from adapter_hub.exchange.places import Places

Q_PROJ, FC1 = MODULES


@pytest.fixture
def base_model(tmp_path: Path) -> Path:
    return make_home(tmp_path / "home").base_model


def take_in(source: Path, target: Path, base_model: Path) -> Artifact:
    identity = Identity("test/theirs", "1.0.0", languages_of(["da"]))
    return import_peft(source, target, identity, base_model_pin(base_model, "test/tiny"), base_model)


def test_an_imported_adapter_is_a_sound_artifact_that_says_where_it_is_from(
    tmp_path: Path, base_model: Path
) -> None:
    write_weights(tmp_path / "theirs", rank=3)
    artifact = take_in(tmp_path / "theirs", tmp_path / "out", base_model)
    artifact.verify()
    assert artifact.manifest.method == "imported"
    assert artifact.manifest.training is None
    assert [(m.path, m.rank, m.scaling) for m in artifact.manifest.lora[0].modules] == [
        (Q_PROJ, 3, 2.0),
        (FC1, 3, 2.0),
    ]
    findings = audit([str(artifact.path)], Places(()), base_models={"test/tiny": base_model})
    assert [finding.code for finding in findings] == ["provenance-unknown", "licence-missing"]


def test_the_weights_bytes_stay_and_the_config_gets_one_spelling(tmp_path: Path, base_model: Path) -> None:
    for name, extra in (("one", {}), ("two", {"peft_version": "0.9", "task_type": "SEQ_2_SEQ_LM"})):
        write_weights(tmp_path / name, **extra)
        take_in(tmp_path / name, tmp_path / f"{name}-out", base_model)
    read = [(tmp_path / f"{n}-out" / "adapter_config.json").read_bytes() for n in ("one", "two")]
    assert read[0] == read[1]
    assert json.loads(read[0])["task_type"] is None
    weights = "adapter_model.safetensors"
    assert (tmp_path / "one" / weights).read_bytes() == (tmp_path / "one-out" / weights).read_bytes()


def test_ranks_and_scalings_of_single_modules_survive(tmp_path: Path, base_model: Path) -> None:
    tensors = {**lora_tensors(rank=2, modules=[Q_PROJ]), **lora_tensors(rank=4, modules=[FC1])}
    theirs = tmp_path / "theirs"
    write_safetensors(theirs / "adapter_model.safetensors", tensors)
    patterns = {"rank_pattern": {"fc1": 4}, "alpha_pattern": {"fc1": 2}}
    config = peft_config(rank=2, **patterns, target_modules=["fc1", "q_proj"])
    (theirs / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")
    artifact = take_in(theirs, tmp_path / "out", base_model)
    modules = {module.path: (module.rank, module.scaling) for module in artifact.manifest.lora[0].modules}
    assert modules == {Q_PROJ: (2, 2.0), FC1: (4, 0.5)}


def test_rank_stabilised_scaling_is_written_as_plain_alpha(tmp_path: Path, base_model: Path) -> None:
    write_weights(tmp_path / "theirs", rank=2, use_rslora=True, lora_alpha=4)
    artifact = take_in(tmp_path / "theirs", tmp_path / "out", base_model)
    assert artifact.manifest.lora[0].modules[0].scaling == pytest.approx(4 / math.sqrt(2))
    assert "use_rslora" not in json.loads((artifact.path / "adapter_config.json").read_bytes())


def rename_tensor(theirs: Path, old: str, new: str) -> None:
    path = theirs / "adapter_model.safetensors"
    raw = path.read_bytes()
    length = struct.unpack("<Q", raw[:8])[0]
    header = raw[8 : 8 + length].replace(old.encode(), new.encode())
    path.write_bytes(struct.pack("<Q", len(header)) + header + raw[8 + length :])


def configured(**changes: Any) -> Callable[[Path], None]:
    def change(theirs: Path) -> None:
        config = peft_config(**changes)
        (theirs / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")

    return change


def pickled(theirs: Path) -> None:
    (theirs / "adapter_model.safetensors").rename(theirs / "adapter_model.bin")


def without_config(theirs: Path) -> None:
    (theirs / "adapter_config.json").unlink()


def with_values(value: float, half: str) -> Callable[[Path], None]:
    def change(theirs: Path) -> None:
        tensors = {
            name: (shape, [value] * len(values) if half in name else values)
            for name, (shape, values) in lora_tensors().items()
        }
        write_safetensors(theirs / "adapter_model.safetensors", tensors)

    return change


def of_another_width(theirs: Path) -> None:
    tensors = {
        name: (tuple(2 * n if n == WIDTH else n for n in shape), [1.0] * 2 * len(values))
        for name, (shape, values) in lora_tensors().items()
    }
    write_safetensors(theirs / "adapter_model.safetensors", tensors)


def truncated(theirs: Path) -> None:
    path = theirs / "adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:-5])


REFUSED: dict[str, tuple[Callable[[Path], None], str]] = {
    "a pickle": (pickled, "no adapter_model.safetensors but adapter_model.bin, and pickles are never read"),
    "no config": (without_config, "no adapter_config.json; expected a LoRA as PEFT saves it"),
    "another kind of adapter": (configured(peft_type="IA3"), "peft_type is 'IA3', expected LORA"),
    "DoRA": (configured(use_dora=True), "use_dora is True: only plain LoRA on linears"),
    "biases": (configured(bias="all"), "bias is 'all', expected none"),
    "whole modules": (
        configured(modules_to_save=["proj_out"]),
        "modules_to_save has 'proj_out', .*: only plain",
    ),
    "an init that changes the base": (configured(init_lora_weights="pissa"), "init_lora_weights is 'pissa'"),
    "a feature of tomorrow": (configured(use_warp_drive=True), "use_warp_drive is True: only plain LoRA"),
    "a wrong rank": (configured(rank=5), "rank 2, adapter_config.json says 5"),
    "tensors without a target": (
        configured(target_modules=["q_proj"]),
        f"PEFT would leave 1 of 2 modules alone, which target_modules .* not name .{FC1}",
    ),
    "half a LoRA": (
        lambda theirs: rename_tensor(theirs, f"{FC1}.lora_B.weight", f"{FC1}.lora_C.weight"),
        f"unknown tensor 'base_model.model.{FC1}.lora_C.weight': not of a LoRA on a linear",
    ),
    "a module that the base lacks": (
        lambda theirs: (
            rename_tensor(theirs, FC1, "model.encoder.layers.9.fc1"),
            configured(target_modules=["q_proj", "fc1"])(theirs),
        )[0],
        "model.encoder.layers.9.fc1: the base model has no such linear",
    ),
    "another width": (of_another_width, r"made for a linear of \(8, 8\), the base model's is \(4, 4\)"),
    "NaN": (with_values(float("nan"), "lora_A"), "holds NaN or infinite values"),
    "no effect": (with_values(0.0, "lora_B"), "every update is zero"),
    "a truncated file": (truncated, "truncated or padded"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_refused_leaves_nothing_behind(what: str, tmp_path: Path, base_model: Path) -> None:
    damage, message = REFUSED[what]
    theirs = tmp_path / "theirs"
    write_weights(theirs)
    damage(theirs)
    with pytest.raises(AdapterHubError, match=message) as caught:
        take_in(theirs, tmp_path / "deep" / "out", base_model)
    assert "\n" not in str(caught.value)
    assert not list((tmp_path / "deep").rglob("*"))


def test_an_existing_folder_is_not_overwritten(tmp_path: Path, base_model: Path) -> None:
    write_weights(tmp_path / "theirs")
    (tmp_path / "out").mkdir()
    with pytest.raises(ConflictError, match="out: exists already"):
        take_in(tmp_path / "theirs", tmp_path / "out", base_model)


def test_a_base_model_that_is_not_here_is_named_with_the_command_that_gets_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(NotFoundError, match="`adapter-hub base-model fetch nobody/whisper-none`"):
        find_base_model("nobody/whisper-none")


def test_the_command_imports_and_says_how_to_go_on(
    tmp_path: Path, base_model: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    write_weights(tmp_path / "theirs")
    words = ["import", str(tmp_path / "theirs"), "--language", "da-DK", "--base-model", str(base_model)]
    out = str(tmp_path / "out")
    assert main([*words, "--as", "test/theirs@1.0.0", "--out", out, "--license", "MIT", "--json"]) == 0
    assert json.loads(capfd.readouterr().out)["ref"] == "test/theirs@1.0.0"
    language = Artifact.open(out).manifest.languages[0]
    assert (language.tag, language.decode_language) == ("da-DK", "da")
    assert main([*words, "--as", "test/theirs", "--out", out]) == 1
    assert "--as test/theirs: expected NAME@VERSION" in capfd.readouterr().err
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        assert main(words) == 0
        assert capfd.readouterr().out == "imported/theirs@1.0.0  theirs-adapter\n"
