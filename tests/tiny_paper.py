"""A paper of a few cells that say what they saw, to show the engine of reproductions by."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from adapter_hub.errors import InvalidInputError
from adapter_hub.files.writing import write_atomically
from adapter_hub.reporting import Tell
from adapter_hub.trainers.reproduction.cells import CHOICE, Cell, Outcome, Outcomes, Plan
from adapter_hub.trainers.reproduction.choices import choose
from adapter_hub.trainers.reproduction.paper import Paper, PaperSettings, Workplace, parse_settings
from adapter_hub.trainers.reproduction.run import Run

SETTINGS = 'name = "tiny"\ntables = [1]\ncells = ["look", "guess"]\n'


class TinySettings(PaperSettings):
    """Which cells there are."""

    cells: tuple[str, ...]


@dataclass(frozen=True)
class Guess:
    """How good a rate is."""

    rate: float | None = None


class TinyPaper(Paper):
    """`guess` tries two rates, of which the second is better; what uses it is known after that."""

    scales = {"mini": Path(__file__).with_name("tiny_paper.toml")}
    settings: TinySettings

    def __init__(self, settings: TinySettings) -> None:
        self.settings = settings

    @classmethod
    def read(cls, text: str, where: str) -> Self:
        return cls(parse_settings(TinySettings, text, where))

    def plan(self, tables: Sequence[int], outcomes: Outcomes) -> Plan[Guess]:
        cells = [
            Cell(name, name.partition("/")[0], Guess()) for name in self.settings.cells if name != "guess"
        ]
        if "guess" not in self.settings.cells:
            return Plan(cells)
        grid = [Cell(f"guess/{rate}", "guess", Guess(rate)) for rate in (0.5, 0.1)]
        choices = {}
        if all(cell.name in outcomes for cell in grid):
            choices["guess"] = choose("guess", {c.work.rate or 0: outcomes[c.name] for c in grid})
        rate = choices["guess"].rate if choices else None
        use = Cell(f"guess/twice-{rate or '?'}", "guess", Guess(rate and 2 * rate), (CHOICE + "guess",))
        return Plan([use, *grid, *cells], choices)

    def do(self, place: Workplace, cell: Cell[Guess], recipe: str | None) -> Outcome:
        if cell.kind == "guess":
            assert cell.work.rate is not None
            return {"da": cell.work.rate}
        if cell.kind == "refuse":
            raise InvalidInputError("not\nlike this")
        if cell.kind == "die":
            os._exit(3)
        if cell.kind == "sleep":
            time.sleep(600)
        names = ("OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES")
        return {"pid": os.getpid(), "device": place.device, **{name: os.environ.get(name) for name in names}}

    def report(self, run: Run, tell: Tell) -> Path:
        path = run.folder / "README.md"
        write_atomically(path, "".join(f"{name}\n" for name in sorted(run.outcomes)).encode())
        return path
