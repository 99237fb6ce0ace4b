"""Are the scores shown those measured, on these weights, this base model, this data? (invariant 7)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from adapter_hub.audit.checks import Subject, check
from adapter_hub.report import EvaluationReport

if TYPE_CHECKING:
    from adapter_hub.registry import Score


@check("report-unreadable", "error", needs="nothing", hint="evaluate again with --attach")
def report_unreadable(subject: Subject) -> Iterator[str]:
    """A file among the evaluation reports is no report, or its name is not the sha256 of its bytes.

    Reading a report also adds its rows up: pooled counts that are not the sum of the rows are refused.
    """
    yield from subject.report_problems


@check("report-differs", "error", hint="remove it; scores are never inherited by other weights")
def report_differs(subject: Subject) -> Iterator[str]:
    """A report is filed under this adapter and measured other weights or another base model."""
    for name, report in subject.reports.items():
        if report.subject.weights_digest != subject.manifest.weights_digest:
            yield f"report {name[:12]}… measured other weights"
        if report.base_model_digest != subject.manifest.base_model.digest:
            yield f"report {name[:12]}… used another base model"


@check("report-inconsistent", "error", hint="evaluate again with --attach")
def report_inconsistent(subject: Subject) -> Iterator[str]:
    """A report contradicts itself: its interval does not hold its value, or an utterance counts twice."""
    for name, report in subject.reports.items():
        low, value, high = report.interval.low, report.value, report.interval.high
        if not low - 1e-9 <= value <= high + 1e-9:
            yield f"report {name[:12]}…: {report.primary} {value:.4f} is outside {low:.4f} to {high:.4f}"
        if len({row.id for row in report.rows}) != len(report.rows):
            yield f"report {name[:12]}…: an utterance occurs twice"


@check(
    "score-unsupported",
    "error",
    needs="entry",
    hint="run `adapter-hub registry rebuild`, or evaluate with --attach",
)
def score_unsupported(subject: Subject) -> Iterator[str]:
    """The registry shows a score that no attached report's counts give.

    A score names data, split, normaliser and decoding; a report on these weights with the same ones
    has to give the same value and number of utterances (invariant 7).
    """
    assert subject.block is not None
    for score in subject.block.scores:
        if not any(_supports(report, score) for report in subject.reports.values()):
            yield f"{score.metric} {score.value:.4f} on {score.data} {score.split} is in no attached report"


def _supports(report: EvaluationReport, score: Score) -> bool:
    counts = report.words if score.metric == "wer" else report.characters
    return (
        (report.data, report.split, report.data_sha256) == (score.data, score.split, score.data_sha256)
        and report.normaliser == score.normaliser
        and len(report.rows) == score.n
        and math.isclose(counts.rate, score.value, rel_tol=1e-9, abs_tol=1e-12)
    )


@check("status-differs", "error", needs="entry", hint="run `adapter-hub registry rebuild`")
def status_differs(subject: Subject) -> Iterator[str]:
    """The registry's status of a version is not the last one in the store's status.json."""
    assert subject.block is not None
    last = subject.history[-1].status if subject.history else "active"
    if last != subject.block.status:
        yield f"the registry says {subject.block.status}, status.json {last}"
    for entry in subject.history:
        if entry.digest != subject.block.digest:
            yield f"status.json speaks of digest {entry.digest}, the version is {subject.block.digest}"
