"""Two models on one test set: both error rates, and their difference with a paired interval.

found = side_by_side(base_report, adapter_report)
found.before, found.after, found.low, found.high
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from adapter_hub.evaluation.intervals import RESAMPLES, drawn_sums
from adapter_hub.evaluation.pairing import Pair
from adapter_hub.formats.claims import EvaluationReport


@dataclass(frozen=True)
class SideBySide:
    """What two models did on the same utterances; all rates are fractions.

    Attributes:
        data: the test set with its split.
        metric: wer or cer.
        utterances: how many.
        before: the rate of the model that is compared with.
        after: the rate of the other.
        low: of the 95 % interval of `after - before`.
        high: of the same interval.
        unit: what was drawn.
    """

    data: str
    metric: str
    utterances: int
    before: float
    after: float
    low: float
    high: float
    unit: Literal["speaker", "utterance"]


def side_by_side(
    before: EvaluationReport, after: EvaluationReport, *, resamples: int = RESAMPLES, random_seed: int = 0
) -> SideBySide:
    """Compare two reports on the same data, by a paired percentile bootstrap of the difference.

    Args:
        before: of the model that is compared with.
        after: of the other.
        resamples: how many draws.
        random_seed: equal seeds give equal intervals.

    Raises:
        InvalidInputError: see `Pair.of`.
    """
    pair = Pair.of(before, after)
    sums = drawn_sums(pair.totals, resamples, np.random.default_rng(random_seed))
    low, high = np.percentile(sums[:, 2] / sums[:, 3] - sums[:, 0] / sums[:, 1], [2.5, 97.5])
    return SideBySide(
        pair.data, pair.metric, len(before.rows), *pair.rates, float(low), float(high), pair.unit
    )
