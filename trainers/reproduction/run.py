"""The folder of a run: its settings, its finished cells, its choices, and how it was made.

    settings.toml  run.json  choices.json  cells/<cell>.json  recipes/  trained/  store/  registry.json
    evaluations/  speech/  logs/         README.md, results.json and plots: the report

A finished cell is one small file, written at once and named after the cell; its key is made of all that
decides the outcome, so that a cell whose inputs changed is run again and the others are kept.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from adapter_hub.errors import ConflictError, InvalidInputError, NotFoundError
from adapter_hub.files.writing import write_atomically
from adapter_hub.formats.canonical import sha256_hex
from adapter_hub.formats.times import utc_now
from adapter_hub.trainers.reproduction.cells import Cell, Outcome, Plan
from adapter_hub.trainers.reproduction.paper import Paper, text_of

FORMAT = 2  # of what a cell does; a change runs every cell again
CELL = ("name", "key", "finished", "seconds", "outcome")  # what a report asks a finished cell for
START = ("time", "command", "jobs", "machine", "python", "packages")  # and a start


@dataclass
class Run:
    """A folder of a reproduction, and what is finished in it.

    Attributes:
        folder: where everything is.
        paper: at the settings of the folder.
        tables: that the run is for.
        records: of finished cells, by name, whatever they were made from.
        plan: as it is now.
        outcomes: of the plan's finished cells, by name.
    """

    folder: Path
    paper: Paper
    tables: Sequence[int]
    records: dict[str, dict[str, Any]] = field(default_factory=dict)
    plan: Plan[Any] = field(default_factory=Plan)
    outcomes: dict[str, Outcome] = field(default_factory=dict)

    @classmethod
    def start(
        cls, paper: type[Paper], folder: Path, text: str, where: str, tables: Sequence[int] | None = None
    ) -> Run:
        """Begin a run of these settings, or go on with it.

        Args:
            paper: the paper.
            folder: new, or of a run with the same settings.
            text: the settings, TOML.
            where: what to call the text in errors.
            tables: some of the settings'; None for all.

        Raises:
            ConflictError: the folder is something else, or a run of other settings.
            InvalidInputError: wrong settings or tables, or a damaged file.
        """
        settings = paper.read(text, where).settings
        chosen_tables(settings.tables, tables)
        if (folder / "settings.toml").is_file():
            run = cls.open(paper, folder, tables)
            if run.paper.settings.to_bytes() != settings.to_bytes():
                raise ConflictError(
                    f"{folder}: a run of other settings ({run.paper.settings.name}) than {where}; "
                    "choose another --out, or remove it"
                )
            return run
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise ConflictError(f"{folder}: exists and is not a run of a reproduction; choose another --out")
        write_atomically(folder / "settings.toml", text.encode())
        return cls.open(paper, folder, tables)

    @classmethod
    def open(cls, paper: type[Paper], folder: Path, tables: Sequence[int] | None = None) -> Run:
        """Open a run with the cells that it has finished.

        Args:
            paper: the paper.
            folder: of the run.
            tables: some of the settings'; None for all.

        Raises:
            NotFoundError: no run is there. InvalidInputError: wrong tables, or a damaged file.
        """
        path = folder / "settings.toml"
        if not path.is_file():
            raise NotFoundError(f"{folder}: not a run of a reproduction; start one without --report-only")
        read = paper.read(text_of(path), str(path))
        run = cls(folder, read, chosen_tables(read.settings.tables, tables))
        for file in sorted((folder / "cells").glob("*.json")):
            record = _read(file)
            if not _has(record, CELL):
                raise InvalidInputError(f"{file}: not a record of a cell; remove it to run the cell again")
            run.records[record["name"]] = record
        run.look()
        return run

    def look(self) -> None:
        """Learn what follows from the finished cells, until nothing new does."""
        while True:
            self.plan = self.paper.plan(self.tables, self.outcomes)
            before = len(self.outcomes)
            for cell in self.plan.cells:
                record = self.records.get(cell.name)
                if record is None or cell.name in self.outcomes or not self.ready(cell):
                    continue
                if record["key"] == self.key(cell):
                    self.outcomes[cell.name] = record["outcome"]
            if len(self.outcomes) == before:
                return

    def ready(self, cell: Cell[Any]) -> bool:
        """Whether everything that a cell needs is there."""
        return self.plan.ready(cell, self.outcomes)

    def next(self, others: Collection[str]) -> Cell[Any] | None:
        """Return the first cell that can be run now, except some that failed or are being run."""
        return next((cell for cell in self.left(others) if self.ready(cell)), None)

    def left(self, others: Collection[str]) -> Iterator[Cell[Any]]:
        """Yield the cells that are not finished, except some."""
        done = self.outcomes
        return (cell for cell in self.plan.cells if cell.name not in done and cell.name not in others)

    def key(self, cell: Cell[Any]) -> str:
        """Return what identifies the outcome of a cell that is ready.

        That is its work, its recipe, and the keys of all that it needs; the folder keeps to its settings.
        """
        needs = {name: self.records[name]["key"] for name in sorted(cell.needs) if name in self.records}
        parts = [FORMAT, cell.name, cell.kind, asdict(cell.work), self.paper.recipe(cell), needs]
        return sha256_hex(json.dumps(parts, sort_keys=True, ensure_ascii=False).encode())

    def finish(self, cell: Cell[Any], seconds: float, outcome: Outcome) -> None:
        """Record that a cell, which was ready, is finished; `look` learns what follows.

        Args:
            cell: the cell.
            seconds: that it took.
            outcome: as JSON can hold it.
        """
        record = {
            "name": cell.name,
            "kind": cell.kind,
            "key": self.key(cell),
            "work": asdict(cell.work),
            "finished": utc_now(),
            "seconds": seconds,
            "outcome": outcome,
        }
        _write(self.folder / "cells" / f"{cell.slug}.json", record)
        self.records[cell.name] = record
        self.outcomes[cell.name] = outcome

    def note_choices(self) -> list[str]:
        """Write down the choices that have been made, with the time at which each was made.

        Returns:
            The names of those that were not written down yet, or not like this.

        Raises:
            InvalidInputError: the file is damaged.
        """
        path = self.folder / "choices.json"
        noted: Any = _read(path) if path.is_file() else {}
        if not isinstance(noted, dict) or not all(_has(value, ("chosen",)) for value in noted.values()):
            raise InvalidInputError(
                f"{path}: not a record of choices; remove it, and they are written down again, with new times"
            )
        made = {name: choice.to_json() for name, choice in sorted(self.plan.choices.items())}
        new = [
            n
            for n, value in made.items()
            if noted.get(n) != {**value, "chosen": noted.get(n, {}).get("chosen")}
        ]
        if new or not path.is_file():
            _write(path, noted | {name: {**made[name], "chosen": utc_now()} for name in new})
        return new

    def note_start(self, values: Mapping[str, Any]) -> None:
        """Append to the record of how this run was made.

        Args:
            values: what `START` lists, but for the time.

        Raises:
            InvalidInputError: the file is damaged.
        """
        starts = [*self.starts(), {**values, "time": utc_now()}]
        _write(self.folder / "run.json", {"schema": "reproduction/1", "starts": starts})

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
                f"{path}: not a record of how a run was started; remove it, and the report says less of it"
            )
        return starts


def chosen_tables(known: Sequence[int], wanted: Sequence[int] | None) -> tuple[int, ...]:
    """Return the tables of a run, sorted.

    Args:
        known: those of the settings.
        wanted: some of them; None for all.

    Raises:
        InvalidInputError: one that the paper does not have, or the settings leave out.
    """
    for number in wanted or ():
        if number not in known:
            others = ", ".join(map(str, sorted(set(known))))
            raise InvalidInputError(f"table {number}: cannot be reproduced; choose among {others}")
    return tuple(sorted(set(known if wanted is None else wanted)))


def _read(path: Path) -> Any:
    """Return what a file holds; None if it is not JSON."""
    try:
        return json.loads(path.read_bytes())
    except ValueError:
        return None


def _write(path: Path, value: Any) -> None:
    write_atomically(path, (json.dumps(value, ensure_ascii=False, indent=1, sort_keys=True) + "\n").encode())


def _has(value: object, keys: Sequence[str]) -> bool:
    return isinstance(value, dict) and all(key in value for key in keys)
