"""Forgetting: the paper's numbers, intervals against a known truth, bad reports."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from adapter_hub.errors import InvalidInputError
from adapter_hub.evaluation.forgetting import forgetting
from adapter_hub.formats.canonical import sha256_hex
from adapter_hub.formats.claims import EvaluationReport

BASE = f"sha256:{'1' * 64}"
ADAPTER = {"name": "test/pl", "version": "1.0.0", "function_digest": f"sha256:{'2' * 64}"}
CLEAN, OTHER = 1.96, 3.65  # the pretrained model's, tables VII and VIII

# what the paper prints: clean, other, forgetting in per cent with two digits
ROWS = [
    (1.96, 3.65, 0.0), (4.50, 7.78, 120), (2.55, 5.21, 38), (7.26, 12.9, 260), (3.24, 6.82, 79),
    (4.90, 8.64, 140), (4.76, 8.57, 140), (1.98, 4.13, 8.9), (1.93, 3.87, 3.4), (4.07, 8.19, 120),
    (3.71, 7.16, 94), (2.02, 4.17, 10), (2.03, 4.24, 12), (1.93, 3.98, 5.3), (1.96, 3.65, 0.0),
    (2.14, 4.30, 15), (1.96, 4.05, 7.1), (2.02, 4.25, 12), (2.01, 4.11, 9.1), (1.86, 3.77, 0.4),
]  # fmt: skip


def report(
    errors: Sequence[int], lengths: Sequence[int], speakers: Sequence[str | None], **changes: Any
) -> EvaluationReport:
    """Return a report with one utterance for each number."""
    counts = [
        {"hits": max(0, n - e), "substitutions": min(e, n), "deletions": 0, "insertions": max(0, e - n)}
        for e, n in zip(errors, lengths, strict=True)
    ]
    rows = [
        {
            "id": f"{i}",
            "audio_sha256": sha256_hex(f"{changes.get('data', 'clean')} {i}".encode()),
            "seconds": 1.0,
            "language": "en",
            "reference": "one",
            "hypothesis": "two",
            "words": count,
            "characters": count,
            **({"speaker": speaker} if speaker else {}),
        }
        for i, (count, speaker) in enumerate(zip(counts, speakers, strict=True))
    ]
    pooled = {name: sum(count[name] for count in counts) for name in counts[0]}
    value = {
        "schema": "evaluation/1",
        "created": "2026-01-03T00:00:00Z",
        "subject": {},
        "base_model_digest": BASE,
        "data": "clean",
        "data_sha256": sha256_hex(changes.get("data", "clean").encode()),
        "split": "test",
        "languages": ["en"],
        "normaliser": "basic/1",
        "decoding": {"beams": 1, "timestamps": False, "language": "en"},
        "primary": "wer",
        "words": pooled,
        "characters": pooled,
        "interval": {"low": 0.0, "high": 1.0, "resamples": 1, "unit": "utterance", "random_seed": 0},
        "seconds": float(len(rows)),
        "wall_seconds": 1.0,
        "packages": {},
        "rows": rows,
        **changes,
    }
    return EvaluationReport.parse(json.dumps(value).encode(), "a test's report")


def with_rate(percent: float, data: str) -> EvaluationReport:
    """Return a report of two speakers whose error rate is that of a table, to its last digit."""
    errors = round(100 * percent)
    return report([errors // 2, errors - errors // 2], [5000, 5000], ["a", "b"], data=data)


@pytest.mark.parametrize(("clean", "other", "printed"), ROWS)
def test_the_paper_s_tables_7_and_8_come_out(clean: float, other: float, printed: float) -> None:
    before = [with_rate(CLEAN, "clean"), with_rate(OTHER, "other")]
    after = [with_rate(other, "other"), with_rate(clean, "clean")]  # sets are paired by their digest
    found = forgetting(before, after)
    assert float(f"{found.percent:.2g}") == pytest.approx(printed, abs=0.051 if printed < 10 else 1e-9)
    assert found.data == ("clean/test", "other/test")


def test_a_routed_model_forgets_nothing_and_the_interval_knows_it() -> None:
    before = report([1, 4, 2], [10, 10, 10], ["a", "b", "b"])
    found = forgetting([before], [before])
    assert (found.percent, found.low, found.high) == (0.0, 0.0, 0.0)
    assert (found.unit, found.speakers) == ("utterance", 2)
    assert str(found) == "+0.0 % (+0.0 to +0.0)"


def test_utterances_are_matched_by_audio_whatever_their_order_and_names() -> None:
    before = report([1, 4, 2], [10, 20, 30], ["a", "b", "b"])
    renamed = [{**row.to_json(), "id": f"x{i}", "speaker": None} for i, row in enumerate(before.rows)]
    after = EvaluationReport.parse(
        json.dumps(
            before.to_json() | {"rows": [{k: v for k, v in r.items() if v} for r in renamed[::-1]]}
        ).encode(),
        "here",
    )
    assert forgetting([before], [after]).low == forgetting([before], [after]).high == 0.0
    assert forgetting([before], [after]).speakers == 2  # one of the reports knows them


def test_the_interval_is_over_speakers_where_they_are_known_and_utterances_otherwise() -> None:
    speakers = [f"{i // 10}" for i in range(100)]
    wrong = [i // 10 for i in range(100)]  # all utterances of a speaker are alike
    known, unknown = (
        forgetting([report([5] * 100, [10] * 100, names)], [report(wrong, [10] * 100, names)])
        for names in (speakers, [None] * 100)
    )
    assert (known.unit, unknown.unit) == ("speaker", "utterance")
    assert known.percent == unknown.percent == pytest.approx(-10.0)
    assert known.high - known.low > 2 * (unknown.high - unknown.low)


def test_intervals_hold_the_truth_about_95_times_of_100() -> None:
    generator, hits, trials = np.random.default_rng(1), 0, 150
    for _ in range(trials):
        voices = np.repeat(generator.uniform(0.5, 1.5, (2, 40)), 3, axis=1)  # hard for both models alike
        sides = []
        for rate in (0.1, 0.15):
            drawn = generator.binomial(50, np.clip(rate * voices, 0, 1))
            names = [f"{i // 3}" for i in range(120)]
            sides.append(
                [
                    report(row.tolist(), [50] * 120, names, data=data)
                    for row, data in zip(drawn, ("clean", "other"), strict=True)
                ]
            )
        found = forgetting(sides[0], sides[1])
        hits += found.low < 50.0 < found.high
    assert 0.90 <= hits / trials <= 0.99


def test_no_error_before_has_no_relative_increase() -> None:
    with pytest.raises(InvalidInputError, match=r"clean/test: no error before, .* take more, or harder"):
        forgetting([report([0, 0], [10, 10], ["a", "b"])], [report([1, 0], [10, 10], ["a", "b"])])


def test_a_single_utterance_with_all_errors_before_leaves_the_interval_open() -> None:
    found = forgetting([report([1, 0], [10, 10], ["a", "b"])], [report([1, 2], [10, 10], ["a", "b"])])
    assert math.isinf(found.high)
    assert found.to_json()["high"] is None
    assert str(found) == "+200.0 % (from -100.0)"


def test_equal_reports_give_equal_intervals_in_little_time() -> None:
    errors = np.random.default_rng(0).integers(0, 3, (2, 2, 2600)).tolist()
    lengths, names = [20] * 2600, [None] * 2600
    before, after = (
        [report(row, lengths, names, data=data) for row, data in zip(side, ("clean", "other"), strict=True)]
        for side in errors
    )
    assert forgetting(before, after) == forgetting(before, after)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data": "noisy"}, r"clean/test \(\w{12}\) has no report after; evaluate both models on it"),
        ({"normaliser": "none/1"}, r"clean/test: normaliser basic/1 and none/1; .* evaluate again"),
        ({"split": "dev"}, "split test and dev"),
        ({"primary": "cer"}, "metric wer and cer"),
        ({"decoding": {"beams": 5, "timestamps": False, "language": "en"}}, "beams 1 and 5"),
        ({"decoding": {"beams": 1, "timestamps": True, "language": "en"}}, "timestamps False and True"),
        (
            {"subject": ADAPTER, "base_model_digest": f"sha256:{'3' * 64}"},
            "base models sha256:111.* and sha256:333.* measured against its own base model",
        ),
    ],
)
def test_reports_that_differ_in_more_than_the_model_are_refused(
    changes: dict[str, Any], message: str
) -> None:
    before = report([1, 1], [10, 10], ["a", "b"])
    with pytest.raises(InvalidInputError, match=message):
        forgetting([before], [report([1, 1], [10, 10], ["a", "b"], **changes)])


def test_a_full_model_has_a_digest_of_its_own() -> None:
    before, after = (
        report([e, 1], [10, 10], ["a", "b"], base_model_digest=f"sha256:{digit * 64}")
        for e, digit in ((1, "1"), (2, "3"))
    )
    assert forgetting([before], [after]).percent == pytest.approx(50.0)


def test_reports_that_do_not_make_one_comparison_are_refused() -> None:
    one = report([1, 1], [10, 10], ["a", "b"])
    other = report([1, 1], [10, 10], ["a", "b"], data="other")
    with pytest.raises(InvalidInputError, match="no reports; expected one before and one after"):
        forgetting([], [one])
    with pytest.raises(InvalidInputError, match=r"two reports before on clean/test .* expected one"):
        forgetting([one, one], [one])
    with pytest.raises(InvalidInputError, match=r"other/test .* has no report before"):
        forgetting([one], [one, other])
    with pytest.raises(InvalidInputError, match="the reports after are on several models"):
        forgetting([one, other], [one, report([1, 1], [10, 10], ["a", "b"], data="other", subject=ADAPTER)])
    forged = report([1, 1, 1], [10, 10, 10], ["a", "b", "b"])
    with pytest.raises(InvalidInputError, match="name the same data, but hold different utterances"):
        forgetting([one], [forged])
