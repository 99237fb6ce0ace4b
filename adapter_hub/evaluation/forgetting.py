"""How much a model has forgotten: the relative increase of its error rate where it was good before.

    found = forgetting([base_on_clean, base_on_other], [average_on_clean, average_on_other])
    found.percent, found.low, found.high                # 8.9, 5.1, 13.2

From *Parameter averaging is all you need to prevent forgetting* (IEEE SLT 2024), which reports it for
LibriSpeech: the sum of the test sets' error rates afterwards over the sum before. The paper gives no formula;
this one fits every row of its tables VII and VIII.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from adapter_hub.errors import InvalidInputError
from adapter_hub.evaluation.intervals import Array, jackknife_t
from adapter_hub.evaluation.pairing import Pair, name_of
from adapter_hub.formats.claims import ErrorCounts, EvaluationReport, ForgettingSection, ForgottenSet


@dataclass(frozen=True)
class Forgetting:
    """The relative increase of the error rate on the original domain.

    Attributes:
        percent: 100 * (sum of the rates afterwards / sum before - 1); below 0 if the model has become better.
        low: of the 95 % interval.
        high: of the 95 % interval; infinite where without one speaker or utterance no error is left before.
        unit: what was taken to be independent: speakers, or utterances where a set does not name enough.
        speakers: how many are known, of the set with the fewest.
        data: the test sets, each with its split, in the order of `before`.
    """

    percent: float
    low: float
    high: float
    unit: Literal["speaker", "utterance"]
    speakers: int
    data: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON data; a bound without limit is null."""
        bounds = {k: v if math.isfinite(v) else None for k, v in (("low", self.low), ("high", self.high))}
        return {**vars(self), **bounds, "data": list(self.data)}

    def __str__(self) -> str:
        limits = (
            f"{self.low:+.1f} to {self.high:+.1f}" if math.isfinite(self.high) else f"from {self.low:+.1f}"
        )
        return f"{round(self.percent, 1) + 0.0:+.1f} % ({limits})"  # + 0.0: never "-0.0"


def forgetting(
    before: Sequence[EvaluationReport],
    after: Sequence[EvaluationReport],
) -> Forgetting:
    """Return how much worse a model has become on the test sets of the original domain.

    The interval is that of paired speakers, on the square root of the ratio. Each set has speakers of its
    own, as in the paper.

    Args:
        before: reports on the model that training started from, one for each test set.
        after: reports on the model that came out, on the same test sets in any order.

    Raises:
        InvalidInputError: no reports, sets without their counterpart or twice, reports that differ in more
            than the model (see `pairing`), an adapter of another base model, or no error at all before.
    """
    pairs = paired(before, after)
    sums = np.array([pair.rates for pair in pairs]).sum(axis=0)
    names = tuple(pair.data for pair in pairs)
    if sums[0] == 0:
        raise InvalidInputError(
            f"forgetting on {', '.join(names)}: no error before, so that no relative increase is defined; "
            "take more, or harder, test data"
        )
    ends = jackknife_t([pair.totals for pair in pairs], _root_of_ratio)
    low, high = (relative_increase(1.0, max(0.0, end) ** 2) for end in ends)
    unit: Literal["speaker", "utterance"] = (
        "speaker" if all(pair.unit == "speaker" for pair in pairs) else "utterance"
    )
    return Forgetting(relative_increase(*sums), low, high, unit, min(pair.speakers for pair in pairs), names)


def section_of(
    found: Forgetting, before: Sequence[EvaluationReport], after: Sequence[EvaluationReport]
) -> ForgettingSection:
    """Return the record of what an adapter has forgotten, for its published reports.

    Args:
        found: of these reports.
        before: as in `forgetting`.
        after: as in `forgetting`.
    """
    later = {report.data_sha256: report for report in after}
    return ForgettingSection(
        sets=tuple(
            ForgottenSet(
                data=report.data,
                split=report.split,
                data_sha256=report.data_sha256,
                before=_counts(report),
                after=_counts(later[report.data_sha256]),
            )
            for report in before
        ),
        low=found.low,
        high=found.high if math.isfinite(found.high) else None,
        unit=found.unit,
        method="jackknife-t",
        speakers=found.speakers,
    )


def _counts(report: EvaluationReport) -> ErrorCounts:
    return report.words if report.primary == "wer" else report.characters


def relative_increase(before: float, after: float) -> float:
    """Return by how many per cent `after` is larger than `before`.

    >>> round(relative_increase(1.96 + 3.65, 1.98 + 4.13), 1)  # the paper's table VII: AoDE
    8.9

    Args:
        before: a rate above 0, or a sum of rates.
        after: the same of the other model.
    """
    return 100 * (float(after) / float(before) - 1)


def paired(before: Sequence[EvaluationReport], after: Sequence[EvaluationReport]) -> list[Pair]:
    """Return the pairs of reports on the same data, in the order of `before`.

    Args:
        before: reports on one model.
        after: reports on another.

    Raises:
        InvalidInputError: see `forgetting`.
    """
    if not before or not after:
        raise InvalidInputError("forgetting: no reports; expected one before and one after for each test set")
    for side, reports in (("before", before), ("after", after)):
        if len({(report.subject, report.base_model_digest) for report in reports}) > 1:
            raise InvalidInputError(f"forgetting: the reports {side} are on several models; expected one")
    if not is_start_of(before[0], after[0]):
        raise InvalidInputError(
            f"{name_of(before[0])}: base models {before[0].base_model_digest[:19]} and "
            f"{after[0].base_model_digest[:19]}; what an adapter has forgotten is measured "
            "against its own base model"
        )
    first, second = _by_data("before", before), _by_data("after", after)
    for digest, report in [*first.items(), *second.items()]:
        if digest not in first or digest not in second:
            side = "after" if digest in first else "before"
            raise InvalidInputError(
                f"forgetting: {name_of(report)} ({digest[:12]}) has no report {side}; "
                "evaluate both models on it"
            )
    return [Pair.of(report, second[digest]) for digest, report in first.items()]


def is_start_of(before: EvaluationReport, after: EvaluationReport) -> bool:
    """Tell whether the model of one report can be what the other's was trained from.

    Args:
        before: on a model.
        after: on another: an adapter of the first or on the same base model, or a full model.
    """
    return after.subject.name is None or before.base_model_digest == after.base_model_digest


def _by_data(side: str, reports: Sequence[EvaluationReport]) -> dict[str, EvaluationReport]:
    found: dict[str, EvaluationReport] = {}
    for report in reports:
        if report.data_sha256 in found:
            raise InvalidInputError(
                f"forgetting: two reports {side} on {name_of(report)} ({report.data_sha256[:12]}); "
                "expected one"
            )
        found[report.data_sha256] = report
    return found


def _root_of_ratio(sums: Sequence[Array]) -> Array:
    """Return the square root of the summed rates afterwards by those before; inf without errors before."""
    before, after = (sum(part[..., at] / part[..., at + 1] for part in sums) for at in (0, 2))
    with np.errstate(divide="ignore", invalid="ignore"):
        root: Array = np.sqrt(np.divide(after, before))
    return root
