"""The uncertainty of an error rate: 95 % intervals by resampling speakers or utterances.

interval_of([row.words for row in rows], [row.speaker for row in rows])
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from adapter_hub.formats.claims import ErrorCounts, Interval

Array = NDArray[np.float64]
Places = NDArray[np.intp]

RESAMPLES = 10_000
DRAWS_AT_ONCE = 2_000_000  # drawn blocks in memory at a time


def interval_of(
    counts: Sequence[ErrorCounts],
    speakers: Sequence[str | None],
    *,
    random_seed: int = 0,
    resamples: int = RESAMPLES,
) -> Interval:
    """Return a 95 % percentile interval of the pooled error rate, by bootstrap resampling.

    Utterances of one speaker are not independent, so whole speakers are drawn with replacement (the
    blockwise bootstrap of Liu and Peng, arXiv 1912.09508). If speakers are not known for all utterances, or
    there is only one, utterances are drawn.

    Args:
        counts: of every utterance.
        speakers: of every utterance; None where unknown.
        random_seed: equal seeds give equal intervals.
        resamples: the number of resamples.
    """
    unit, place = blocks_of(speakers)
    totals = summed(place, [[item.errors, item.reference_length] for item in counts])
    sums = drawn_sums(totals, resamples, np.random.default_rng(random_seed))
    low, high = np.percentile(sums[:, 0] / sums[:, 1], [2.5, 97.5])
    return Interval(low=float(low), high=float(high), resamples=resamples, unit=unit, random_seed=random_seed)


def blocks_of(speakers: Sequence[str | None]) -> tuple[Literal["speaker", "utterance"], Places]:
    """Return what is drawn, and for every utterance the number of the block that it belongs to.

    Args:
        speakers: of every utterance; None where unknown.

    Returns:
        `speaker` and `[utterances]` if all speakers are known and there are several; else `utterance`, each
        a block of its own.
    """
    if None in speakers or len(set(speakers)) < 2:
        return "utterance", np.arange(len(speakers))
    return "speaker", np.unique(np.asarray(speakers), return_inverse=True)[1]


def summed(place: Places, rows: Sequence[Sequence[float]]) -> Array:
    """Return the sums of the rows of each block, `[blocks, columns]`.

    Args:
        place: of every row, the number of its block.
        rows: `[utterances, columns]`, like errors and reference length.
    """
    totals = np.zeros((int(place.max()) + 1, len(rows[0])))
    np.add.at(totals, place, np.asarray(rows))
    return totals


def drawn_sums(totals: Array, resamples: int, random: np.random.Generator) -> Array:
    """Draw as many blocks as there are, with replacement, again and again, and sum what each draw has.

    All columns of a block are drawn together: what two models did on the same utterances stays paired.

    Args:
        totals: `[blocks, columns]`.
        resamples: how many draws.
        random: the generator.

    Returns:
        `[resamples, columns]`.
    """
    blocks, sums = len(totals), []
    step = max(1, DRAWS_AT_ONCE // blocks)
    for start in range(0, resamples, step):
        draws = random.integers(0, blocks, (min(step, resamples - start), blocks))
        draws += blocks * np.arange(len(draws))[:, np.newaxis]
        taken = np.bincount(draws.ravel(), minlength=draws.size).reshape(draws.shape)
        sums.append(taken.astype(float) @ totals)
    return np.concatenate(sums)
