"""Comparing systems: rates, intervals and verdicts against values computed by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pytest
from reproductions import PAPER, read

from adapter_hub.errors import InvalidInputError
from adapter_hub.trainers.reproduction.comparing import (
    Difference,
    Resampler,
    System,
    TestScore,
    difference,
    interval,
)
from adapter_hub.trainers.reproduction.lora_whisper.findings import Findings
from adapter_hub.trainers.reproduction.lora_whisper.orderings import orderings
from adapter_hub.trainers.reproduction.lora_whisper.plan import Known
from adapter_hub.trainers.reproduction.lora_whisper.settings import paper_numbers
from adapter_hub.trainers.reproduction.lora_whisper.shapes import lora_parameters
from adapter_hub.trainers.reproduction.lora_whisper.systems import TABLES

TestScore.__test__ = False  # type: ignore[attr-defined] - not a test, whatever pytest makes of its name


def score(errors: Sequence[float], lengths: list[int] | None = None, names: str = "abcdefgh") -> TestScore:
    """Return a score with one block for each number."""
    sizes = lengths or [10] * len(errors)
    blocks = tuple(names[: len(errors)])
    array = np.array([errors, sizes], float)
    return TestScore(sum(errors) / sum(sizes), blocks, array[0], array[1], 1.0, "wer")


def system(name: str, **scores: list[TestScore]) -> System:
    """Return a system with the random seeds 1, 2, … on each language."""
    return System(name, {k: dict(enumerate(found, 1)) for k, found in scores.items()})


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
    rates = sampler().rates(one.scores["da"].values(), "E1, da")
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


def test_seeds_that_disagree_widen_the_interval_by_student_s_t() -> None:
    one = system("E7", da=[score([1, 1, 1]), score([4, 4, 4]), score([1, 1, 1])])
    other = system("E8", da=[score([2, 2, 2])])
    found = difference(sampler(), one, other, ("da",))
    assert found is not None
    assert found.value == pytest.approx(0.0)
    # the mean of 0.1, 0.4, 0.1 has a standard error of 0.1; t with 2 degrees of freedom reaches 4.30
    assert (found.low, found.high) == pytest.approx((-0.43, 0.43), abs=0.06)
    assert found.lower == "cannot tell"


def test_intervals_of_four_seeds_hold_the_truth_about_95_times_of_100() -> None:
    generator, hits = np.random.default_rng(1), 0
    drawn = Resampler(500, 0)
    for _ in range(400):
        errors = 300 + 60 * generator.standard_normal(4)  # of 1000, the truth is 0.3
        one = system("E7", da=[score([e, e], [1000, 1000]) for e in errors])
        low, high = interval(drawn, one, ("da",))
        hits += low < 0.3 < high
    assert 0.92 <= hits / 400 <= 0.98


def test_languages_with_the_same_speakers_share_their_draws() -> None:
    one = system("E7", da=[score([1, 9])], el=[score([1, 9])])
    low, high = interval(sampler(), one, ("da", "el"))
    assert (low, high) == pytest.approx((0.1, 0.9))  # a hard voice is hard in both languages
    apart = system("E7", da=[score([1, 9])], el=[score([1, 9], names="xy")])
    rates = [sampler().rates(apart.scores[k].values(), "E7") for k in ("da", "el")]
    assert abs(np.corrcoef(rates)[0, 1]) < 0.1


def test_only_seeds_that_both_systems_have_are_compared() -> None:
    one = System("E7", {"da": {1: score([1, 1]), 2: score([6, 6]), 4: score([9, 9])}})
    other = System("E8", {"da": {1: score([2, 2]), 2: score([7, 7]), 3: score([0, 0])}})
    found = difference(sampler(), one, other, ("da",))
    assert found is not None
    assert (found.low, found.value, found.high) == pytest.approx((-0.1, -0.1, -0.1))


def test_a_difference_that_is_not_measured_is_none() -> None:
    one = system("E7", da=[score([1, 2])])
    assert difference(sampler(), one, system("E8"), ("da",)) is None
    assert difference(sampler(), one, one, ("da", "el")) is None


def test_random_seeds_are_paired_so_that_what_a_seed_does_to_every_system_cancels() -> None:
    one = system("E7", da=[score([1, 1]), score([6, 6]), score([3, 3])])
    other = system("E8", da=[score([2, 2]), score([7, 7]), score([4, 4])])
    found = difference(sampler(), one, other, ("da",))
    assert found is not None
    assert (found.low, found.value, found.high) == pytest.approx((-0.1, -0.1, -0.1))
    assert found.p < 0.001
    low, high = interval(sampler(), one, ("da",))  # though each of them depends on its seeds
    assert high - low > 0.3


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [(-0.004, 0.009, "held"), (-0.004, 0.011, "cannot tell"), (0.011, 0.02, "not held"),
     (-0.03, -0.012, "not held"), (-0.02, 0.02, "cannot tell")],
)  # fmt: skip
def test_equivalence_needs_the_whole_ninety_per_cent_interval_within_the_margin(
    low: float, high: float, verdict: str
) -> None:
    found = Difference((low + high) / 2, low - 0.01, high + 0.01, low, high, p=1.0)
    assert found.equivalent(0.01) == verdict


def test_tests_of_different_utterances_are_not_compared() -> None:
    one = system("E7", da=[score([1, 2]), score([1, 2], names="xy")])
    with pytest.raises(InvalidInputError, match="E7, da: tests of different utterances"):
        interval(sampler(), one, ("da",))
    other = system("E8", da=[score([1, 2], names="xy")])
    with pytest.raises(InvalidInputError, match="E1 and E8, da: tests of different utterances"):
        difference(sampler(), system("E1", da=[score([1, 2])]), other, ("da",))


@pytest.mark.parametrize(
    ("rank", "millions"), [(8, 3.244), (16, 6.488), (32, 12.976), (48, 19.464), (64, 25.952)]
)
def test_the_parameters_of_table_2_are_those_of_whisper_small(rank: int, millions: float) -> None:
    assert lora_parameters("whisper-small", rank) / 1e6 == pytest.approx(millions, abs=5e-4)


def test_the_parameters_of_the_embedded_model_are_those_of_its_published_adapters() -> None:
    from adapter_hub import embedded
    from adapter_hub.artifact.folder import Artifact

    artifact = Artifact.open(embedded.store_path() / "mini" / "pl" / "1.0.0")
    section = artifact.manifest.lora[0]
    assert section.parameters == lora_parameters("whisper-mini", section.modules[0].rank)


def test_every_claim_that_is_called_the_paper_s_holds_on_the_paper_s_numbers() -> None:
    paper, settings = paper_numbers(), read(PAPER)
    found = Findings(settings, tuple(TABLES), [], {}, Known(), {})
    for name in ("E1", "E2", "E3", "E4", "E5", "E6", "E7", "E8", "E9"):
        rates = paper["base"].get(name, {}) | paper["new"].get(name, {})
        found.systems[name] = printed(name, rates)
    for language, rates in paper["table5"].items():
        found.known.nearest[language] = rates["most_similar"]
        found.initialisations[language] = {
            start: printed(start, {language: rate})
            for start, rate in rates.items()
            if start != "most_similar"
        }
    for rank, rate in zip(paper["table2"]["ranks"], paper["table2"]["wer"], strict=True):
        found.ranks[rank] = printed(f"rank {rank}", {settings.rank_sweep.language: rate})
    claims = [claim for claim in orderings(found, sampler()) if claim.differences]
    assert {claim.table for claim in claims} == {2, 3, 4, 5}
    assert [claim.claim for claim in claims if claim.verdict != "held"] == []


def printed(name: str, rates: Mapping[str, float]) -> System:
    """Return a system with the rates of a paper that tells no more than these."""
    languages = {k: rate for k, rate in rates.items() if k != "avg"}
    return system(name, **{k: [score([rate, rate], [100, 100])] for k, rate in languages.items()})
