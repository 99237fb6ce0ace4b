"""Cells: the pieces of a reproduction that are run, finished and kept one by one.

A cell is one training, one evaluation or one measurement. It runs when everything that it needs is there:
other cells, and choices, which follow from finished cells.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from adapter_hub.trainers.reproduction.choices import Choice

CHOICE = "choice:"  # a need: the choice of this name is made
Outcome = dict[str, Any]  # what a finished cell found, as JSON holds it
Outcomes = Mapping[str, Outcome]  # by the name of the cell
NAMESPACE, VERSION = "reproduction", "1.0.0"  # of the adapters that trainings make
WorkT = TypeVar("WorkT")


@dataclass(frozen=True)
class Cell(Generic[WorkT]):
    """A piece of work.

    Attributes:
        name: unique, like `E8/da/from-pl/rate-2e-3/seed-1`; with a `?` while something in it is not known.
        kind: what is done.
        work: with what: a dataclass of the paper's own, of plain values.
        needs: names of cells, and choices (`choice:E8`), that come before it.
        effort: about how many seconds it takes, for the time left.
    """

    name: str
    kind: str
    work: WorkT
    needs: tuple[str, ...] = ()
    effort: float = 1.0

    @property
    def slug(self) -> str:
        """The name as a file or an adapter may have it."""
        return slug_of(self.name)


@dataclass(frozen=True)
class Plan(Generic[WorkT]):
    """The cells of some tables, as far as they are known.

    Attributes:
        cells: in the order in which they run. Their number does not change from plan to plan.
        choices: that have been made, by name.
        hopeless: why the rest cannot be done, in one line, like that every value tried for a choice diverged.
    """

    cells: Sequence[Cell[WorkT]] = ()
    choices: Mapping[str, Choice] = field(default_factory=dict)
    hopeless: str = ""

    def missing(self, cell: Cell[WorkT], outcomes: Outcomes) -> list[str]:
        """Return which of a cell's needs are not there.

        Args:
            cell: of the plan.
            outcomes: of finished cells.
        """
        chosen = {CHOICE + name for name in self.choices}
        return [need for need in cell.needs if need not in outcomes and need not in chosen]

    def ready(self, cell: Cell[WorkT], outcomes: Outcomes) -> bool:
        """Whether everything that a cell needs is known and there.

        Args:
            cell: of the plan.
            outcomes: of finished cells.
        """
        return "?" not in cell.name and not self.missing(cell, outcomes)


def slug_of(name: str) -> str:
    """Return lower-case letters, digits and single hyphens.

    >>> slug_of("E8/da/from-pl/rate-2e-3/seed-1")
    'e8-da-from-pl-rate-2e-3-seed-1'
    """
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def adapter_ref(training: str) -> str:
    """Return `namespace/name@version` of the adapter that a training cell makes."""
    return f"{NAMESPACE}/{slug_of(training)}@{VERSION}"
