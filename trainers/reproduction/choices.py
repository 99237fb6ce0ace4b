"""What a run learns on the way: the nearest base language of each new one, and the rate of each system.

A system's learning rate is the one with the smallest dev error, averaged over its languages as the paper
averages its tables; of equals, the smaller one. No test set takes part.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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
        averages: the average dev error of every rate, a fraction.
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

    def to_json(self) -> dict[str, Any]:
        """Return plain data, rates as text."""
        return {
            "rate": self.rate,
            "at_the_edge_of_the_grid": self.at_the_edge,
            "dev_average": {f"{rate:g}": round(value, 6) for rate, value in self.averages.items()},
            "dev": {f"{rate:g}": dict(values) for rate, values in self.dev.items()},
        }


def choose(system: str, dev: Mapping[float, Mapping[str, float]]) -> Choice:
    """Return the choice among rates by their dev errors (fractions) of each language.

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
            if system not in choices and all(cell.name in outcomes for cell in grid):
                choices[system] = choose(system, _dev(grid, outcomes))
                known.rates[system] = choices[system].rate
                news = True
        if not news:
            return known, choices, cells


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
        dev.setdefault(cell.work.rate, {}).update(outcomes[cell.name]["dev"])
    return dev
