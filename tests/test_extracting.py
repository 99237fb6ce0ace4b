"""A full fine-tune becomes an adapter: what a LoRA holds of it is found, and the rest is reported."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from command_line import Run
from safetensors.torch import load_file, save_file

from adapter_hub import embedded
from adapter_hub.artifact.folder import Artifact
from adapter_hub.errors import InvalidInputError
from adapter_hub.exchange.importing import Identity
from adapter_hub.formats.manifest import Language
from adapter_hub.model.base_model import BaseModel, load_base_model
from adapter_hub.model.loading import load_adapter
from adapter_hub.trainers.averaging.adapters import factors_of
from adapter_hub.trainers.averaging.extracting import extract

BASE = embedded.base_model_path()
CHANGED = "model.decoder.layers.0.fc1"


@pytest.fixture(scope="module")
def base() -> BaseModel:
    return load_base_model(BASE)


def identity(base: BaseModel) -> Identity:
    tag = base.decode_languages[0]
    return Identity("test/extracted", "1.0.0", (Language(tag=tag, decode_language=tag),), "MIT")


def fine_tune(folder: Path, rank: int, **others: float) -> tuple[Path, torch.Tensor]:
    """Copy the embedded model with a change of one linear of a rank, and of whole tensors by a constant."""
    shutil.copytree(BASE, folder)
    tensors = {name: tensor.float() for name, tensor in load_file(folder / "model.safetensors").items()}
    generator = torch.Generator().manual_seed(0)
    rows, columns = tensors[f"{CHANGED}.weight"].shape
    left, right = (torch.randn(size, generator=generator) for size in ((rows, rank), (rank, columns)))
    tensors[f"{CHANGED}.weight"] += (change := 0.05 * left @ right)
    for name, value in others.items():
        tensors[name] += value
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder, change


def test_a_change_of_low_rank_is_extracted_whole(base: BaseModel, tmp_path: Path) -> None:
    folder, change = fine_tune(tmp_path / "full", 4)
    made, found = extract(base, folder, tmp_path / "out", identity(base), rank=4)
    adapter = load_adapter(base, made)
    assert torch.allclose(factors_of(adapter, CHANGED).dense(), change, atol=1e-5)
    assert not found.left_out
    assert found.logits_error < 1e-3


def test_what_no_lora_holds_is_reported(base: BaseModel, tmp_path: Path) -> None:
    folder, _ = fine_tune(tmp_path / "full", 4, **{"model.encoder.layer_norm.bias": 0.1})
    _, found = extract(base, folder, tmp_path / "out", identity(base), rank=2)
    assert list(found.left_out) == ["model.encoder.layer_norm.bias"]
    assert 0.0 < found.update.error < 1.0
    assert found.logits_error > 1e-3


def test_a_model_without_a_change_is_refused(base: BaseModel, tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="nothing to extract"):
        extract(base, BASE, tmp_path / "out", identity(base), rank=4)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("rank", "energy"), [(0, None), (None, 2.0), (None, None)])
def test_a_truncation_that_makes_no_sense_is_refused(
    rank: int | None, energy: float | None, base: BaseModel, tmp_path: Path
) -> None:
    with pytest.raises(InvalidInputError, match="expected"):
        extract(base, BASE, tmp_path / "out", identity(base), rank=rank, energy=energy)


def test_values_that_are_not_finite_are_refused(base: BaseModel, tmp_path: Path) -> None:
    folder, _ = fine_tune(tmp_path / "full", 4, **{"model.encoder.layer_norm.bias": float("nan")})
    with pytest.raises(InvalidInputError, match=r"layer_norm\.bias has values that are not finite"):
        extract(base, folder, tmp_path / "out", identity(base), rank=4)


def edited(folder: Path, name: str, **values: object) -> None:
    tree = json.loads((folder / name).read_text())
    (folder / name).write_text(json.dumps(tree | values))


def test_a_model_of_other_settings_is_refused_before_anything_is_computed(
    base: BaseModel, tmp_path: Path
) -> None:
    folder, _ = fine_tune(tmp_path / "full", 4)
    path = folder / "processor_config.json"
    path.write_text(path.read_text().replace('"padding_value": 0.0', '"padding_value": 0.5'))
    with pytest.raises(InvalidInputError, match="not a fine-tune of .*; it differs in its features"):
        extract(base, folder, tmp_path / "out", identity(base), rank=4)
    assert not (tmp_path / "out").exists()


def test_an_extracted_adapter_says_what_it_was_trained_for_and_is_published_like_any_other(
    run: Run, tmp_path: Path
) -> None:
    folder, _ = fine_tune(tmp_path / "full", 4)
    edited(folder, "generation_config.json", suppress_tokens=[1, 2])
    words = ["--base-model", BASE, "--language", "pl", "--license", "MIT", "--rank", "4", "--out", "out"]
    more = ["--task", "translate", "--author", "Ada", "--as", "test/extracted@1.0.0"]
    told = run("extract", folder, *words, *more)
    assert told.code == 0, told.err
    assert "generates by other settings" in told.err
    manifest = Artifact.open(tmp_path / "out").manifest
    assert (manifest.task, manifest.authors, manifest.method) == ("translate", ("Ada",), "imported")
    assert run("--store", "store", "publish", "out").code == 0
    audited = run("--store", "store", "audit", "test/extracted")
    assert audited.code == 0, audited.out
    assert run("extract", folder, *words, *more[:-1], "test/extracted").err.startswith("error: --as test/ext")


@pytest.mark.parametrize("content", ["version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "{"])
def test_a_file_that_is_no_weights_is_one_line(content: str, run: Run, tmp_path: Path) -> None:
    folder, _ = fine_tune(tmp_path / "full", 4)
    (folder / "model.safetensors").write_text(content)
    words = ["--base-model", BASE, "--language", "pl", "--license", "MIT", "--as", "test/x@1.0.0"]
    told = run("extract", folder, *words, "--rank", "2", "--out", "out")
    assert told.code == 1
    assert "model.safetensors" in told.err
    assert told.err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_the_command_extracts_and_tells_what_was_lost(run: Run, tmp_path: Path) -> None:
    folder, _ = fine_tune(tmp_path / "full", 4, **{"model.encoder.layer_norm.bias": 0.1})
    words = ["--base-model", BASE, "--language", "pl", "--license", "MIT", "--as", "test/extracted@1.0.0"]
    told = run("extract", folder, *words, "--rank", "2", "--out", "out")
    assert told.code == 0, told.err
    assert "model.encoder.layer_norm.bias" in told.out
    told = run("extract", folder, *words, "--energy", "0.99", "--out", "again", "--json")
    assert set(told.json["left_out"]) == {"model.encoder.layer_norm.bias"}
    assert run("extract", folder, *words, "--energy", "2", "--out", "third").code == 1
    assert run("extract", BASE, *words, "--rank", "2", "--out", "third").code == 1
