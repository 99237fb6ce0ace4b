"""LoRA-Whisper: Parameter-Efficient and Extensible Multilingual ASR (Interspeech 2024, arXiv 2406.06619).

`systems` says how its systems E1 to E9 are trained, `plan` which cells its tables are made of, `recipes` by
what each training is done, `doing` how a cell is done; `findings`, `tables`, `orderings` and `report` show
what came of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Self

from adapter_hub.reporting import Tell
from adapter_hub.trainers.reproduction.cells import Cell, Outcome, Outcomes, Plan
from adapter_hub.trainers.reproduction.lora_whisper.plan import plan
from adapter_hub.trainers.reproduction.lora_whisper.recipes import recipe_text
from adapter_hub.trainers.reproduction.lora_whisper.settings import FOLDER, Settings
from adapter_hub.trainers.reproduction.lora_whisper.systems import Work
from adapter_hub.trainers.reproduction.paper import Paper, Workplace, parse_settings
from adapter_hub.trainers.reproduction.run import Run


class LoraWhisper(Paper):
    """The paper at given settings."""

    scales = {"mini": FOLDER / "settings.toml", "paper": FOLDER / "settings-paper.toml"}
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
        from adapter_hub.trainers.reproduction.lora_whisper.doing import RUNNERS  # noqa: PLC0415 - imports torch

        return RUNNERS[cell.kind](self.settings, place, cell, recipe)

    def summary(self, outcome: Outcome) -> str:
        """Return dev errors, a test's error, or the nearest language."""
        if outcome.get("diverged"):
            return "diverged"
        if dev := outcome.get("dev"):
            return "dev " + " ".join(f"{language} {100 * dev[language]:.1f} %" for language in dev)
        if "value" in outcome:
            return f"{outcome['metric'].upper()} {100 * outcome['value']:.1f} %"
        return f"nearest: {outcome['nearest']}" if "nearest" in outcome else ""

    def report(self, run: Run, tell: Tell) -> Path:
        """Write README.md, results.json and plots, see `report`."""
        from adapter_hub.trainers.reproduction.lora_whisper.report import write_report  # noqa: PLC0415 - numpy

        return write_report(self.settings, run, tell)
