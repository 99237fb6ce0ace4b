"""Runs of the reproduction of LoRA-Whisper that are made up for tests: its settings, and finished cells."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from adapter_hub.trainers.reproduction.cells import Cell, Outcome
from adapter_hub.trainers.reproduction.lora_whisper import LoraWhisper
from adapter_hub.trainers.reproduction.lora_whisper.settings import Settings
from adapter_hub.trainers.reproduction.lora_whisper.systems import Work
from adapter_hub.trainers.reproduction.paper import settings_text
from adapter_hub.trainers.reproduction.run import Run

MINI, PAPER = settings_text(LoraWhisper, "mini"), settings_text(LoraWhisper, "paper")


def read(text: str = MINI, where: str = "settings.toml") -> Settings:
    """Return settings."""
    return LoraWhisper.read(text, where).settings


def make_up(
    folder: Path,
    text: str,
    outcome: Callable[[Run, Cell[Work]], Outcome],
    wanted: Callable[[Cell[Work]], bool] = lambda _: True,
    tables: tuple[int, ...] | None = None,
) -> Run:
    """Return a run whose cells, as far as they are wanted, are finished."""
    run = Run.start(LoraWhisper, folder, text, "mini", tables)
    while ready := [cell for cell in run.left(()) if wanted(cell) and run.ready(cell)]:
        for cell in ready:
            run.finish(cell, 2.0, outcome(run, cell))
        run.look()
    run.note_choices()
    return run


def write_report(run: Run, tell: Callable[[str], Any] = lambda _: None) -> Path:
    """Write the report of a run."""
    return run.paper.report(run, tell)
