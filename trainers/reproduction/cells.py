"""Cells: the pieces of a reproduction that are run, finished, and kept one by one.

A cell is one training with the evaluations that its learning rate is chosen by, one evaluation on a test
set, or one of the measurements around them. Its name says what it is; it runs when the cells and choices
that it needs are there.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Kind = Literal["speech", "similarity", "training", "test", "untouched"]
CHOICE = "choice:"  # a need: the learning rate of a system is chosen


@dataclass(frozen=True)
class Work:
    """What a cell does; fields that do not belong to its kind keep their defaults.

    Attributes:
        system: E1 to E9; the sweep of ranks is E4's.
        languages: trained on, tested on, rendered or measured.
        rate: peak learning rate; None as long as it is not chosen.
        random_seed: of the training.
        parent: the base language that E8, E9 and the ablation start from; None before it is known.
        rank: of the LoRA.
        start: the training whose model E5 and E6 go on from.
        replay: base languages of which a share is trained on again.
        dev: languages whose dev sets are decoded after the training.
        of: the training that is tested.
    """

    system: str = ""
    languages: tuple[str, ...] = ()
    rate: float | None = None
    random_seed: int = 0
    parent: str | None = None
    rank: int = 0
    start: str | None = None
    replay: tuple[str, ...] = ()
    dev: tuple[str, ...] = ()
    of: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return plain data; with `from_json` it makes the same work again."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Work:
        """Return what `to_json` wrote."""
        fields: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
        return cls(**fields)


@dataclass(frozen=True)
class Cell:
    """A piece of work with its place in the queue.

    Attributes:
        name: unique, like `E8/da/from-pl/rate-2e-3/seed-1`.
        kind: what is done.
        work: with what.
        needs: names of cells, and choices (`choice:E8`), that come before it.
        phase: lower ones run first.
        effort: about how many seconds it takes on one core, for the time left.
    """

    name: str
    kind: Kind
    work: Work
    needs: tuple[str, ...] = ()
    phase: int = 0
    effort: float = 1.0

    @property
    def slug(self) -> str:
        """The name as a file or an adapter may have it."""
        return slug_of(self.name)


@dataclass
class Known:
    """What a plan learns while it runs.

    Attributes:
        rates: the chosen learning rate of each system.
        nearest: the most similar base language of each new one.
    """

    rates: dict[str, float] = field(default_factory=dict)
    nearest: dict[str, str] = field(default_factory=dict)


def slug_of(name: str) -> str:
    """Return lower-case letters, digits and single hyphens.

    >>> slug_of("E8/da/from-pl/rate-2e-3/seed-1")
    'e8-da-from-pl-rate-2e-3-seed-1'
    """
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def rate_text(rate: float | None) -> str:
    """Return a learning rate as names show it.

    >>> rate_text(0.002), rate_text(0.00015), rate_text(None)
    ('2e-3', '1.5e-4', '?')
    """
    if rate is None:
        return "?"
    mantissa, _, exponent = f"{rate:.6e}".partition("e")
    return f"{float(mantissa):g}e{int(exponent)}"
