"""The settings of the paper: sizes, grids and margins, fixed in a file before anything is trained.

`settings.toml` is the miniature, `settings-paper.toml` the paper's size.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from adapter_hub.formats.canonical import Record, Text
from adapter_hub.trainers.recipe_tables import RandomSeed
from adapter_hub.trainers.reproduction.lora_whisper.systems import EXPANSION, SYSTEMS, TABLES
from adapter_hub.trainers.reproduction.paper import PaperSettings

FOLDER = Path(__file__).parent
Split = Literal["train", "dev", "test"]
SPLITS: tuple[Split, ...] = ("train", "dev", "test")

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
            raise ValueError(f"random_seeds: {twice[0]} occurs twice, but would be trained once")
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


class Settings(PaperSettings):
    """A whole reproduction."""

    base_model: Text
    base_model_revision: Text | None = None
    base_languages: Annotated[tuple[Text, ...], Field(min_length=1)]
    new_languages: Annotated[tuple[Text, ...], Field(min_length=1)]
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
            raise ValueError(f"rank_sweep.language: {self.rank_sweep.language!r} is not a base language")
        if self.lora.rank not in self.rank_sweep.ranks:
            raise ValueError(f"rank_sweep.ranks: lora.rank, {self.lora.rank}, is missing")
        if unknown := [number for number in self.tables if number not in TABLES]:
            raise ValueError(f"tables: {unknown[0]} is not one of {', '.join(map(str, TABLES))}")
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
        """Return how many utterances a split has; at full size about how many.

        Args:
            language: one of the settings'.
            split: of its data set.
        """
        if self.speech is not None:
            sizes = {"train": self.speech.train[language], "dev": self.speech.dev}
            return sizes[split] if split != "test" else self.speech.test[language]
        assert self.full_size is not None
        hours = self.full_size.hours if split == "train" else self.full_size.test_hours
        return round(3600 * hours[language] / self.full_size.utterance_seconds)

    def rates(self, system: str) -> tuple[float, ...]:
        """Return the grid of a system's peak learning rate.

        Args:
            system: E2 to E9.
        """
        key = "expansion" if system in EXPANSION else system
        rates: tuple[float, ...] = getattr(self.peak_learning_rates, key)
        return rates

    def epochs_of(self, system: str) -> int:
        """Return for how many epochs a system is trained.

        Args:
            system: E2 to E9.
        """
        if not SYSTEMS[system].expansion:
            return self.epochs.base
        return self.epochs.full_expansion if SYSTEMS[system].full else self.epochs.expansion


def paper_numbers() -> dict[str, Any]:
    """Return the numbers that the paper prints, see `paper.toml`."""
    return tomllib.loads((FOLDER / "paper.toml").read_text(encoding="utf-8"))
