"""The uncertainty of an error rate: 95 % intervals by resampling speakers or utterances.

interval_of([row.words for row in rows], [row.speaker for row in rows])
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from adapter_hub.formats.claims import ErrorCounts, Interval

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
