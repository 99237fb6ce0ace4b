"""What is said, by whom, and how: the plan of a split, decided by language, split, count and seed alone.

Three things keep the splits apart: voices (`voices`), number ranges (`split_of`) and transcripts (`allowed`,
`numbers.is_unambiguous`). A longer plan begins with the shorter one.
"""

from __future__ import annotations

import functools
import hashlib
import random
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from adapter_hub.errors import InvalidInputError
from adapter_hub.trainers.makers.corpus.numbers import LARGEST, SPELLERS, is_unambiguous, spell
from adapter_hub.trainers.makers.corpus.voices import espeak_voice, voices_of

SETTINGS: Mapping[str, Any] = tomllib.loads(
    Path(__file__).with_name("settings.toml").read_text(encoding="utf-8")
)
SPLITS = ("pretraining", "adaptation", "dev", "test", "pretraining-test")
BASIC = 100
"""Numbers below it are the basic words of a language, and belong to no split but pretraining."""


@dataclass(frozen=True)
class UtteranceSpec:
    """Everything that decides the sound of an utterance."""

    id: str
    language: str
    split: str
    numbers: tuple[int, ...]
    text: str
    voice: str
    rate: int
    pitch: int
    pitch_range: int
    snr_db: float | None
    """None: no noise."""
    noise: str
    gain_db: float
    seed: int

    @property
    def speaker(self) -> str:
        """The espeak-ng variant that speaks."""
        return self.voice.partition("+")[2]


def split_of(number: int) -> str:
    """The split that owns a number: its whole decade, from 100 on."""
    if not 0 <= number <= LARGEST:
        raise InvalidInputError(f"{number} is out of range: the corpus has numbers from 0 to {LARGEST}")
    if number < BASIC:
        return "pretraining"
    drawn = _fraction("decade", number // 10)
    for split, share in SETTINGS["numbers"]["share"].items():
        drawn -= share
        if drawn < 0:
            return str(split)
    return "test"  # only a rounding error of the shares gets here


def allowed(numbers: Sequence[int], split: str) -> bool:
    """Whether an utterance of these numbers may belong to the split.

    Basic numbers alone are for pretraining, apart from a hashed share of their sequences, which is
    `pretraining-test`'s; elsewhere they accompany a number of the split's own.

    Args:
        numbers: of the utterance.
        split: one of `SPLITS`.
    """
    owner = "dev" if split == "pretraining-test" else split
    large = [number for number in numbers if number >= BASIC]
    if large:
        return all(split_of(number) == owner for number in large)
    held_out = len(numbers) > 1 and _fraction("basics", *numbers) < SETTINGS["numbers"]["held_out_basics"]
    return split == ("pretraining-test" if held_out else "pretraining")


def plan(language: str, split: str, count: int, seed: int) -> list[UtteranceSpec]:
    """The first `count` utterances of a split.

    Args:
        language: one of `numbers.LANGUAGES`.
        split: one of `SPLITS`.
        count: of utterances.
        seed: of the plan.
    """
    if language not in SPELLERS:
        raise InvalidInputError(
            f"no corpus in language {language!r}: choose one of {', '.join(sorted(SPELLERS))}"
        )
    if split not in SPLITS:
        raise InvalidInputError(f"no split {split!r}: choose one of {', '.join(SPLITS)}")
    specs: list[UtteranceSpec] = []
    taken: set[str] = set()
    for index in range(count):
        for attempt in range(SETTINGS["limits"]["attempts"]):
            spec = _draw(language, split, index, _generator(seed, language, split, index, attempt))
            if spec.text not in taken:
                break
        taken.add(spec.text)
        specs.append(spec)
    return specs


def estimated_seconds(text: str, language: str, rate: int) -> float:
    """About how long the text takes, before it is synthesised.

    Args:
        text: the transcript.
        language: one of `numbers.LANGUAGES`.
        rate: words per minute.
    """
    fit = SETTINGS["duration"][language]
    return float(
        (fit["start"] + fit["per_letter"] * len(text)) * SETTINGS["duration"]["reference_rate"] / rate
    )


def shortened(spec: UtteranceSpec) -> UtteranceSpec:
    """The same utterance without one of its numbers, for one that turned out too long."""
    for left_out in reversed(range(len(spec.numbers))):
        numbers = spec.numbers[:left_out] + spec.numbers[left_out + 1 :]
        if numbers and allowed(numbers, spec.split) and is_unambiguous(numbers, spec.language):
            return replace(spec, numbers=numbers, text=_transcript(numbers, spec.language))
    raise InvalidInputError(f"{spec.id} cannot be shortened: {spec.text!r}")


def _transcript(numbers: Sequence[int], language: str) -> str:
    return " ".join(spell(number, language) for number in numbers)


def _draw(language: str, split: str, index: int, generator: random.Random) -> UtteranceSpec:
    style = SETTINGS["pretraining" if split.startswith("pretraining") else "harder"]
    variants = voices_of(split)
    variant = variants[int(generator.random() * len(variants))]
    rate = _whole(style["rate"], generator)
    numbers = _draw_numbers(language, split, rate, style, generator)
    text = _transcript(numbers, language)
    clean = generator.random() < style["clean"]
    snr_db = round(_between(style["snr_db"], generator), 2)
    return UtteranceSpec(
        id=f"{language}-{split}-{index:06d}",
        language=language,
        split=split,
        numbers=numbers,
        text=text,
        voice=espeak_voice(language, variant),
        rate=rate,
        pitch=_whole(style["pitch"], generator),
        pitch_range=_whole(style["pitch_range"], generator),
        snr_db=None if clean else snr_db,
        noise=_choice(SETTINGS["noise"]["colours"], generator),
        gain_db=round(_between(style["gain_db"], generator), 2),
        seed=generator.getrandbits(31),
    )


def _draw_numbers(
    language: str, split: str, rate: int, style: Mapping[str, Any], generator: random.Random
) -> tuple[int, ...]:
    owner = "dev" if split == "pretraining-test" else split
    while True:
        wanted = int(_choice(style["count"], generator))
        numbers = []
        for _ in range(wanted):
            pool = _pool(owner, _choice(style["size"], generator))
            numbers.append(pool[int(generator.random() * len(pool))])
        while (
            len(numbers) > 1
            and estimated_seconds(_transcript(numbers, language), language, rate)
            > SETTINGS["limits"]["estimated_seconds"]
        ):
            numbers.pop()
        drawn = tuple(numbers)
        if allowed(drawn, split) and is_unambiguous(drawn, language):
            return drawn


@functools.cache
def _pool(owner: str, size: str) -> tuple[int, ...]:
    """The numbers of one size that a split may say."""
    first, end = {"basic": (0, BASIC), "hundreds": (BASIC, 1000), "thousands": (1000, LARGEST + 1)}[size]
    return tuple(number for number in range(first, end) if number < BASIC or split_of(number) == owner)


def _digest(*parts: object) -> int:
    text = "/".join(map(str, (SETTINGS["numbers"]["salt"], *parts)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


def _fraction(*parts: object) -> float:
    return _digest(*parts) / 2**64


def _generator(*parts: object) -> random.Random:
    # one generator per utterance, so that a plan does not depend on how many utterances come after
    return random.Random(_digest("utterance", *parts))


def _between(ends: Sequence[float], generator: random.Random) -> float:
    return ends[0] + (ends[1] - ends[0]) * generator.random()


def _whole(ends: Sequence[int], generator: random.Random) -> int:
    return ends[0] + int((ends[1] - ends[0] + 1) * generator.random())


def _choice(chances: dict[str, float], generator: random.Random) -> str:
    drawn = generator.random() * sum(chances.values())
    for name, chance in chances.items():
        drawn -= chance
        if drawn < 0:
            return name
    return next(reversed(chances))  # only a rounding error of the chances gets here
