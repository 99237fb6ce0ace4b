"""The trained Parakeet CTC of `trainers/makers/parakeet`, and synthesised digits for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import soundfile
from small_parakeet import skip_without_features

from adapter_hub.speech.audio import SAMPLE_RATE
from adapter_hub.trainers.makers.corpus.render import Words, render, write_folder
from adapter_hub.trainers.makers.parakeet.speech import SETTINGS, plan_digits

skip_without_features()
PARAKEET = Path(__file__).parent / "data" / "parakeet"
STYLE: dict[str, Any] = {**SETTINGS["speech"], "clean": 1.0}


def write_digits(folder: Path, language: str, split: str, count: int, *, longest: int = 4) -> Path:
    """Write a data set of digits without noise; no voice of a split is in another."""
    specs = plan_digits(language, split, count, STYLE | {"digits": [1, longest]})
    write_folder(specs, folder, progress=lambda *_: None)
    return folder


def spoken_digits(folder: Path, language: str, count: int) -> list[tuple[Path, str, Words]]:
    """Write clips of voices that no training heard; return each with its text and its words' times."""
    folder.mkdir(exist_ok=True)
    found = []
    for spec in plan_digits(language, "test", count, STYLE):
        samples, words = render(spec)
        soundfile.write(path := folder / f"{spec.id}.wav", samples, SAMPLE_RATE)
        found.append((path, spec.text, words))
    return found
