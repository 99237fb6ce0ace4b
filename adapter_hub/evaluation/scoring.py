"""Counting errors: words and characters of one utterance, after a named normaliser, aligned by jiwer.

    words, characters = count_errors("et hundrede", "et hundred", "basic/1", "da")

Counts, not rates: rates of different utterances cannot be averaged, counts can be summed. Characters are
code points, with spaces where the language separates words by them and without where it does not.
"""

from __future__ import annotations

from collections.abc import Sequence

import jiwer
import numpy as np

from adapter_hub.errors import InvalidInputError
from adapter_hub.report import ErrorCounts, Interval
from adapter_hub.speech.languages import has_word_spaces
from adapter_hub.speech.normalisers import normalise

RESAMPLES = 10_000
DRAWS_AT_ONCE = 2_000_000  # resampled blocks held in memory at a time


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


def interval_of(
    counts: Sequence[ErrorCounts],
    speakers: Sequence[str | None],
    *,
    random_seed: int = 0,
    resamples: int = RESAMPLES,
) -> Interval:
    """Return a 95 % percentile interval of the pooled rate, by resampling speakers with replacement.

    Utterances of one speaker are not independent, so whole speakers are drawn; where a speaker is not
    known for every utterance, or there is only one, utterances are.

    Args:
        counts: of every utterance.
        speakers: of every utterance.
        random_seed: equal seeds give equal intervals.
        resamples: the number of draws.
    """
    by_speaker = None not in speakers and len(set(speakers)) > 1
    blocks = list(speakers) if by_speaker else list(range(len(counts)))
    names, place = np.unique(np.asarray(blocks), return_inverse=True)
    totals = np.zeros((len(names), 2))
    np.add.at(totals, place, [[item.errors, item.reference_length] for item in counts])
    random = np.random.default_rng(random_seed)
    rates: list[np.ndarray] = []
    step = max(1, DRAWS_AT_ONCE // len(names))
    for start in range(0, resamples, step):
        draws = random.integers(0, len(names), (min(step, resamples - start), len(names)))
        sums = totals[draws].sum(axis=1)
        rates.append(sums[:, 0] / sums[:, 1])
    low, high = np.percentile(np.concatenate(rates), [2.5, 97.5])
    return Interval(
        low=float(low),
        high=float(high),
        resamples=resamples,
        unit="speaker" if by_speaker else "utterance",
        random_seed=random_seed,
    )
