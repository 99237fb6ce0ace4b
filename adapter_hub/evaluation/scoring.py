"""Counting errors: words and characters of one utterance, after a named normaliser, aligned by jiwer.

    words, characters = count_errors("et hundrede", "et hundred", "basic/1", "da")

Counts, not rates: rates of different utterances cannot be averaged, counts can be summed. Characters are
code points, with spaces where the language separates words by them and without where it does not. Without
numpy, since the audit counts anew, too.
"""

from __future__ import annotations

from collections.abc import Sequence

import jiwer

from adapter_hub.errors import InvalidInputError
from adapter_hub.formats.claims import ErrorCounts
from adapter_hub.speech.languages import has_word_spaces
from adapter_hub.speech.normalisers import normalise


def count_errors(
    reference: str, hypothesis: str, normaliser: str, language: str
) -> tuple[ErrorCounts, ErrorCounts]:
    """Return the word errors and the character errors of one utterance.

    Args:
        reference: what was said.
        hypothesis: what was heard; may be empty.
        normaliser: a key of `normalisers.NORMALISERS`.
        language: BCP 47 tag.

    Raises:
        InvalidInputError: nothing is left of the reference after normalising; a rate would have no meaning.
    """
    wanted, got = (normalise(normaliser, text, language) for text in (reference, hypothesis))
    if not wanted.strip():
        raise InvalidInputError(
            f"reference {reference!r}: empty after normaliser {normaliser}; remove the row"
        )
    words = _counts(jiwer.process_words(wanted, got))
    if not has_word_spaces(language):
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
    """Return the sum of counts.

    >>> one = ErrorCounts(hits=3, substitutions=1, deletions=0, insertions=0)
    >>> pooled([one, one]).rate
    0.25
    """
    total = counts[0]
    for item in counts[1:]:
        total = total + item
    return total
