"""Values chosen by dev error, like learning rates: no test set takes part.

The chosen value is the one with the smallest error, averaged over languages; of equals, the smaller one. A
value at which a training diverged has an infinite error.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from statistics import fmean
from typing import Any


@dataclass(frozen=True)
class Choice:
    """The value that was chosen for a system, and by what.

    Attributes:
        system: what it was chosen for.
        rate: the chosen one.
        averages: the average dev error of every rate, a fraction; infinite where a training diverged.
        dev: the dev error of every rate and language.
        quantity: what a rate is a value of.
    """

    system: str
    rate: float
    averages: Mapping[float, float]
    dev: Mapping[float, Mapping[str, float]]
    quantity: str = "learning rate"

    @property
    def at_the_edge(self) -> bool:
        """Whether a wider grid might have held a better one."""
        return len(self.averages) > 1 and self.rate in (min(self.averages), max(self.averages))

    def tried(self, unit: str = "") -> str:
        """Return the rates with their average dev errors in per cent, in one line.

        Args:
            unit: after each error.
        """
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
    """Return the choice among rates.

    If every rate diverged, the average of the one that is returned is infinite, too.

    Args:
        system: what is chosen for.
        dev: the errors of each rate by language, fractions.

    >>> choose("E7", {1e-3: {"da": 0.3, "el": 0.2}, 2e-3: {"da": 0.25, "el": 0.2}}).rate
    0.002
    """
    averages = {rate: fmean(values.values()) for rate, values in sorted(dev.items())}
    return Choice(system, min(averages, key=lambda rate: (averages[rate], rate)), averages, dev)
