"""The digest of a base model: the same for a re-saved or re-sharded copy, another for other weights."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file
from transformers import WhisperForConditionalGeneration

from adapter_hub.base_model.digest import base_model_digest, stamped_digest, weight_files
from adapter_hub.errors import NotFoundError
from adapter_hub.model.base_model import BaseModel, load_base_model


@pytest.fixture
def resharded(base_folder: Path, tmp_path: Path) -> Path:
    """Return a copy that transformers saved again, in many files."""
    folder = tmp_path / "resharded"
    shutil.copytree(base_folder, folder)
    (folder / "model.safetensors").unlink()
    model = WhisperForConditionalGeneration.from_pretrained(base_folder)
    model.save_pretrained(folder, max_shard_size="50KB")
    return folder


def test_a_resharded_copy_is_the_same_base_model(base: BaseModel, resharded: Path) -> None:
    assert len(weight_files(resharded)) > 2
    assert base_model_digest(resharded) == base.digest
    assert load_base_model(resharded, device="cpu").digest == base.digest


def test_weights_of_another_precision_beside_it_do_not_count(
    base: BaseModel, base_folder: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "two"
    shutil.copytree(base_folder, folder)
    shutil.copy(folder / "model.safetensors", folder / "model.fp32-00001-of-00002.safetensors")
    assert base_model_digest(folder) == base.digest


def test_a_missing_shard_is_named(resharded: Path) -> None:
    shard = weight_files(resharded)[1]
    shard.unlink()
    with pytest.raises(NotFoundError, match=f"model.safetensors.index.json names {shard.name}"):
        base_model_digest(resharded)


def test_one_changed_value_in_one_shard_is_another_base_model(
    base: BaseModel, resharded: Path, tmp_path: Path
) -> None:
    assert stamped_digest(resharded, tmp_path / "stamps") == base.digest
    shard = weight_files(resharded)[0]
    tensors = load_file(shard)
    next(iter(tensors.values())).view(-1)[0] += 1
    save_file(tensors, shard, metadata={"format": "pt"})
    assert stamped_digest(resharded, tmp_path / "stamps") != base.digest
