"""Counting errors: known values, pooling, intervals, and what has no meaning."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest

from adapter_hub.errors import InvalidInputError
from adapter_hub.evaluation.intervals import interval_of, t_quantile
from adapter_hub.evaluation.scoring import count_errors, pooled
from adapter_hub.formats.claims import ErrorCounts, Interval, few_speakers


def counts(hits: int, substitutions: int = 0, deletions: int = 0, insertions: int = 0) -> ErrorCounts:
    return ErrorCounts(hits=hits, substitutions=substitutions, deletions=deletions, insertions=insertions)


@pytest.mark.parametrize(
    ("reference", "hypothesis", "language", "words", "characters"),
    [
        ("En to tre", "en to tre!", "da", counts(3), counts(9)),
        ("en to tre", "en tre", "da", counts(2, 0, 1), counts(6, 0, 3)),
        ("en tre", "en to tre", "da", counts(2, 0, 0, 1), counts(6, 0, 0, 3)),
        ("en to tre", "", "da", counts(0, 0, 3), counts(0, 0, 9)),
        ("ab", "abc", "da", counts(0, 1), counts(2, 0, 0, 1)),
        # spaces count as characters where they separate words, and do not where they are a habit
        ("a b", "ab", "da", counts(0, 1, 1), counts(2, 0, 1)),
        ("二 十", "二十", "zh", counts(0, 1, 1), counts(2)),
        ("हिंदी", "हिंदू", "hi", counts(0, 1), counts(4, 1)),
    ],
)
def test_known_counts(
    reference: str, hypothesis: str, language: str, words: ErrorCounts, characters: ErrorCounts
) -> None:
    assert count_errors(reference, hypothesis, "basic/1", language) == (words, characters)


def test_a_reference_that_is_empty_after_normalising_is_refused() -> None:
    with pytest.raises(InvalidInputError, match=r"reference '…!': empty after normaliser basic/1"):
        count_errors("…!", "en", "basic/1", "da")


def test_rates_are_pooled_and_not_averaged() -> None:
    total = pooled([counts(1), counts(0, 9)])
    assert (total.errors, total.reference_length, total.rate) == (9, 10, 0.9)


@pytest.mark.parametrize(
    ("freedom", "printed"),
    [(1, 12.706), (2, 4.303), (3, 3.182), (5, 2.571), (9, 2.262), (30, 2.042), (100, 1.984), (9999, 1.960)],
)
def test_quantiles_are_those_of_the_printed_table_of_student_s_t(freedom: int, printed: float) -> None:
    assert t_quantile(freedom) == pytest.approx(printed, abs=6e-4)


def voices(random: np.random.Generator, speakers: int, rate: float) -> tuple[list[ErrorCounts], list[str]]:
    """Return counts of speakers who are harder or easier, and say more or less; `rate` on average."""
    rows = []
    for own in random.gamma(3, rate / 3, speakers):
        words = 10 * int(random.integers(5, 40))
        rows.append(counts(words, insertions=int(random.poisson(words * own))))
    return rows, [f"speaker {number}" for number in range(speakers)]


@pytest.mark.parametrize(("speakers", "rate"), [(3, 0.2), (4, 0.05), (6, 0.2), (8, 0.1), (16, 0.1)])
def test_intervals_over_few_speakers_hold_the_truth_about_95_times_of_100(speakers: int, rate: float) -> None:
    random, trials = np.random.default_rng(speakers), 1000
    found = [interval_of(*voices(random, speakers, rate)) for _ in range(trials)]
    assert {item.unit for item in found} == {"speaker"}
    # a bootstrap of speakers does 79 of 100 times with four, 87 with six, 89 with eight
    assert sum(item.low <= rate <= item.high for item in found) > 0.925 * trials


@pytest.mark.parametrize("speakers", [3, 6])
def test_an_interval_holds_where_one_speaker_says_most(speakers: int) -> None:
    random, trials, held = np.random.default_rng(speakers), 1000, 0
    for _ in range(trials):
        words = [2000, *[100] * (speakers - 1)]
        errors = random.poisson(words * random.gamma(3, 0.2 / 3, speakers))
        rows = [counts(length, insertions=int(wrong)) for length, wrong in zip(words, errors, strict=True)]
        found = interval_of(rows, [str(number) for number in range(speakers)])
        held += found.low <= 0.2 <= found.high
    assert held > 0.94 * trials  # with the degrees of freedom of all speakers 90 and 86 times of 100


def test_the_interval_holds_the_rate_and_says_how_it_was_made() -> None:
    rows = [counts(10 - i % 4, i % 4) for i in range(60)]
    found = interval_of(rows, [f"speaker {i % 6}" for i in range(60)])
    assert found.low < pooled(rows).rate < found.high
    assert found.to_json().keys() == {"low", "high", "unit", "method"}


def test_fewer_than_three_speakers_are_not_taken_for_a_sample_of_all() -> None:
    rows = [counts(10)] * 20 + [counts(0, 10)] * 20
    for speakers in ([None, *["a"] * 39], ["a"] * 40, ["a"] * 20 + ["b"] * 20):
        found = interval_of(rows, speakers)
        assert found.unit == "utterance"
        assert 0.3 < found.low < found.high < 0.7
    # two that are always right and one that is always wrong: anything may be true of others
    found = interval_of(rows, ["a"] * 10 + ["b"] * 10 + ["c"] * 20)
    assert (found.unit, found.low, found.high) == ("speaker", 0.0, 1.0)


def test_little_or_faultless_speech_does_not_look_certain() -> None:
    alone = interval_of([counts(9, 1)], ["a"])
    assert (alone.low, alone.high) == (0.0, 1.0)
    faultless = interval_of([counts(10)] * 10, [None] * 10)
    assert (faultless.low, faultless.high) == (0.0, pytest.approx(1 - 0.025**0.01))


@pytest.mark.parametrize(
    ("speakers", "warning"),
    [
        (0, ""),
        (1, "the interval of one speaker says nothing of other speakers; test at least 10"),
        (2, "the interval of 2 speakers says nothing of other speakers; test at least 10"),
        (9, "an interval of 9 speakers is rough; test at least 10"),
        (10, ""),
    ],
)
def test_below_ten_speakers_there_is_a_warning(speakers: int, warning: str) -> None:
    assert few_speakers(speakers) == warning


@pytest.mark.parametrize(
    "value",
    [
        {"resamples": 10, "random_seed": 1},  # as older reports have it: percentiles of a bootstrap
        {"method": "jackknife-t"},
    ],
)
def test_an_interval_says_which_method_it_is_of(value: dict[str, Any]) -> None:
    ends = {"low": 0.1, "high": 0.2, "unit": "speaker"}
    assert Interval.model_validate(ends | value).to_json() == ends | value
    for wrong in ({}, {"method": "jackknife-t", "resamples": 10, "random_seed": 1}, {"resamples": 10}):
        with pytest.raises(ValueError, match="a method, or resamples and random_seed"):
            Interval.model_validate(ends | wrong)


def test_an_interval_of_ten_thousand_utterances_takes_seconds() -> None:
    started = time.process_time()
    interval_of([counts(9, i % 2) for i in range(10_000)], [None] * 10_000)
    assert time.process_time() - started < 20
