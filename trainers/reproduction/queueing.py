"""Running the cells of a plan: in order, several at a time, each as soon as what it needs is there.

A cell that fails is reported and the run goes on; what depends on it is named at the end. Nothing finished
is done again by the next run.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from adapter_hub.reporting import Tell
from adapter_hub.trainers.reproduction.cells import CHOICE, Cell, Known
from adapter_hub.trainers.reproduction.choices import Choice, learn, without_choice
from adapter_hub.trainers.reproduction.crew import Crew, Report
from adapter_hub.trainers.reproduction.full_size import full_size_recipe
from adapter_hub.trainers.reproduction.recipes import parent_training, recipe_text
from adapter_hub.trainers.reproduction.run import Run


@dataclass
class Queue:
    """The state of a run.

    Attributes:
        run: its folder.
        tables: which tables it is for.
        tell: receives lines of progress.
        stop_after: seconds after which no further cell is begun; None for no limit.
    """

    run: Run
    tables: Sequence[int]
    tell: Tell
    stop_after: float | None = None
    cells: list[Cell] = field(default_factory=list)
    known: Known = field(default_factory=Known)
    choices: dict[str, Choice] = field(default_factory=dict)
    finished: dict[str, Any] = field(default_factory=dict)  # outcomes of cells whose key agrees
    failed: dict[str, str] = field(default_factory=dict)
    _began: float = field(default_factory=time.monotonic)
    _spent: float = 0.0  # seconds of the cells that were run now
    _estimated: float = 0.0  # of the same cells, before

    def work_through(self, crew: Crew) -> None:
        """Run every cell that can be run."""
        self.look()
        self.tell(f"{len(self.finished)} of {len(self.cells)} cells are finished")
        busy: dict[int, tuple[Cell, str]] = {}
        while True:
            for worker in (n for n in range(1, crew.size + 1) if n not in busy):
                cell = self._next({c.name for c, _ in busy.values()})
                if cell is None:
                    break
                recipe = self.recipe(cell)
                busy[worker] = cell, self.run.key(cell, recipe)
                crew.give(worker, cell, recipe)
            if not busy:
                return
            report = crew.reports.get()
            cell, key = busy.pop(report.worker)
            self._take(report, key, crew.size)

    def look(self) -> None:
        """Learn what follows from the finished cells, and write down what was chosen."""
        self.gather()
        self.run.note_choices(self.choices)

    def gather(self) -> None:
        """Learn what follows from the finished cells, until nothing new does; nothing is written."""
        while True:
            before = set(self.choices)
            self.known, self.choices, self.cells = learn(self.run.settings, self.tables, self.finished)
            for system in sorted(set(self.choices) - before):
                self.tell(_chosen(self.choices[system]))
            news = False
            for cell in self.cells:
                record = self.run.records.get(cell.name)
                if record is None or cell.name in self.finished or not self.ready(cell):
                    continue
                if record["key"] == self.run.key(cell, self.recipe(cell)):
                    self.finished[cell.name] = record["outcome"]
                    news = True
            if not news:
                return

    def recipe(self, cell: Cell) -> str | None:
        """Return the recipe of a training whose needs are there; None for other cells."""
        if cell.kind != "training":
            return None
        write = recipe_text if self.run.settings.full_size is None else full_size_recipe
        return write(self.run.settings, cell, parent_training(cell))

    def left(self) -> Iterator[tuple[Cell, str]]:
        """Yield the cells that did not run, each with the reason."""
        for cell in self.cells:
            if cell.name in self.failed:
                yield cell, self.failed[cell.name]
            elif cell.name not in self.finished:
                missing = [n for n in cell.needs if not self._there(n)]
                yield cell, f"needs {', '.join(missing)}" if missing else "not begun"

    def hopeless(self) -> list[str]:
        """Return the systems of which every learning rate diverged."""
        return without_choice(self.cells, self.choices, self.finished)

    def _there(self, need: str) -> bool:
        if need.startswith(CHOICE):
            return need.removeprefix(CHOICE) in self.choices
        return need in self.finished

    def ready(self, cell: Cell) -> bool:
        """Whether everything that a cell needs is there."""
        return all(map(self._there, cell.needs)) and "?" not in cell.name

    def _next(self, busy: set[str]) -> Cell | None:
        if self.stop_after is not None and time.monotonic() - self._began > self.stop_after:
            return None
        for cell in self.cells:
            waits = cell.name not in self.finished and cell.name not in self.failed
            if waits and cell.name not in busy and self.ready(cell):
                return cell
        return None

    def _take(self, report: Report, key: str, workers: int) -> None:
        cell = report.cell
        if report.outcome is None:
            self.failed[cell.name] = report.error
            self.tell(f"failed: {cell.name}: {report.error}")
            return
        self.run.finish(cell, key, report.seconds, report.outcome)
        self.finished[cell.name] = report.outcome
        self._spent += report.seconds
        self._estimated += cell.effort
        self.look()
        left = sum(c.effort for c in self.cells if c.name not in self.finished and c.name not in self.failed)
        left *= self._spent / max(self._estimated, 1e-9) / workers
        place = f"[{len(self.finished)}/{len(self.cells)}]"
        said = _said(report.outcome)
        self.tell(f"{place} {cell.name}  {report.seconds:.0f} s{said}  {_clock(left)} left")


def _chosen(choice: Choice) -> str:
    return f"learning rate of {choice.system}: {choice.rate:g} (on dev {choice.tried(' %')})"


def _said(outcome: dict[str, Any]) -> str:
    """Return what a cell found, in a few words."""
    if outcome.get("diverged"):
        return "  diverged"
    if outcome.get("dev"):
        dev = outcome["dev"]
        return "  dev " + " ".join(f"{language} {100 * dev[language]:.1f} %" for language in dev)
    if "value" in outcome:
        return f"  {outcome['metric'].upper()} {100 * outcome['value']:.1f} %"
    if "nearest" in outcome:
        return f"  nearest: {outcome['nearest']}"
    return ""


def _clock(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{minutes // 60}:{minutes % 60:02d} h"
