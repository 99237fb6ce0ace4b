"""Runs of the reproduction of LoRA-Whisper that are made up for tests: its settings, and finished cells."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from adapter_hub.formats.claims import EvaluationReport
from adapter_hub.trainers.reproduction.cells import Cell, Outcome
from adapter_hub.trainers.reproduction.lora_whisper import LoraWhisper
from adapter_hub.trainers.reproduction.lora_whisper.settings import Settings
from adapter_hub.trainers.reproduction.lora_whisper.systems import Work
from adapter_hub.trainers.reproduction.paper import settings_text
from adapter_hub.trainers.reproduction.run import Run

MINI, PAPER = settings_text(LoraWhisper, "mini"), settings_text(LoraWhisper, "paper")

DIGEST = "sha256:" + "0" * 64
WORDS = 100  # of an utterance


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


def report(rate: int, language: str) -> EvaluationReport:
    """Return a report of two speakers who made `rate` errors in a hundred, give or take one."""
    rows = []
    for i, errors in enumerate((rate - 1, rate + 1)):
        counts = {"hits": WORDS - errors, "substitutions": errors, "deletions": 0, "insertions": 0}
        rows.append({"id": f"{i}", "audio_sha256": "0" * 64, "seconds": 2.0, "language": language,
                     "speaker": f"s{i}", "reference": "a", "hypothesis": "b", "words": counts,
                     "characters": counts})  # fmt: skip
    pooled = {key: sum(row["words"][key] for row in rows) for key in rows[0]["words"]}  # type: ignore[index]
    metric = "cer" if language in ("zh", "ja") else "wer"
    return EvaluationReport.model_validate(
        {"schema": "evaluation/1", "created": "2026-01-01T00:00:00Z", "subject": {},
         "base_model_digest": DIGEST, "data": "made-up", "data_sha256": "0" * 64, "split": "test",
         "languages": (language,), "normaliser": "basic/1",
         "decoding": {"beams": 5, "timestamps": False, "language": language}, "primary": metric,
         "words": pooled, "characters": pooled,
         "interval": {"low": 0.0, "high": 1.0, "resamples": 1, "unit": "speaker", "random_seed": 0},
         "seconds": 4.0, "wall_seconds": 1.0, "packages": {}, "rows": tuple(rows)},
        strict=False,
    )  # fmt: skip
