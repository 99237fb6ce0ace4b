"""The settings of a reproduction: sizes, grids and margins, fixed in a file before anything is trained.

    settings = parse_settings(settings_text("mini"), where="mini")
    settings.rates("E8"), settings.languages

A scale names a file in this package; `adapter-hub reproduce --settings FILE` takes another.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationError, model_validator

from adapter_hub.errors import InvalidInputError, NotFoundError
from adapter_hub.formats.canonical import Record, Text, explain, sha256_hex
from adapter_hub.trainers.recipe import RandomSeed

FOLDER = Path(__file__).parent / "lora_whisper"
FILES = {"mini": FOLDER / "settings.toml", "paper": FOLDER / "settings-paper.toml"}
TABLES = (2, 3, 4, 5)
EXPANSION = ("E7", "E8", "E9")
Split = Literal["train", "dev", "test"]
SPLITS: tuple[Split, ...] = ("train", "dev", "test")
FULL = ("E2", "E3", "E5", "E6")

Positive = Annotated[int, Field(ge=1)]
Rate = Annotated[float, Field(gt=0, le=1)]
Rates = Annotated[tuple[Rate, ...], Field(min_length=1)]


class SpeechSettings(Record):
    """Synthesised speech: utterances of each split."""

    random_seed: RandomSeed
    dev: Positive
    train: dict[str, Positive]
    test: dict[str, Positive]


class FullSizeSettings(Record):
    """Data sets, the LoRA's modules and precision by recipes; numbers to guess the time left from."""

    recipes: Text  # a folder of trainers/recipes
    test_split: Text
    hours: dict[str, Annotated[float, Field(gt=0)]]  # of training data
    test_hours: dict[str, Annotated[float, Field(gt=0)]]
    utterance_seconds: Annotated[float, Field(gt=0)]
    step_seconds: Annotated[float, Field(gt=0)]


class ReplaySettings(Record):
    """E6: hours of every base language that are trained on again."""

    hours: Annotated[float, Field(gt=0)]


class LoraSettings(Record):
    """The LoRA of E4 and E7 to E9."""

    rank: Positive
    dtype: Literal["float32", "float16", "bfloat16"]


class GateSettings(Record):
    """The gate of E9."""

    kind: Literal["token", "static"]


class TrainingSettings(Record):
    """What all trainings share."""

    batch_size: Positive
    warmup_share: Annotated[float, Field(ge=0, lt=1)]
    audio_length: Literal["batch", "chunk"]
    spec_augment: bool
    random_seeds: Annotated[tuple[RandomSeed, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        seeds = self.random_seeds
        if twice := [seed for place, seed in enumerate(seeds) if seed in seeds[:place]]:
            raise ValueError(f"random_seeds: {twice[0]} is there twice, but would be trained once")
        return self


class EpochSettings(Record):
    """Epochs of the base languages' systems, of E5 and E6, and of E7 to E9."""

    base: Positive
    full_expansion: Positive
    expansion: Positive


class RateSettings(Record):
    """Peak learning rates to try; E7, E8 and E9 have one grid."""

    E2: Rates
    E3: Rates
    E4: Rates
    E5: Rates
    E6: Rates
    expansion: Rates


class DecodingSettings(Record):
    """How dev and test sets are decoded."""

    dev_beams: Positive
    test_beams: Positive
    batch_size: Positive


class SimilaritySettings(Record):
    """Equation 4."""

    segments: Positive
    random_seed: RandomSeed


class RankSettings(Record):
    """Table 2."""

    language: Text
    ranks: Annotated[tuple[Positive, ...], Field(min_length=1)]


class StatisticsSettings(Record):
    """Intervals, the margin of equivalence (a fraction), and the proof of no forgetting."""

    resamples: Positive
    random_seed: RandomSeed
    equivalence_margin: Annotated[float, Field(gt=0, lt=1)]
    forgetting_utterances: Positive


class Settings(Record):
    """A whole reproduction."""

    name: Text
    base_model: Text
    base_model_revision: Text | None = None
    base_languages: Annotated[tuple[Text, ...], Field(min_length=1)]
    new_languages: Annotated[tuple[Text, ...], Field(min_length=1)]
    tables: tuple[int, ...]
    speech: SpeechSettings | None = None
    full_size: FullSizeSettings | None = None
    replay: ReplaySettings
    lora: LoraSettings
    gate: GateSettings
    training: TrainingSettings
    epochs: EpochSettings
    peak_learning_rates: RateSettings
    decoding: DecodingSettings
    similarity: SimilaritySettings
    rank_sweep: RankSettings
    statistics: StatisticsSettings

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if twice := set(self.base_languages) & set(self.new_languages):
            raise ValueError(f"{', '.join(sorted(twice))}: both a base and a new language")
        if (self.speech is None) == (self.full_size is None):
            raise ValueError("exactly one of [speech], to be synthesised, and [full_size] is needed")
        for where, known in self._sizes().items():
            if missing := [k for k in self.languages if k not in known]:
                raise ValueError(f"{where}: no number for {', '.join(missing)}")
        if self.rank_sweep.language not in self.base_languages:
            raise ValueError(f"rank_sweep.language: {self.rank_sweep.language!r} is no base language")
        if self.lora.rank not in self.rank_sweep.ranks:
            raise ValueError(f"rank_sweep.ranks: lora.rank, {self.lora.rank}, is missing")
        if unknown := [number for number in self.tables if number not in TABLES]:
            raise ValueError(f"tables: {unknown[0]} is none of {', '.join(map(str, TABLES))}")
        return self

    def _sizes(self) -> dict[str, Mapping[str, float]]:
        """Return the tables that name every language, by their keys."""
        if self.speech is not None:
            return {"speech.train": self.speech.train, "speech.test": self.speech.test}
        assert self.full_size is not None
        return {"full_size.hours": self.full_size.hours, "full_size.test_hours": self.full_size.test_hours}

    @property
    def languages(self) -> tuple[str, ...]:
        """The base languages, then the new ones."""
        return (*self.base_languages, *self.new_languages)

    @property
    def first_seed(self) -> int:
        """The random seed of the grids and of all that is trained once."""
        return self.training.random_seeds[0]

    def utterances(self, language: str, split: Split) -> int:
        """Return how many utterances a split has; at full size about how many."""
        if self.speech is not None:
            sizes = {"train": self.speech.train[language], "dev": self.speech.dev}
            return sizes[split] if split != "test" else self.speech.test[language]
        assert self.full_size is not None
        hours = self.full_size.hours if split == "train" else self.full_size.test_hours
        return round(3600 * hours[language] / self.full_size.utterance_seconds)

    def rates(self, system: str) -> tuple[float, ...]:
        """Return the grid of a system's peak learning rate."""
        key = "expansion" if system in EXPANSION else system
        rates: tuple[float, ...] = getattr(self.peak_learning_rates, key)
        return rates

    def epochs_of(self, system: str) -> int:
        """Return for how many epochs a system is trained."""
        if system in EXPANSION:
            return self.epochs.expansion
        return self.epochs.full_expansion if system in ("E5", "E6") else self.epochs.base


def settings_text(scale: str, explicit: Path | None = None) -> str:
    """Return the text of a settings file.

    Raises:
        NotFoundError: no such scale or file. InvalidInputError: not UTF-8.
    """
    path = explicit or FILES.get(scale)
    if path is None or not path.is_file():
        raise NotFoundError(
            f"{path or scale}: no settings of a reproduction; choose one of {', '.join(FILES)}"
        )
    return text_of(path)


def text_of(path: Path) -> str:
    """Return a file's text.

    Raises:
        InvalidInputError: not UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise InvalidInputError(f"{path}: not TOML: {error}") from None


def parse_settings(text: str, where: str) -> Settings:
    """Read settings.

    Raises:
        InvalidInputError: not TOML, or a key that is unknown, missing or out of range.
    """
    try:
        return Settings.model_validate(tomllib.loads(text), strict=False)
    except tomllib.TOMLDecodeError as error:
        raise InvalidInputError(f"{where}: not TOML: {error}") from None
    except ValidationError as error:
        raise InvalidInputError(f"{where}: {explain(error)}") from None


def settings_digest(settings: Settings) -> str:
    """Return the identity of settings: comments and layout do not count."""
    return sha256_hex(settings.to_bytes())


def paper_numbers() -> dict[str, Any]:
    """Return the numbers that the paper prints, see `lora_whisper/paper.toml`."""
    return tomllib.loads((FOLDER / "paper.toml").read_text(encoding="utf-8"))
