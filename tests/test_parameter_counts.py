"""Table 2 of LoRA-Whisper: the trained parameters of every rank, on the shape of whisper-small."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from making import manifest_fields
from safetensors.torch import save_file
from transformers import WhisperConfig, WhisperForConditionalGeneration

from adapter_hub.artifact.folder import Artifact, seal
from adapter_hub.formats.manifest import BaseModelPin
from adapter_hub.trainers.methods.injection import export_config, inject_lora
from adapter_hub.trainers.methods.table import make_trainable
from adapter_hub.trainers.recipe_tables import Recipe


def whisper_small() -> Any:
    """Return the shape without memory: 12 + 12 layers of width 768, feed-forward 3072."""
    config = WhisperConfig(
        d_model=768,
        encoder_layers=12,
        decoder_layers=12,
        encoder_attention_heads=12,
        decoder_attention_heads=12,
        encoder_ffn_dim=3072,
        decoder_ffn_dim=3072,
    )
    with torch.device("meta"):
        return WhisperForConditionalGeneration(config).requires_grad_(requires_grad=False)


def small_recipe(method: str, **tables: Any) -> Recipe:
    adapter = {"name": "me/da", "version": "1.0.0", "method": method, "language": "da", "license": "MIT"}
    return Recipe.model_validate({"adapter": adapter, "data": {"train": "x"}, **tables}, strict=False)


def trained(model: Any) -> int:
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


@pytest.mark.parametrize(
    ("rank", "millions", "exactly"),
    [
        (8, 3.2, 3_244_032),
        (16, 6.5, 6_488_064),
        (32, 13.0, 12_976_128),
        (48, 19.5, 19_464_192),
        (64, 26.0, 25_952_256),
    ],
)
def test_the_default_modules_give_the_papers_table_2(rank: int, millions: float, exactly: int) -> None:
    trainable = make_trainable(whisper_small(), small_recipe("lora", lora={"rank": rank}), {})
    assert trained(trainable.model) == exactly
    assert round(exactly / 1e6, 1) == millions


def test_a_pair_trains_the_child_and_its_gate(tmp_path: Path) -> None:
    parent = one_rank_parent(tmp_path / "parent")
    gates = {"token": 2 * (144 + 24) * 768 + 2 * 24 * 3072 + 192 * 2, "static": 192 * 2}
    for kind, size in gates.items():
        recipe = small_recipe("expert-pair", expert={"adapter": "me/pl"}, gate={"kind": kind})
        trainable = make_trainable(whisper_small(), recipe, {"expert": parent})
        assert trained(trainable.model) == 12_976_128 + size
    assert gates["token"] / 12_976_128 == pytest.approx(0.031, abs=0.001)


def test_a_full_fine_tune_trains_all_but_the_encoders_sines() -> None:
    recipe = Recipe.model_validate(
        {
            "adapter": {"name": "me/all", "version": "1.0.0", "method": "full-fine-tuning", "license": "MIT"},
            "data": {"train": "x"},
        },
        strict=False,
    )
    trainable = make_trainable(whisper_small(), recipe, {})
    everything = sum(p.numel() for p in trainable.model.parameters())
    assert trained(trainable.model) == everything - 1500 * 768 == 240_582_912


def one_rank_parent(folder: Path) -> Artifact:
    """Return an adapter of rank 1 on every linear of the shape."""
    recipe = small_recipe("lora", lora={"rank": 1})
    model = inject_lora(whisper_small(), recipe)
    tensors = {
        name.replace(".default", ""): torch.ones(p.shape)
        for name, p in model.named_parameters()
        if p.requires_grad
    }
    pin = BaseModelPin.model_validate(manifest_fields()["base_model"])
    folder.mkdir()
    save_file(tensors, folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text(json.dumps(export_config(recipe, tensors, pin)))
    return seal(folder, manifest_fields("me/pl"))
