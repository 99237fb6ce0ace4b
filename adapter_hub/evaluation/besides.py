"""Other models beside a report: their counts on the same utterances, and the difference with its interval.

report = with_others(report, [base_model_report, component_report])
report.beside[0].rate("wer"), report.beside[0].low, report.beside[0].high

A report with rows for every model would be as many times as large; what a card shows of the others are sums.
"""

from __future__ import annotations

from collections.abc import Sequence

from adapter_hub.errors import InvalidInputError
from adapter_hub.evaluation.side_by_side import side_by_side
from adapter_hub.formats.claims import Beside, EvaluationReport, Subject


def with_others(report: EvaluationReport, others: Sequence[EvaluationReport]) -> EvaluationReport:
    """Return a report that also says what other models made of its utterances.

    Args:
        report: on the model that it is about.
        others: reports on others, on the same data and decoded in the same way; in the order in which
            they will be shown, after those that are beside it already; a new report on one of those takes
            its place.

    Raises:
        InvalidInputError: a model twice, the report's own among the others, or reports that differ in more
            than the model (see `pairing`).
    """
    if not others:
        return report
    seen = {_model(report)}
    found = dict[str, Beside]()
    for other in others:
        if (key := _model(other)) in seen:
            raise InvalidInputError(f"two reports on {_named(other.subject)}; name each model once")
        seen.add(key)
        pair = side_by_side(other, report)
        full = other.subject.name is None and other.base_model_digest != report.base_model_digest
        found[key] = Beside(
            subject=other.subject,
            model_digest=other.base_model_digest if full else None,
            words=other.words,
            characters=other.characters,
            low=pair.low,
            high=pair.high,
        )
    before = {_shown(item, report): item for item in report.beside or ()}
    return report.model_copy(update={"beside": tuple((before | found).values())})


def _model(report: EvaluationReport) -> str:
    """Return what identifies the model that was evaluated."""
    return report.subject.function_digest or report.base_model_digest


def _shown(item: Beside, report: EvaluationReport) -> str:
    return item.subject.function_digest or item.model_digest or report.base_model_digest


def _named(subject: Subject) -> str:
    return f"{subject.name}@{subject.version}" if subject.name else "the base model"
