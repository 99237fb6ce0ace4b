"""Counting errors: words and characters of one utterance, after a named normaliser, aligned by jiwer.

    words, characters = count_errors("et hundrede", "et hundred", "basic/2", "da")
    differences = list(recount(report))     # of a report's counts from its texts

Counts, not rates: rates of different utterances cannot be averaged, counts can be summed. Characters are
code points; spaces count only in languages that separate words by them. Nothing here needs numpy, since the
audit counts again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import jiwer

from adapter_hub.errors import AdapterHubError, InvalidInputError
from adapter_hub.escaping import shown
from adapter_hub.formats.claims import ErrorCounts, EvaluationReport, UtteranceRow
from adapter_hub.speech.normalisers import counts_spaces, normalise

SHOWN = 3  # rows whose counts differ; the others are only counted


def count_errors(
    reference: str, hypothesis: str, normaliser: str, language: str
) -> tuple[ErrorCounts, ErrorCounts]:
    """Return the word errors and the character errors of one utterance.

    Args:
        reference: the correct text.
        hypothesis: the transcript; may be empty.
        normaliser: a key of `normalisers.NORMALISERS`.
        language: BCP 47 tag.

    Raises:
        InvalidInputError: the reference is empty after normalisation, so that no rate is defined.
    """
    wanted, got = (normalise(normaliser, text, language) for text in (reference, hypothesis))
    if not wanted.strip():
        raise InvalidInputError(
            f"reference {reference!r}: empty after normaliser {normaliser}; remove the row"
        )
    words = _counts(jiwer.process_words(wanted, got))
    if not counts_spaces(normaliser, language):
        wanted, got = ("".join(text.split()) for text in (wanted, got))
    return words, _counts(jiwer.process_characters(wanted, got))


def _counts(output: jiwer.WordOutput | jiwer.CharacterOutput) -> ErrorCounts:
    return ErrorCounts(
        hits=output.hits,
        substitutions=output.substitutions,
        deletions=output.deletions,
        insertions=output.insertions,
    )


def pooled(counts: Sequence[ErrorCounts]) -> ErrorCounts:
    """Return the sum of counts, whose rate is the pooled error rate.

    >>> one = ErrorCounts(hits=3, substitutions=1, deletions=0, insertions=0)
    >>> pooled([one, one]).rate
    0.25

    Args:
        counts: of every utterance, at least one.
    """
    total = counts[0]
    for item in counts[1:]:
        total = total + item
    return total


def recount(report: EvaluationReport) -> Iterator[str]:
    """Yield the rows whose counts of words or characters do not follow from reference and hypothesis.

    Args:
        report: with its rows.

    Yields:
        One line per difference, at most `SHOWN`, and a line with the number of the others.
    """
    wrong = []
    for row in report.rows:
        if difference := _difference(row, report.normaliser):
            wrong.append(f"row {shown(row.id, 60)}: {difference}")
    yield from wrong[:SHOWN]
    if len(wrong) > SHOWN:
        yield f"{len(wrong) - SHOWN} more rows"


def _difference(row: UtteranceRow, normaliser: str) -> str:
    try:
        words, characters = count_errors(row.reference, row.hypothesis, normaliser, row.language)
    except AdapterHubError as error:
        return shown(error)
    for name, stated, counted in (("words", row.words, words), ("characters", row.characters, characters)):
        if (stated.errors, stated.reference_length) != (counted.errors, counted.reference_length):
            return (
                f"{name} {stated.errors} errors of {stated.reference_length}, but its texts give "
                f"{counted.errors} of {counted.reference_length}"
            )
    return ""
