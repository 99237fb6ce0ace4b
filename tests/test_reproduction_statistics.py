"""Comparing systems: rates, intervals and verdicts against values computed by hand."""

from __future__ import annotations

import numpy as np
import pytest

from adapter_hub.errors import InvalidInputError
from adapter_hub.trainers.reproduction.comparing import (
    Difference,
    Resampler,
    System,
    TestScore,
    difference,
    interval,
)
from adapter_hub.trainers.reproduction.shapes import lora_parameters

TestScore.__test__ = False  # type: ignore[attr-defined] - no test, whatever pytest makes of its name


def score(errors: list[int], lengths: list[int] | None = None, names: str = "abcdefgh") -> TestScore:
    """Return a score with one block for each number."""
    sizes = lengths or [10] * len(errors)
    blocks = tuple(names[: len(errors)])
    array = np.array([errors, sizes], float)
    return TestScore(sum(errors) / sum(sizes), blocks, array[0], array[1], 1.0, "wer")


def system(name: str, **scores: list[TestScore]) -> System:
    return System(name, scores)


def sampler() -> Resampler:
    return Resampler(4000, 0)


def test_a_system_s_value_is_the_mean_of_its_seeds_and_its_average_that_of_its_languages() -> None:
    found = system("E7", da=[score([1, 3]), score([2, 4])], el=[score([0, 8])])
    assert found.value("da") == pytest.approx(0.25)  # (4 / 20 + 6 / 20) / 2
    assert found.average(("da", "el")) == pytest.approx(0.325)
    assert found.average(("da", "cy")) is None
    assert found.value("cy") is None


def test_rates_are_pooled_over_the_drawn_speakers() -> None:
    one = system("E1", da=[score([1, 5], [10, 20])])
    rates = sampler().rates(one, "da")
    # both twice the first, one of each, both the second: a quarter, a half, a quarter of the draws
    values, counts = np.unique(rates.round(9), return_counts=True)
    assert values == pytest.approx([0.1, 0.2, 0.25])
    assert counts / len(rates) == pytest.approx([0.25, 0.5, 0.25], abs=0.03)
    assert interval(sampler(), one, ("da",)) == pytest.approx((0.1, 0.25))


def test_speakers_are_drawn_together_so_that_a_constant_difference_has_no_spread() -> None:
    one = system("E7", da=[score([1, 5, 2, 9])])
    other = system("E8", da=[score([2, 6, 3, 10])])
    found = difference(sampler(), one, other, ("da",))
    assert found is not None
    assert found.value == pytest.approx(-0.1)
    assert (found.low, found.high) == pytest.approx((-0.1, -0.1))
    assert found.lower == "held"
    turned = difference(sampler(), other, one, ("da",))
    assert turned is not None
    assert turned.lower == "not held"


def test_seeds_that_disagree_widen_the_interval() -> None:
    one = system("E7", da=[score([1, 1, 1]), score([4, 4, 4]), score([1, 1, 1])])
    other = system("E8", da=[score([2, 2, 2])])
    found = difference(sampler(), one, other, ("da",))
    assert found is not None
    assert found.value == pytest.approx(0.0)
    assert (found.low, found.high) == pytest.approx((-0.1, 0.2))  # all seeds good (8/27), all bad (1/27)
    assert found.lower == "cannot tell"


def test_a_difference_that_is_not_measured_is_none() -> None:
    one = system("E7", da=[score([1, 2])])
    assert difference(sampler(), one, system("E8"), ("da",)) is None
    assert difference(sampler(), one, one, ("da", "el")) is None


def test_random_seeds_are_drawn_together_so_that_what_a_seed_does_to_every_system_cancels() -> None:
    one = system("E7", da=[score([1, 1]), score([6, 6]), score([3, 3])])
    other = system("E8", da=[score([2, 2]), score([7, 7]), score([4, 4])])
    found = difference(sampler(), one, other, ("da",))
    assert found is not None
    assert (found.low, found.value, found.high) == pytest.approx((-0.1, -0.1, -0.1))
    low, high = interval(sampler(), one, ("da",))  # though each of them depends on its seeds
    assert high - low > 0.3


def test_a_seed_on_one_language_says_nothing_of_the_same_seed_on_another() -> None:
    scores = [score([1, 2, 3]), score([3, 2, 9])]
    found = system("E7", da=scores, el=scores)
    assert np.array_equal(sampler().rates(found, "da"), sampler().rates(found, "da"))
    assert not np.array_equal(sampler().rates(found, "da"), sampler().rates(found, "el"))


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [(-0.004, 0.009, "held"), (-0.004, 0.011, "cannot tell"), (0.011, 0.02, "not held"),
     (-0.03, -0.012, "not held"), (-0.02, 0.02, "cannot tell")],
)  # fmt: skip
def test_equivalence_needs_the_whole_ninety_per_cent_interval_within_the_margin(
    low: float, high: float, verdict: str
) -> None:
    found = Difference((low + high) / 2, low - 0.01, high + 0.01, low, high)
    assert found.equivalent(0.01) == verdict


def test_tests_of_different_utterances_are_not_compared() -> None:
    one = system("E7", da=[score([1, 2]), score([1, 2], names="xy")])
    with pytest.raises(InvalidInputError, match="E7, da: tests of different utterances"):
        sampler().rates(one, "da")


@pytest.mark.parametrize(
    ("rank", "millions"), [(8, 3.244), (16, 6.488), (32, 12.976), (48, 19.464), (64, 25.952)]
)
def test_the_parameters_of_table_2_are_those_of_whisper_small(rank: int, millions: float) -> None:
    assert lora_parameters("whisper-small", rank) / 1e6 == pytest.approx(millions, abs=5e-4)


def test_the_parameters_of_the_embedded_model_are_those_of_its_published_adapters() -> None:
    from adapter_hub import embedded
    from adapter_hub.artifact import Artifact

    artifact = Artifact.open(embedded.store_path() / "mini" / "pl" / "1.0.0")
    section = artifact.manifest.lora[0]
    assert section.parameters == lora_parameters("whisper-mini", section.modules[0].rank)
