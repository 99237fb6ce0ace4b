"""The folder of a run: its settings, its finished cells, its choices, and how it was made.

    run.json  settings.toml  choices.json  cells/<cell>.json  recipes/  trained/  store/  registry.json
    evaluations/  speech/  logs/         README.md, results.json and plots: the report

A finished cell is one small file, written at once and named after the cell; its key is made of all that
decides the outcome, so that a cell whose inputs changed is run again and the others are kept.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from adapter_hub.errors import ConflictError, InvalidInputError, NotFoundError
from adapter_hub.files.writing import write_atomically
from adapter_hub.formats.canonical import sha256_hex
from adapter_hub.formats.times import utc_now
from adapter_hub.trainers.reproduction.cells import Cell
from adapter_hub.trainers.reproduction.choices import Choice
from adapter_hub.trainers.reproduction.settings import (
    Settings,
    parse_settings,
    settings_digest,
    text_of,
)

FORMAT = 1  # of what a cell does; a change runs every cell again
CELL = ("name", "key", "finished", "seconds", "outcome")  # what a report asks a finished cell for
START = ("time", "command", "jobs", "machine", "python", "packages")  # and a start


@dataclass
class Run:
    """A folder of a reproduction.

    Attributes:
        folder: where everything is.
        settings: read from its `settings.toml`.
        records: of finished cells, by name.
    """

    folder: Path
    settings: Settings
    records: dict[str, dict[str, Any]] = field(default_factory=dict)

    @classmethod
    def start(cls, folder: Path, text: str, where: str) -> Run:
        """Begin or go on with a run of these settings.

        Args:
            folder: new, or of a run with the same settings.
            text: the settings, TOML.
            where: what to call the text in errors.

        Raises:
            ConflictError: the folder is something else, or a run of other settings.
        """
        settings = parse_settings(text, where)
        if (folder / "settings.toml").is_file():
            run = cls.open(folder)
            if settings_digest(run.settings) != settings_digest(settings):
                raise ConflictError(
                    f"{folder}: a run of other settings ({run.settings.name}) than {where}; "
                    "choose another --out, or remove it"
                )
            return run
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise ConflictError(f"{folder}: exists and is no run of a reproduction; choose another --out")
        write_atomically(folder / "settings.toml", text.encode())
        return cls.open(folder)

    @classmethod
    def open(cls, folder: Path) -> Run:
        """Open a run with the cells that it has finished.

        Raises:
            NotFoundError: no run is there. InvalidInputError: a damaged file.
        """
        path = folder / "settings.toml"
        if not path.is_file():
            raise NotFoundError(f"{folder}: no run of a reproduction; start one without --report-only")
        settings = parse_settings(text_of(path), str(path))
        run = cls(folder, settings)
        for file in sorted((folder / "cells").glob("*.json")):
            record = _read(file)
            if not _has(record, CELL):
                raise InvalidInputError(f"{file}: no record of a cell; remove it to run it again")
            run.records[record["name"]] = record
        return run

    def key(self, cell: Cell, recipe: str | None) -> str:
        """Return what identifies a cell's outcome: its work, and the keys of all that it needs."""
        needs = {name: self.records[name]["key"] for name in sorted(cell.needs) if name in self.records}
        shared = self.settings.to_json()
        used = {
            "speech": ("speech",) if self.settings.full_size is None else ("full_size",),
            "similarity": ("similarity", "base_languages", "base_model"),
            "training": ("decoding", "base_model"),
            "test": ("decoding", "base_model"),
            "untouched": ("decoding", "statistics", "base_model"),
        }[cell.kind]
        parts = {"format": FORMAT, "kind": cell.kind, "name": cell.name, "work": cell.work.to_json()}
        settings = {name: shared[name] for name in used}
        return sha256_hex(
            json.dumps([parts, settings, needs, recipe], sort_keys=True, ensure_ascii=False).encode()
        )

    def finish(self, cell: Cell, key: str, seconds: float, outcome: Mapping[str, Any]) -> None:
        """Record that a cell is finished."""
        record = {
            "name": cell.name,
            "kind": cell.kind,
            "key": key,
            "work": cell.work.to_json(),
            "finished": utc_now(),
            "seconds": seconds,
            "outcome": dict(outcome),
        }
        content = json.dumps(record, ensure_ascii=False, indent=1, sort_keys=True) + "\n"
        write_atomically(self.folder / "cells" / f"{cell.slug}.json", content.encode())
        self.records[cell.name] = record

    def note_choices(self, choices: Mapping[str, Choice]) -> None:
        """Write down the chosen learning rates, with the time at which each was chosen.

        Raises:
            InvalidInputError: the file is damaged.
        """
        path = self.folder / "choices.json"
        noted: Any = _read(path) if path.is_file() else {}
        if not isinstance(noted, dict) or not all(_has(value, ("chosen",)) for value in noted.values()):
            raise InvalidInputError(
                f"{path}: no record of choices; remove it, and they are written down again, with new times"
            )
        news = {system: choice.to_json() for system, choice in choices.items()}
        for system, value in news.items():
            before = {k: v for k, v in noted.get(system, {}).items() if k != "chosen"}
            if before != value:
                noted[system] = {**value, "chosen": utc_now()}
        content = json.dumps(noted, indent=1, sort_keys=True) + "\n"
        if not path.is_file() or path.read_text(encoding="utf-8") != content:
            write_atomically(path, content.encode())

    def note_start(self, values: Mapping[str, Any]) -> None:
        """Append to the record of how this run was made.

        Raises:
            InvalidInputError: the file is damaged.
        """
        starts = [*self.starts(), {**values, "time": utc_now()}]
        record = {"schema": "reproduction/1", "starts": starts}
        path = self.folder / "run.json"
        write_atomically(path, (json.dumps(record, indent=1, sort_keys=True) + "\n").encode())

    def starts(self) -> list[dict[str, Any]]:
        """Return how and when this run was started, every time.

        Raises:
            InvalidInputError: the file is damaged.
        """
        path = self.folder / "run.json"
        record = _read(path) if path.is_file() else {"starts": []}
        starts = record["starts"] if _has(record, ("starts",)) else None
        if not isinstance(starts, list) or not all(_has(start, START) for start in starts):
            raise InvalidInputError(
                f"{path}: no record of how a run was started; remove it, and the report says less of it"
            )
        return starts


def _read(path: Path) -> Any:
    """Return what a file holds; None if it is no JSON."""
    try:
        return json.loads(path.read_bytes())
    except ValueError:
        return None


def _has(value: object, keys: Sequence[str]) -> bool:
    return isinstance(value, dict) and all(key in value for key in keys)
