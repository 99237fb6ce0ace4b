"""What a run learns on the way: the nearest base language of each new one, and the rate of each system.

A system's learning rate is the one with the smallest dev error, averaged over its languages as the paper
averages its tables; of equals, the smaller one. A rate at which a training diverged has an infinite error.
No test set takes part.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf, isfinite
from statistics import fmean
from typing import Any

from adapter_hub.trainers.reproduction.cells import Cell, Known
from adapter_hub.trainers.reproduction.plan import plan
from adapter_hub.trainers.reproduction.settings import Settings


@dataclass(frozen=True)
class Choice:
    """The learning rate of a system, and what it was chosen by.

    Attributes:
        system: E2 to E9.
        rate: the chosen one.
        averages: the average dev error of every rate, a fraction; infinite where a training diverged.
        dev: the dev error of every rate and language.
    """

    system: str
    rate: float
    averages: Mapping[float, float]
    dev: Mapping[float, Mapping[str, float]]

    @property
    def at_the_edge(self) -> bool:
        """Whether a wider grid might have held a better one."""
        return len(self.averages) > 1 and self.rate in (min(self.averages), max(self.averages))

    def tried(self, unit: str = "") -> str:
        """Return the rates with their average dev errors in per cent, in one line."""
        return ", ".join(
            f"{rate:g}: {100 * value:.2f}{unit}" if isfinite(value) else f"{rate:g}: diverged"
            for rate, value in self.averages.items()
        )

    def to_json(self) -> dict[str, Any]:
        """Return plain data, rates as text; null for the error of a training that diverged."""
        return {
            "rate": self.rate,
            "at_the_edge_of_the_grid": self.at_the_edge,
            "dev_average": {f"{rate:g}": _number(round(value, 6)) for rate, value in self.averages.items()},
            "dev": {
                f"{rate:g}": {language: _number(value) for language, value in values.items()}
                for rate, values in self.dev.items()
            },
        }


def _number(value: float) -> float | None:
    """Return what JSON can hold."""
    return value if isfinite(value) else None


def choose(system: str, dev: Mapping[float, Mapping[str, float]]) -> Choice:
    """Return the choice among rates by their dev errors (fractions) of each language.

    If every rate diverged, the average of the one that is returned is infinite, too.

    >>> choose("E7", {1e-3: {"da": 0.3, "el": 0.2}, 2e-3: {"da": 0.25, "el": 0.2}}).rate
    0.002
    """
    averages = {rate: fmean(values.values()) for rate, values in sorted(dev.items())}
    return Choice(system, min(averages, key=lambda rate: (averages[rate], rate)), averages, dev)


def learn(
    settings: Settings, tables: Sequence[int], outcomes: Mapping[str, Mapping[str, Any]]
) -> tuple[Known, dict[str, Choice], list[Cell]]:
    """Return what follows from the outcomes of finished cells, and the plan as it is then.

    Args:
        settings: of the run.
        tables: of the run.
        outcomes: by the name of the cell.
    """
    known, choices = Known(), dict[str, Choice]()
    while True:
        cells = plan(settings, tables, known)
        news = False
        for language in settings.new_languages:
            found = outcomes.get(f"similarity/{language}")
            if found is not None and language not in known.nearest:
                known.nearest[language] = found["nearest"]
                news = True
        for system, grid in _grids(cells).items():
            if system in choices or not _finished(grid, outcomes):
                continue
            choice = choose(system, _dev(grid, outcomes))
            if isfinite(choice.averages[choice.rate]):
                choices[system] = choice
                known.rates[system] = choice.rate
                news = True
        if not news:
            return known, choices, cells


def without_choice(
    cells: Sequence[Cell], choices: Mapping[str, Choice], outcomes: Mapping[str, Mapping[str, Any]]
) -> list[str]:
    """Return the systems whose grid is finished and holds no rate that can be chosen: all diverged."""
    grids = _grids(cells)
    return [s for s, grid in grids.items() if s not in choices and _finished(grid, outcomes)]


def _finished(grid: Sequence[Cell], outcomes: Mapping[str, object]) -> bool:
    return all(cell.name in outcomes for cell in grid)


def _grids(cells: Sequence[Cell]) -> dict[str, list[Cell]]:
    """Return the trainings of every system's grid: those with a dev set to be chosen by."""
    grids: dict[str, list[Cell]] = {}
    for cell in cells:
        if cell.kind == "training" and cell.work.dev:
            grids.setdefault(cell.work.system, []).append(cell)
    return grids


def _dev(grid: Sequence[Cell], outcomes: Mapping[str, Mapping[str, Any]]) -> dict[float, dict[str, float]]:
    dev: dict[float, dict[str, float]] = {}
    for cell in grid:
        assert cell.work.rate is not None
        outcome = outcomes[cell.name]
        found = dict.fromkeys(cell.work.dev, inf) if outcome.get("diverged") else outcome["dev"]
        dev.setdefault(cell.work.rate, {}).update(found)
    return dev
