"""The settings of the paper: domains, sizes and grids, fixed in a file before anything is trained.

`settings.toml` is the miniature on synthesised speech; `settings-real.toml` a real Whisper on recordings at
hand, `settings-paper.toml` the paper's size: both name their sets by folders below `data`.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from adapter_hub.formats.canonical import Record, Text
from adapter_hub.trainers.recipe_tables import RandomSeed
from adapter_hub.trainers.reproduction.paper import PaperSettings

FOLDER = Path(__file__).parent
TABLES = (1, 2, 3, 4, 5, 6, 7, 8)
DOMAINS = ("noisy", "accent", "phrases", "fast")  # V, C, J, G of the paper's tables
THREE = ("fast", "accent", "noisy")  # S, C, D of its table VI
ORIGINAL = ("clean", "other")
DEV = ("dev-clean", "dev-other")  # the same of other utterances, for choices

Positive = Annotated[int, Field(ge=1)]
Rate = Annotated[float, Field(gt=0, le=1)]


class OriginalSettings(Record):
    """Speech as the base model knows it: utterances of each set, `dev` in each of its dev sets.

    With `folders` the sets are recordings, and the numbers the most that are taken of each.
    """

    random_seed: RandomSeed
    dev: Positive
    clean: Positive
    other: Positive
    folders: dict[str, Text] = {}

    @model_validator(mode="after")
    def _known(self) -> Self:
        if self.folders and (not self.folders.keys() >= set(ORIGINAL) or not self.folders.keys() & set(DEV)):
            raise ValueError(f"folders: expected {', '.join(ORIGINAL)}, and one or both of {', '.join(DEV)}")
        if unknown := self.folders.keys() - set(DEV) - set(ORIGINAL):
            raise ValueError(f"folders: {min(unknown)!r} is not one of {', '.join((*DEV, *ORIGINAL))}")
        return self

    @property
    def dev_sets(self) -> tuple[str, ...]:
        """Those of `DEV` that there are."""
        return tuple(name for name in DEV if not self.folders or name in self.folders)


class DomainSettings(Record):
    """A domain: utterances, and what makes its speech differ from the original one.

    Without a folder it is synthesised. With one, its splits are recordings, the numbers the most that are
    taken of each; `every` takes every so manieth utterance, counted from the first number on, and `noise` is
    a folder of recordings that are mixed in.
    """

    train: Positive
    test: Positive
    random_seed: RandomSeed
    title: Text | None = None
    folder: Text | None = None
    every: tuple[Annotated[int, Field(ge=0)], Positive] | None = None
    noise: Text | None = None
    snr_db: tuple[float, float] | None = None
    rate: tuple[Positive, Positive] | None = None
    pitch_range: tuple[Positive, Positive] | None = None
    voice: Text | None = None
    phrases: tuple[Text, ...] = ()

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        synthetic = any((self.rate, self.pitch_range, self.voice, self.phrases))
        if self.folder is None and (self.every or self.noise):
            raise ValueError("every, noise: are for a domain with a folder")
        if self.folder is not None and synthetic:
            raise ValueError(
                "rate, pitch_range, voice, phrases: are for synthesised speech, without a folder"
            )
        if self.noise is not None and self.snr_db is None:
            raise ValueError("snr_db: missing, but noise is to be mixed in")
        return self


class TrainingSettings(Record):
    """What all trainings share, and the rates and decays of tables I and II."""

    batch_size: Positive
    audio_length: Literal["batch", "chunk"] = "batch"
    precision: Literal["float32", "bfloat16"] = "float32"
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


class EffortSettings(Record):
    """About how many seconds things take, for the time left: any cell, a step, a tested utterance."""

    cell: Annotated[float, Field(gt=0)] = 6.0
    step: Annotated[float, Field(gt=0)] = 0.5
    utterance: Annotated[float, Field(gt=0)] = 0.08


class StatisticsSettings(Record):
    """Of the intervals."""

    resamples: Positive
    random_seed: RandomSeed


class Settings(PaperSettings):
    """A whole reproduction.

    `base_model` is an id or a folder, its encoder's input cut to `encoder_seconds` if they are given; `data`
    the folder that folders of domains are in; `rounds` how often experts are trained and averaged.
    """

    base_model: Text
    base_model_revision: Text | None = None
    encoder_seconds: Positive | None = None
    data: Text | None = None
    language: Text
    rounds: Annotated[int, Field(ge=2, le=3)] = 3
    original: OriginalSettings
    domains: dict[str, DomainSettings]
    training: TrainingSettings
    growth: GrowthSettings
    decoding: DecodingSettings
    statistics: StatisticsSettings
    effort: EffortSettings = EffortSettings()

    @model_validator(mode="before")
    @classmethod
    def _complete(cls, found: Any) -> Any:
        if isinstance(found, dict) and "base_model" not in found:
            raise ValueError("base_model: missing; give --base-model FOLDER")
        return found

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if unknown_domains := self.domains.keys() - set(DOMAINS):
            raise ValueError(f"domains: {min(unknown_domains)!r} is not one of {', '.join(DOMAINS)}")
        if missing := [name for name in THREE if name not in self.domains]:
            raise ValueError(f"domains: {missing[0]} is missing")
        if self.data and not self.original.folders:
            raise ValueError("data: is for recordings, but speech is synthesised; leave --data out")
        folders = [bool(self.original.folders), *(bool(domain.folder) for domain in self.domains.values())]
        if any(folders) and not self.data:
            raise ValueError("data: missing; give --data FOLDER")
        if any(folders) != all(folders):
            raise ValueError("folders: the original domain and all others have one, or none has")
        if unknown := [number for number in self.tables if number not in TABLES]:
            raise ValueError(f"tables: {unknown[0]} is not one of {', '.join(map(str, TABLES))}")
        return self

    @property
    def names(self) -> tuple[str, ...]:
        """The domains, in the order in which one model learns them after the other."""
        return tuple(name for name in DOMAINS if name in self.domains)

    @property
    def sets(self) -> tuple[str, ...]:
        """The test sets: of the domains, then of the original one."""
        return (*self.names, *ORIGINAL)

    def rows(self, table: int) -> dict[str, str]:
        """Return the rows of a table, each with its name in `paper.toml`; those that need more are left out.

        Args:
            table: its number.
        """
        found = {}
        for printed in paper_numbers().get(f"table{table}", {}):
            row = printed.replace("aode-3-original", f"aode-{self.rounds}-original")
            lacks_domain = any(row.endswith(f"-{name}") for name in DOMAINS if name not in self.domains)
            if printed != "columns" and not lacks_domain and (row != "aode-3" or self.rounds == 3):
                found[row] = printed
        return found


def paper_numbers() -> dict[str, Any]:
    """Return the numbers that the paper prints, see `paper.toml`."""
    return tomllib.loads((FOLDER / "paper.toml").read_text(encoding="utf-8"))
