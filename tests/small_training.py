"""A small data set, recipes for the small Whisper, and places to train in."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from small_whisper import write_speech

from adapter_hub.registry.file import FileRegistry
from adapter_hub.stores.cache import Cache

WORDS = ["nul", "en", "to", "tre", "fire", "fem"]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A Danish data set of twelve clips, with a dev split of four."""
    for split, count in (("train", 12), ("dev", 4)):
        folder = tmp_path / "data" / split
        folder.mkdir(parents=True)
        rows = []
        for i in range(count):
            write_speech(folder / f"{i}.wav", seconds=0.5 + 0.1 * i, seed=i)
            rows.append({"file_name": f"{i}.wav", "text": WORDS[i % 6], "speaker": f"{split}{i % 3}"})
        (folder / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path / "data"


def recipe(
    folder: Path,
    base_folder: Path,
    *,
    extra: str = "",
    training: Mapping[str, str | None] | None = None,
    **changes: Any,
) -> Path:
    """Write a recipe for the small base model.

    Args:
        folder: of the recipe.
        base_folder: of the base model.
        extra: tables.
        training: keys of `[training]` with their TOML; None leaves a key out.
        changes: of what is named in the code below.
    """
    settings = {"method": '"lora"', "rank": 4, "dtype": '"float16"', "epochs": 2, "rate": 5e-3} | changes
    table: dict[str, str | None] = {
        "epochs": str(settings["epochs"]),
        "batch_size": "4",
        "peak_learning_rate": str(settings["rate"]),
        "spec_augment": "true",
        "audio_length": '"batch"',
    }
    table |= training or {}
    lines = "".join(f"{key} = {value}\n" for key, value in table.items() if value is not None)
    path = folder / "recipe.toml"
    path.write_text(
        f"""
[adapter]
name = "small/da"
version = "1.0.0"
method = {settings["method"]}
language = "da"
license = "MIT"
[base_model]
id = "{base_folder}"
{extra}
[data]
train = "data/train"
dev = "data/dev"
[lora]
rank = {settings["rank"]}
dtype = {settings["dtype"]}
[training]
{lines}"""
    )
    return path


def places(folder: Path) -> dict[str, Any]:
    """Return where a test trains: its own registry and cache."""
    return {
        "registries": (FileRegistry(folder / "registry.json"),),
        "cache": Cache(folder / "cache"),
        "device": "cpu",
    }
