"""Folders that are not a usable Whisper: refused when loaded, in one line, before anything is computed."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file
from small_whisper import make_base_model

from adapter_hub.errors import AdapterHubError
from adapter_hub.model.base_model import load_base_model

FIELDS = ("config.json", "generation_config.json", "processor_config.json", "tokenizer.json")
CASES: list[tuple[str, str, Any]] = [
    ("processor_config.json", "feature_extractor.hop_length", 200),
    ("processor_config.json", "feature_extractor.n_fft", 401),
    ("processor_config.json", "feature_extractor.chunk_length", 10**7),
    ("processor_config.json", "feature_extractor.feature_size", 81),
    ("processor_config.json", "feature_extractor", "x"),
    ("generation_config.json", "suppress_tokens", [10**6]),
    ("generation_config.json", "begin_suppress_tokens", [-2]),
    ("generation_config.json", "no_timestamps_token_id", -1),
    ("generation_config.json", "max_length", "x"),
    ("generation_config.json", "decoder_start_token_id", -1),
    ("generation_config.json", "alignment_heads", [[-1, 0]]),
    ("config.json", "d_model", 10**9),
    ("config.json", "vocab_size", 10**10),
    ("config.json", "decoder_layers", 10**6),
    ("config.json", "decoder_layers", 3),
    ("config.json", "encoder_layers", None),
    ("config.json", "num_mel_bins", [1]),
    ("config.json", "dropout", -1),
    ("tokenizer.json", "model", 1.5),
    ("tokenizer.json", "added_tokens", {"a": 1}),
    ("tokenizer.json", "model.vocab", {}),
]


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_base_model(tmp_path_factory.mktemp("sound") / "model")


def changed(sound: Path, folder: Path, name: str, key: str, value: Any) -> Path:
    shutil.copytree(sound, folder)
    whole = json.loads((folder / name).read_bytes())
    *outer, last = key.split(".")
    place = whole
    for step in outer:
        place = place[step]
    place[last] = value
    (folder / name).write_text(json.dumps(whole))
    return folder


@pytest.mark.parametrize(("name", "key", "value"), CASES, ids=lambda value: str(value)[:30])
def test_a_setting_that_cannot_be_is_one_line(
    name: str, key: str, value: Any, sound: Path, tmp_path: Path
) -> None:
    folder = changed(sound, tmp_path / "bad", name, key, value)
    with pytest.raises(AdapterHubError, match=str(folder)) as caught:
        load_base_model(folder, device="cpu", cache=tmp_path / "cache")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 1000


UNUSABLE = {
    "decoder_layers 1000, expected 1 to 256": ("config.json", "decoder_layers", 1000),
    "median_filter_width 8, expected an odd number": ("config.json", "median_filter_width", 8),
    "dropout -1, expected 0 to 1": ("config.json", "dropout", -1),
    "eos_token_id 7 in config.json, 275 in generation_config.json": ("config.json", "eos_token_id", 7),
    "max_length 0, expected at least 1": ("generation_config.json", "max_length", 0),
    "is_multilingual 3, expected true or false": ("generation_config.json", "is_multilingual", 3),
    "lang_to_id {'pl': 3}, expected names like": ("generation_config.json", "lang_to_id", {"pl": 3}),
    "task_to_id {'sing': 3}, expected an id": ("generation_config.json", "task_to_id", {"sing": 3}),
    "n_fft 512 of the feature extractor, expected 400": (
        "processor_config.json",
        "feature_extractor.n_fft",
        512,
    ),
}


@pytest.mark.parametrize("message", UNUSABLE)
def test_a_model_that_cannot_be_computed_with_is_refused_before_it_is_built(
    message: str, sound: Path, tmp_path: Path
) -> None:
    name, key, value = UNUSABLE[message]
    folder = changed(sound, tmp_path / "bad", name, key, value)
    with pytest.raises(AdapterHubError, match=f"bad: not .*: {re.escape(message)}"):
        load_base_model(folder, device="cpu", cache=tmp_path / "cache")


@pytest.mark.parametrize("name", FIELDS)
@pytest.mark.parametrize("content", [b"", b"[]", b"\xff", b"[" * 10_000, b'{"a": NaN}'], ids=str)
def test_garbage_in_any_file_is_one_line(content: bytes, name: str, sound: Path, tmp_path: Path) -> None:
    folder = tmp_path / "bad"
    shutil.copytree(sound, folder)
    (folder / name).write_bytes(content)
    with pytest.raises(AdapterHubError, match="bad") as caught:
        load_base_model(folder, device="cpu", cache=tmp_path / "cache")
    assert "\n" not in str(caught.value)


def test_weights_that_are_missing_are_not_drawn_at_random(sound: Path, tmp_path: Path) -> None:
    folder = tmp_path / "bad"
    shutil.copytree(sound, folder)
    weights = load_file(folder / "model.safetensors")
    del weights["model.decoder.layers.0.fc1.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(
        AdapterHubError,
        match=r"bad: not the weights of its config.json: 1 missing: model.decoder.layers.0.fc1.weight",
    ):
        load_base_model(folder, device="cpu", cache=tmp_path / "cache")
