"""The settings of the paper: domains, sizes and grids, fixed in a file before anything is trained."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from adapter_hub.formats.canonical import Record, Text
from adapter_hub.trainers.recipe import RandomSeed
from adapter_hub.trainers.reproduction.paper import PaperSettings

FOLDER = Path(__file__).parent
TABLES = (1, 2, 3, 4, 5, 6, 7, 8)
DOMAINS = ("noisy", "accent", "phrases", "fast")  # V, C, J, G of the paper's tables
THREE = ("fast", "accent", "noisy")  # S, C, D of its table VI
ORIGINAL = ("clean", "other")
DEV = ("dev-clean", "dev-other")  # the same of other utterances, for choices
SETS = (*DOMAINS, *ORIGINAL)

Positive = Annotated[int, Field(ge=1)]
Rate = Annotated[float, Field(gt=0, le=1)]


class OriginalSettings(Record):
    """Speech as the base model knows it: utterances of each set, `dev` in both of its dev sets."""

    random_seed: RandomSeed
    dev: Positive
    clean: Positive
    other: Positive


class DomainSettings(Record):
    """A domain of synthesised speech: utterances, and what makes it differ from the original one."""

    train: Positive
    test: Positive
    random_seed: RandomSeed
    snr_db: tuple[float, float] | None = None
    rate: tuple[Positive, Positive] | None = None
    pitch_range: tuple[Positive, Positive] | None = None
    voice: Text | None = None
    phrases: tuple[Text, ...] = ()


class TrainingSettings(Record):
    """What all trainings share, and the rates and decays of tables I and II."""

    batch_size: Positive
    peak_share: Annotated[float, Field(ge=0, lt=1)]
    layer_decay: Rate
    layer_decays: Annotated[tuple[Rate, ...], Field(min_length=1)]
    peak_learning_rate: Rate
    low_learning_rate: Rate
    lora_learning_rate: Rate
    lora_rank: Positive
    random_seeds: Annotated[tuple[RandomSeed, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        if len(set(self.random_seeds)) < len(self.random_seeds):
            raise ValueError("random_seeds: one occurs twice, but would be trained once")
        if self.layer_decay not in self.layer_decays:
            raise ValueError(f"layer_decays: layer_decay, {self.layer_decay:g}, is missing")
        return self


class GrowthSettings(Record):
    """Steps that are tried until the original domain is worse by a share."""

    steps: Annotated[tuple[Positive, ...], Field(min_length=1)]
    forgetting: Annotated[float, Field(gt=0)]

    @model_validator(mode="after")
    def _growing(self) -> Self:
        if list(self.steps) != sorted(set(self.steps)):
            raise ValueError("steps: expected growing numbers")
        return self


class DecodingSettings(Record):
    """How dev and test sets are decoded."""

    beams: Positive
    batch_size: Positive


class StatisticsSettings(Record):
    """Of the intervals."""

    resamples: Positive
    random_seed: RandomSeed


class Settings(PaperSettings):
    """A whole reproduction."""

    base_model: Text
    language: Text
    original: OriginalSettings
    domains: dict[str, DomainSettings]
    training: TrainingSettings
    growth: GrowthSettings
    decoding: DecodingSettings
    statistics: StatisticsSettings

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if set(self.domains) != set(DOMAINS):
            raise ValueError(f"domains: expected {', '.join(DOMAINS)}, found {', '.join(self.domains)}")
        if unknown := [number for number in self.tables if number not in TABLES]:
            raise ValueError(f"tables: {unknown[0]} is not one of {', '.join(map(str, TABLES))}")
        return self


def paper_numbers() -> dict[str, Any]:
    """Return the numbers that the paper prints, see `paper.toml`."""
    return tomllib.loads((FOLDER / "paper.toml").read_text(encoding="utf-8"))
