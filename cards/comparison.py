"""The table of a card with other models beside the adapter, and in words where it is better and worse.

table = comparison(reports)
table.headings, table.rows, table.sentences
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from adapter_hub.cards.markdown import inline
from adapter_hub.formats.claims import Beside, EvaluationReport, Subject

BASE_MODEL = Subject()


@dataclass(frozen=True)
class Comparison:
    """Rates of an adapter and of other models on the same data, as text for Markdown.

    Attributes:
        headings: of the columns.
        rows: a row for each report that has others beside it.
        sentences: where the adapter is better and worse than the base model.
    """

    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    sentences: tuple[str, ...]


def comparison(reports: Sequence[EvaluationReport]) -> Comparison:
    """Return the table: a column for each model, the base model first, then by name.

    Args:
        reports: on the adapter, in the order of the card.
    """
    compared = [report for report in reports if report.beside]
    found = {_key(item.subject): item.subject for report in compared for item in report.beside or ()}
    columns = [found[key] for key in sorted(found)]
    names = ("the base model" if item == BASE_MODEL else f"{item.name}@{item.version}" for item in columns)
    rows = []
    for report in compared:
        beside = {_key(item.subject): item for item in report.beside or ()}
        rates = (beside[key].rate(report.primary) if key in beside else None for key in sorted(found))
        cells = ("" if rate is None else f"{100 * rate:.1f}" for rate in rates)
        base = beside.get(_key(BASE_MODEL))
        gap = _difference(report, base) if base else ""
        data = f"{inline(report.data)}, {inline(report.split)}"
        rows.append((data, f"{report.primary.upper()} %", f"{100 * report.value:.1f}", gap, *cells))
    headings = ("data", "rate", "this adapter", "minus the base model (95 % interval)", *names)
    return Comparison(headings, tuple(rows), tuple(_sentences(compared)))


def _key(subject: Subject) -> tuple[str, str, str]:
    return subject.name or "", subject.version or "", subject.function_digest or ""


def _difference(report: EvaluationReport, base: Beside) -> str:
    gap = report.value - base.rate(report.primary)
    return f"{100 * gap:+.1f} ({100 * base.low:+.1f} to {100 * base.high:+.1f})"


def _sentences(reports: Sequence[EvaluationReport]) -> list[str]:
    """Say where the adapter is worse and where better than the base model, and where that is not certain."""
    places: dict[str, list[str]] = {}
    for report in reports:
        for item in report.beside or ():
            if item.subject == BASE_MODEL:
                gap = report.value - item.rate(report.primary)
                kind = "Worse than" if gap > 0 else "Better than" if gap < 0 else "As good as"
                doubt = " (the interval holds 0)" if item.low <= 0 <= item.high else ""
                places.setdefault(kind, []).append(inline(report.data) + doubt)
    return [f"**{kind} the base model** on {', '.join(names)}." for kind, names in sorted(places.items())]
