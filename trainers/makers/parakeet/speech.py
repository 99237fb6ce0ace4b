"""What the small Parakeet hears: one to a few digits in one of the corpus's languages, in its voices."""

from __future__ import annotations

import random
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from adapter_hub.trainers.makers.corpus.numbers import spell
from adapter_hub.trainers.makers.corpus.plan import UtteranceSpec
from adapter_hub.trainers.makers.corpus.voices import espeak_voice, voices_of

SETTINGS: Mapping[str, Any] = tomllib.loads(
    Path(__file__).with_name("settings.toml").read_text(encoding="utf-8")
)


def plan_digits(language: str, split: str, count: int, style: Mapping[str, Any]) -> list[UtteranceSpec]:
    """Return the first utterances of a split; no voice speaks in two.

    Args:
        language: one of the corpus's; it should be written in the letters a to z.
        split: `pretraining`, `adaptation`, `dev` or `test`.
        count: of utterances.
        style: how it is spoken: the table `speech` of settings.toml, or another like it.
    """
    rng = random.Random(f"{style['random_seed']} {language} {split}")
    return [_draw(language, split, number, style, rng) for number in range(count)]


def _draw(
    language: str, split: str, number: int, style: Mapping[str, Any], rng: random.Random
) -> UtteranceSpec:
    digits = tuple(rng.randrange(10) for _ in range(rng.randint(*style["digits"])))
    noisy = rng.random() >= style["clean"]
    return UtteranceSpec(
        id=f"{language}-{split}-{number:05d}",
        language=language,
        split=split,
        numbers=digits,
        text=" ".join(spell(digit, language) for digit in digits),
        voice=espeak_voice(language, rng.choice(voices_of(split))),
        rate=rng.randint(*style["rate"]),
        pitch=rng.randint(*style["pitch"]),
        pitch_range=rng.randint(*style["pitch_range"]),
        snr_db=round(rng.uniform(*style["snr_db"]), 2) if noisy else None,
        noise=rng.choice(style["noise"]),
        gain_db=round(rng.uniform(*style["gain_db"]), 2),
        seed=rng.getrandbits(31),
    )
