"""Parameter averaging is all you need to prevent forgetting (IEEE SLT 2024, 10.1109/slt61566.2024.10832275).

`systems` says what trainings and averages are made of, `plan` which cells the tables are made of, `speech`,
`recordings` and `recipes` what each training is done with, `doing` how a cell is done; `tables`, `orderings`
and `report` show what came of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Self

from adapter_hub.reporting import Tell
from adapter_hub.trainers.reproduction.cells import Cell, Outcome, Outcomes, Plan
from adapter_hub.trainers.reproduction.paper import Paper, Workplace, parse_settings
from adapter_hub.trainers.reproduction.parameter_averaging.plan import plan
from adapter_hub.trainers.reproduction.parameter_averaging.recipes import recipe_text
from adapter_hub.trainers.reproduction.parameter_averaging.settings import FOLDER, Settings
from adapter_hub.trainers.reproduction.parameter_averaging.systems import Work
from adapter_hub.trainers.reproduction.run import Run


class ParameterAveraging(Paper):
    """The paper at given settings."""

    scales = {
        "mini": FOLDER / "settings.toml",
        "real": FOLDER / "settings-real.toml",
        "paper": FOLDER / "settings-paper.toml",
    }
    settings: Settings

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    @classmethod
    def read(cls, text: str, where: str) -> Self:
        """Return the paper at these settings, see `Paper.read`."""
        return cls(parse_settings(Settings, text, where))

    def plan(self, tables: Sequence[int], outcomes: Outcomes) -> Plan[Work]:
        """Return the cells of some tables, see `Paper.plan`."""
        return plan(self.settings, tables, outcomes)

    def recipe(self, cell: Cell[Work]) -> str | None:
        """Return the recipe of a training."""
        return recipe_text(self.settings, cell) if cell.kind == "training" else None

    def do(self, place: Workplace, cell: Cell[Work], recipe: str | None) -> Outcome:
        """Do a cell's work, see `doing`."""
        from adapter_hub.trainers.reproduction.parameter_averaging.doing import (  # noqa: PLC0415 - imports torch
            RUNNERS,
        )

        return RUNNERS[cell.kind](self.settings, place, cell, recipe)

    def summary(self, outcome: Outcome) -> str:
        """Return the errors of a test, or of a training that decides about the steps."""
        if outcome.get("diverged"):
            return "diverged"
        values = outcome.get("values") or outcome.get("dev") or {}
        words = (f"{name} {100 * value:.1f}" for name, value in values.items())
        return f"WER {' '.join(words)}" if values else ""

    def report(self, run: Run, tell: Tell) -> Path:
        """Write README.md, results.json and plots, see `report`."""
        from adapter_hub.trainers.reproduction.parameter_averaging.report import (  # noqa: PLC0415 - numpy
            write_report,
        )

        return write_report(self.settings, run, tell)
