"""Parakeet CTC as a base model's files: its digest, what is refused, and averages of full models."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from small_parakeet import save_small_parakeet
from transformers import ParakeetForCTC

from adapter_hub.base_model.digest import base_model_digest, linear_shapes
from adapter_hub.base_model.families import PARAKEET, family_of
from adapter_hub.errors import InvalidInputError
from adapter_hub.trainers.averaging.full_models import ModelComponent, average_models


@pytest.fixture(scope="module")
def parakeet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_small_parakeet(tmp_path_factory.mktemp("parakeet") / "model")


@pytest.fixture
def copied(parakeet: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(parakeet, tmp_path / "copy"))


def edit(path: Path, change: Callable[[Any], object]) -> None:
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))


def test_its_family_is_told_from_the_configuration(parakeet: Path) -> None:
    assert family_of(parakeet) == PARAKEET


def test_a_model_that_is_saved_again_has_the_same_digest(parakeet: Path, copied: Path) -> None:
    ParakeetForCTC.from_pretrained(parakeet).save_pretrained(copied)
    edit(copied / "config.json", lambda value: value["encoder_config"].pop("scale_input"))  # its default
    edit(copied / "config.json", lambda value: value["encoder_config"].update(dropout=0.0, layerdrop=0.0))
    assert base_model_digest(copied) == base_model_digest(parakeet)


@pytest.mark.parametrize(
    ("file", "change"),
    [
        ("config.json", lambda value: value.update(pad_token_id=3)),
        ("config.json", lambda value: value["encoder_config"].update(scale_input=False)),
        ("processor_config.json", lambda value: value["feature_extractor"].update(preemphasis=0.9)),
        ("processor_config.json", lambda value: value["feature_extractor"].update(hop_length=200)),
        ("tokenizer.json", lambda value: value["model"]["vocab"].update(a=3, b=2)),
        ("tokenizer.json", lambda value: value.pop("decoder")),
    ],
)
def test_what_decides_the_text_decides_the_digest(
    file: str, change: Callable[[Any], object], parakeet: Path, copied: Path
) -> None:
    edit(copied / file, change)
    assert base_model_digest(copied) != base_model_digest(parakeet)


def test_running_statistics_are_part_of_the_digest(parakeet: Path, copied: Path) -> None:
    tensors = load_file(copied / "model.safetensors")
    tensors["encoder.layers.0.conv.norm.running_var"] *= 1.01
    save_file(tensors, copied / "model.safetensors", metadata={"format": "pt"})
    assert base_model_digest(copied) != base_model_digest(parakeet)


@pytest.mark.parametrize(
    ("file", "change", "said"),
    [
        ("config.json", lambda value: value.update(pad_token_id=30), "the blank"),
        ("config.json", lambda value: value["encoder_config"].update(hidden_size=33), "hidden_size 33"),
        ("config.json", lambda value: value["encoder_config"].update(subsampling_factor=6), "a power of 2"),
        ("config.json", lambda value: value["encoder_config"].update(conv_kernel_size=8), "an odd number"),
        ("config.json", lambda value: value["encoder_config"].update(num_hidden_layers=10**6), "num_hidden"),
        ("config.json", lambda value: value["encoder_config"].update(dropout=7), "expected 0 to 1"),
        ("config.json", lambda value: value.update(encoder_config="big"), "expected an object"),
        (
            "config.json",
            lambda value: value.update(vocab_size=30, quantization_config={"bits": 4}),
            "quantized",
        ),
        (
            "processor_config.json",
            lambda value: value["feature_extractor"].update(feature_size=80),
            "takes 16",
        ),
        (
            "processor_config.json",
            lambda value: value["feature_extractor"].update(sampling_rate=8000),
            "8000",
        ),
        (
            "processor_config.json",
            lambda value: value["feature_extractor"].update(preemphasis="no"),
            "a number",
        ),
        ("tokenizer.json", lambda value: value["model"].pop("vocab"), "without a vocabulary"),
        ("tokenizer.json", lambda value: value["model"]["vocab"].update(more=30), "31 tokens"),
    ],
)
def test_values_that_cannot_be_are_refused(
    file: str, change: Callable[[Any], object], said: str, copied: Path
) -> None:
    edit(copied / file, change)
    with pytest.raises(InvalidInputError, match=said):
        base_model_digest(copied)


def test_a_convolution_over_single_positions_is_a_linear_and_no_other_is(parakeet: Path) -> None:
    shapes = linear_shapes(parakeet)
    assert shapes["encoder.layers.0.conv.pointwise_conv1"] == (64, 32, 1)
    assert shapes["encoder.layers.0.self_attn.relative_k_proj"] == (32, 32)
    assert "encoder.layers.0.conv.depthwise_conv" not in shapes


def test_an_average_has_the_mean_of_running_statistics_and_the_largest_counter(
    parakeet: Path, tmp_path: Path
) -> None:
    other = save_small_parakeet(tmp_path / "other", seed=5)
    average_models([ModelComponent(parakeet, 0.5), ModelComponent(other, 0.5)], out=tmp_path / "mean")
    one, two, mean = (load_file(f / "model.safetensors") for f in (parakeet, other, tmp_path / "mean"))
    for name in ("running_mean", "running_var", "weight"):
        name = f"encoder.layers.1.conv.norm.{name}"
        assert torch.allclose(mean[name], (one[name] + two[name]) / 2, atol=1e-7)
    assert mean["encoder.layers.1.conv.norm.num_batches_tracked"] == 15
    ParakeetForCTC.from_pretrained(tmp_path / "mean")


def test_a_parakeet_and_another_vocabulary_are_not_averaged(
    parakeet: Path, copied: Path, tmp_path: Path
) -> None:
    edit(copied / "tokenizer.json", lambda value: value["model"]["vocab"].update(a=3, b=2))
    with pytest.raises(InvalidInputError, match="differ in their tokenizer"):
        average_models([ModelComponent(parakeet, 0.5), ModelComponent(copied, 0.5)], out=tmp_path / "mean")
