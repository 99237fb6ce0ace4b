"""What the engine asks a paper for: its settings, its cells, how one is done, and the report."""

from __future__ import annotations

import json
import re
import tomllib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self, TypeVar

from pydantic import Field, ValidationError

from adapter_hub.errors import InvalidInputError, NotFoundError
from adapter_hub.formats.canonical import Record, Text, explain
from adapter_hub.reporting import Tell
from adapter_hub.trainers.reproduction import PAPERS
from adapter_hub.trainers.reproduction.cells import Cell, Outcome, Outcomes, Plan, slug_of

if TYPE_CHECKING:
    from adapter_hub.trainers.reproduction.run import Run

SettingsT = TypeVar("SettingsT", bound="PaperSettings")


class PaperSettings(Record):
    """What the settings of every paper say: sizes, grids and margins, fixed before anything is trained."""

    name: Text
    tables: Annotated[tuple[int, ...], Field(min_length=1)]


@dataclass(frozen=True)
class Workplace:
    """The folder of a run, as a worker sees it.

    Attributes:
        folder: of the run.
        device: torch's name; None for a GPU if there is one.
        tell: receives lines of progress.
    """

    folder: Path
    device: str | None
    tell: Tell

    @property
    def cache(self) -> Path:
        """Where pulled adapters and remembered digests are."""
        return self.folder / "cache"

    def trained(self, training: str) -> Path:
        """Return what a training cell makes: an artifact, or a Whisper folder."""
        return self.folder / "trained" / slug_of(training)


class Paper(ABC):
    """A paper at given settings."""

    scales: ClassVar[Mapping[str, Path]]  # settings files that come with it
    settings: PaperSettings

    @classmethod
    @abstractmethod
    def read(cls, text: str, where: str) -> Self:
        """Return the paper at these settings.

        Args:
            text: TOML.
            where: what to call the text in errors.

        Raises:
            InvalidInputError: not TOML, or a key that is unknown, missing or out of range.
        """

    @abstractmethod
    def plan(self, tables: Sequence[int], outcomes: Outcomes) -> Plan[Any]:
        """Return the cells of some tables, with what follows from the outcomes of finished ones.

        Args:
            tables: some of the settings'.
            outcomes: of finished cells; those that are not in the plan do not count.
        """

    def recipe(self, cell: Cell[Any]) -> str | None:
        """Return the recipe by which a cell that is ready trains; None if it trains nothing."""
        return None

    @abstractmethod
    def do(self, place: Workplace, cell: Cell[Any], recipe: str | None) -> Outcome:
        """Do a cell's work, in a worker process, and return what is to be remembered of it.

        Args:
            place: the run's folder and device.
            cell: whose needs are finished.
            recipe: what `recipe` returned.
        """

    def summary(self, outcome: Outcome) -> str:
        """Return what a cell found in a few words, for the line of progress."""
        return ""

    @abstractmethod
    def report(self, run: Run, tell: Tell) -> Path:
        """Write the report of a run into its folder; return its page.

        Args:
            run: opened.
            tell: receives lines about what could not be written.
        """


def paper_class(name: str) -> type[Paper]:
    """Return the class of a paper, by its name in `PAPERS`.

    Args:
        name: as on the command line.

    Raises:
        NotFoundError: no such paper.
    """
    if name not in PAPERS:
        raise NotFoundError(f"{name}: not a paper that can be reproduced; choose one of {', '.join(PAPERS)}")
    module, _, attribute = PAPERS[name].partition(":")
    found: type[Paper] = getattr(import_module(module), attribute)
    return found


def settings_text(paper: type[Paper], scale: str, explicit: Path | None = None) -> str:
    """Return the text of a paper's settings file.

    Args:
        paper: the paper.
        scale: one of its scales.
        explicit: another file instead.

    Raises:
        NotFoundError: no such scale or file. InvalidInputError: not UTF-8.
    """
    path = explicit or paper.scales.get(scale)
    if path is None or not path.is_file():
        raise NotFoundError(
            f"{path or scale}: no settings of a reproduction; choose one of {', '.join(paper.scales)}"
        )
    return text_of(path)


def completed(text: str, values: Mapping[str, str], where: str) -> str:
    """Return settings with values that they leave open.

    Args:
        text: TOML.
        values: by their keys, which stand before all tables.
        where: what to call the text in errors.

    Raises:
        InvalidInputError: a key has a value already.
    """
    for key in values:
        if re.search(rf"^{key}\s*=", text, re.MULTILINE):
            option = key.replace("_", "-")
            raise InvalidInputError(f"{where}: {key} is decided there; leave --{option} out")
    # what JSON and TOML write alike
    return "".join(f"{key} = {json.dumps(value)}\n" for key, value in values.items()) + text


def text_of(path: Path) -> str:
    """Return a settings file's text.

    Args:
        path: of a file that exists.

    Raises:
        InvalidInputError: not UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise InvalidInputError(f"{path}: not TOML: {error}") from None


def parse_settings(record: type[SettingsT], text: str, where: str) -> SettingsT:
    """Read settings.

    Args:
        record: what they have to be.
        text: TOML.
        where: what to call the text in errors.

    Raises:
        InvalidInputError: not TOML, or a key that is unknown, missing or out of range.
    """
    try:
        return record.model_validate(tomllib.loads(text), strict=False)
    except tomllib.TOMLDecodeError as error:
        raise InvalidInputError(f"{where}: not TOML: {error}") from None
    except ValidationError as error:
        raise InvalidInputError(f"{where}: {explain(error)}") from None
