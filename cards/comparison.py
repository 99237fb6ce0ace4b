"""The table of a card with other models beside the adapter, and in words where it is better and worse.

table = comparison(reports)
table.headings, table.rows, table.sentences
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from adapter_hub.cards.markdown import inline
from adapter_hub.formats.canonical import hex_of
from adapter_hub.formats.claims import Beside, EvaluationReport, ForgettingSection


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
    found = {_key(item): item for report in compared for item in report.beside or ()}
    names = (_name(found[key]) for key in sorted(found))
    rows = []
    for report in compared:
        beside = {_key(item): item for item in report.beside or ()}
        rates = (beside[key].rate(report.primary) if key in beside else None for key in sorted(found))
        cells = ("" if rate is None else f"{100 * rate:.1f}" for rate in rates)
        base = next((item for item in beside.values() if item.is_base_model), None)
        gap = _difference(report, base) if base else ""
        data = f"{inline(report.data)}, {inline(report.split)}"
        rows.append((data, f"{report.primary.upper()} %", f"{100 * report.value:.1f}", gap, *cells))
    headings = ("data", "rate", "this adapter", "minus the base model (95 % interval)", *names)
    return Comparison(headings, tuple(rows), tuple(_sentences(compared)))


def forgetting_line(sections: Sequence[ForgettingSection]) -> str:
    """Return what was measured of forgetting, as Markdown; of several measurements that of most sets.

    Args:
        sections: of an adapter's reports, the newest last.
    """
    if not sections:
        return ""
    told = max(enumerate(sections), key=lambda item: (len(item[1].sets), item[0]))[1]
    limits = (
        f"{told.low:+.1f} % to {told.high:+.1f} %" if told.high is not None else f"from {told.low:+.1f} %"
    )
    names = ", ".join(f"{inline(item.data)} {inline(item.split)}" for item in told.sets)
    over = ""
    if told.unit == "speaker" and told.speakers:
        over = f", over {told.speakers} speakers{' or more of each' if len(told.sets) > 1 else ''}"
    return (
        f"Forgetting: **{round(told.percent, 1) + 0.0:+.1f} %** (95 % interval {limits}{over}), the relative "
        f"increase of the sum of error rates over the base model's, where the adapter is used on {names}."
    )


def _key(item: Beside) -> tuple[str, str, str, str]:
    subject = item.subject
    return subject.name or "", subject.version or "", subject.function_digest or "", item.model_digest or ""


def _name(item: Beside) -> str:
    if item.is_base_model:
        return "the base model"
    if item.model_digest is not None:
        return f"a full model ({hex_of(item.model_digest)[:12]}…)"
    return f"{item.subject.name}@{item.subject.version}"


def _difference(report: EvaluationReport, base: Beside) -> str:
    gap = report.value - base.rate(report.primary)
    return f"{100 * gap:+.1f} ({100 * base.low:+.1f} to {100 * base.high:+.1f})"


def _sentences(reports: Sequence[EvaluationReport]) -> list[str]:
    """Say where the adapter is worse and where better than the base model, and where that is not certain."""
    places: dict[str, list[str]] = {}
    for report in reports:
        for item in report.beside or ():
            if item.is_base_model:
                gap = report.value - item.rate(report.primary)
                kind = "Worse than" if gap > 0 else "Better than" if gap < 0 else "As good as"
                doubt = " (the interval holds 0)" if item.low <= 0 <= item.high else ""
                places.setdefault(kind, []).append(inline(report.data) + doubt)
    return [f"**{kind} the base model** on {', '.join(names)}." for kind, names in sorted(places.items())]
