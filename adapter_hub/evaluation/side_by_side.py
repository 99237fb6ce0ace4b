"""Two models on one test set: both error rates, and their difference with a paired interval.

found = side_by_side(base_report, adapter_report)
found.before, found.after, found.low, found.high
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from adapter_hub.evaluation.intervals import Array, clipped, jackknife_t
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
        unit: what was taken to be independent.
        speakers: how many are known.
    """

    data: str
    metric: str
    utterances: int
    before: float
    after: float
    low: float
    high: float
    unit: Literal["speaker", "utterance"]
    speakers: int


def side_by_side(before: EvaluationReport, after: EvaluationReport) -> SideBySide:
    """Compare two reports on the same data: the interval of the difference is that of paired speakers.

    Args:
        before: of the model that is compared with.
        after: of the other.

    Raises:
        InvalidInputError: see `Pair.of`.
    """
    pair = Pair.of(before, after)
    low, high = clipped(jackknife_t([pair.totals], lambda sums: _difference(*sums)), max(1.0, *pair.rates))
    return SideBySide(
        pair.data, pair.metric, len(before.rows), *pair.rates, low, high, pair.unit, pair.speakers
    )


def _difference(sums: Array) -> Array:
    difference: Array = sums[..., 2] / sums[..., 3] - sums[..., 0] / sums[..., 1]
    return difference
