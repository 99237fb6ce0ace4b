"""Counting errors: known values, pooling, intervals, and what has no meaning."""

from __future__ import annotations

import time

import pytest

from adapter_hub.errors import InvalidInputError
from adapter_hub.evaluation.intervals import interval_of
from adapter_hub.evaluation.scoring import count_errors, pooled
from adapter_hub.formats.claims import ErrorCounts


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


def test_the_interval_is_the_same_for_the_same_seed_and_holds_the_rate() -> None:
    rows = [counts(10 - i % 4, i % 4) for i in range(60)]
    speakers = [f"speaker {i % 6}" for i in range(60)]
    first = interval_of(rows, speakers, random_seed=3)
    assert interval_of(rows, speakers, random_seed=3) == first
    assert interval_of(rows, speakers, random_seed=4) != first
    assert first.low < pooled(rows).rate < first.high
    assert (first.unit, first.resamples, first.random_seed) == ("speaker", 10_000, 3)


def test_speakers_are_drawn_whole_and_utterances_where_they_are_not_known() -> None:
    # two speakers, one always right and one always wrong: drawing speakers gives the widest interval
    rows = [counts(10)] * 20 + [counts(0, 10)] * 20
    by_speaker = interval_of(rows, ["a"] * 20 + ["b"] * 20)
    assert (by_speaker.low, by_speaker.high) == (0.0, 1.0)
    for speakers in ([None, *["a"] * 39], ["a"] * 40):
        by_utterance = interval_of(rows, speakers)
        assert by_utterance.unit == "utterance"
        assert 0.3 < by_utterance.low < by_utterance.high < 0.7


def test_an_interval_of_ten_thousand_utterances_takes_seconds() -> None:
    started = time.process_time()
    interval_of([counts(9, i % 2) for i in range(10_000)], [None] * 10_000)
    assert time.process_time() - started < 20
