"""A report's counts, counted anew from its texts: who embellishes them has to invent what was heard, too.

for difference in recount(report): ...
"""

from __future__ import annotations

from collections.abc import Iterator

from adapter_hub.errors import AdapterHubError, IntegrityError
from adapter_hub.escaping import shown
from adapter_hub.evaluation.scoring import count_errors
from adapter_hub.formats.claims import EvaluationReport, UtteranceRow

TOLD = 3  # rows; the rest is a number


def recount(report: EvaluationReport) -> Iterator[str]:
    """Yield in which rows words or characters are not what reference and hypothesis give."""
    wrong = []
    for row in report.rows:
        if difference := _difference(row, report.normaliser):
            wrong.append(f"row {shown(row.id, 60)}: {difference}")
    yield from wrong[:TOLD]
    if len(wrong) > TOLD:
        yield f"{len(wrong) - TOLD} more rows"


def check_counts(report: EvaluationReport) -> None:
    """Refuse a report whose counts are not those of its texts.

    Raises:
        IntegrityError: with the rows.
    """
    if wrong := list(recount(report)):
        raise IntegrityError("report: its counts are not those of its texts", wrong, "evaluate anew")


def _difference(row: UtteranceRow, normaliser: str) -> str:
    try:
        words, characters = count_errors(row.reference, row.hypothesis, normaliser, row.language)
    except AdapterHubError as error:
        return shown(error)
    for name, said, counted in (("words", row.words, words), ("characters", row.characters, characters)):
        if (said.errors, said.reference_length) != (counted.errors, counted.reference_length):
            return (
                f"{name} {said.errors} errors of {said.reference_length}, its texts give {counted.errors} of "
                f"{counted.reference_length}"
            )
    return ""
