"""Ways to combine updates: the papers' arithmetic, and the numbers of mergekit on the same tensors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from test_average_factors import random_factors, relative

from adapter_hub.errors import InvalidInputError
from adapter_hub.trainers.averaging.factors import Factors
from adapter_hub.trainers.averaging.methods import METHODS, MethodOptions, check_weights, method_named

VECTORS: dict[str, Any] = json.loads(
    (Path(__file__).parent / "vectors" / "merging.json").read_text(encoding="utf-8")
)
BASE = torch.tensor(VECTORS["base"])
EXPERTS = [torch.tensor(expert) for expert in VECTORS["experts"]]
WEIGHTS = torch.tensor(VECTORS["weights"])


def combined(name: str, options: MethodOptions) -> torch.Tensor:
    updates = torch.stack([expert - BASE for expert in EXPERTS])
    generator = torch.Generator().manual_seed(options.random_seed)
    return method_named(name).combine(updates, WEIGHTS, options, BASE, generator)


@pytest.mark.parametrize("name", VECTORS["results"])
def test_a_method_gives_what_mergekit_gives(name: str) -> None:
    vector = VECTORS["results"][name]
    found = BASE + combined(name.partition(" ")[0], MethodOptions(**vector["options"]))
    assert torch.allclose(found, torch.tensor(vector["merged"]), atol=1e-6)


def test_the_mean_is_the_average_of_the_merged_models() -> None:
    wanted = sum(weight * expert for weight, expert in zip(WEIGHTS, EXPERTS, strict=True))
    assert torch.allclose(BASE + combined("mean", MethodOptions()), wanted, atol=1e-6)


@pytest.mark.parametrize(("name", "choose"), [("most-extreme", max), ("least-extreme", min)])
def test_the_extremes_are_chosen_by_the_size_of_the_merged_parameter(name: str, choose: Any) -> None:
    found = BASE + combined(name, MethodOptions())
    for row in range(BASE.shape[0]):
        for column in range(BASE.shape[1]):
            values = [float(expert[row, column]) for expert in EXPERTS]
            assert float(found[row, column]) == pytest.approx(choose(values, key=abs), abs=1e-6)


@pytest.mark.parametrize("name", [name for name, method in METHODS.items() if method.combine_factors])
def test_factors_give_what_whole_matrices_give(name: str) -> None:
    updates = [random_factors(rank, seed=rank) for rank in (2, 3, 4)]
    weights = [0.5, 0.3, 0.2]
    options, method = MethodOptions(scale=1.3), method_named(name)
    assert method.combine_factors is not None
    found = method.combine_factors(updates, weights, options).dense()
    dense = torch.stack([update.dense() for update in updates])
    base, generator = torch.zeros_like(dense[0]), torch.Generator()
    wanted = method.combine(dense, torch.tensor(weights), options, base, generator)
    assert relative(found, wanted) < 1e-5


TSV: dict[str, Any] = json.loads(
    (Path(__file__).parent / "vectors" / "tsv.json").read_text(encoding="utf-8")
)["results"]


@pytest.mark.parametrize("name", TSV)
def test_singular_vectors_of_tasks_are_merged_as_fusion_bench_merges_them(name: str) -> None:
    vector, method = TSV[name], METHODS["tsv"]
    assert method.combine_factors is not None
    updates = [
        Factors(torch.tensor(a), torch.tensor(b)) for a, b in zip(vector["a"], vector["b"], strict=True)
    ]
    dense, options = torch.stack([update.dense() for update in updates]), MethodOptions()
    whole = method.combine(
        dense, torch.ones(len(updates)), options, torch.zeros_like(dense[0]), torch.Generator()
    )
    factored = method.combine_factors(updates, [1.0] * len(updates), options).dense()
    for found in (whole, factored):
        assert relative(found, torch.tensor(vector["merged"])) < 1e-5


def test_updates_in_separate_directions_stay_whole_with_singular_vectors() -> None:
    first, second = torch.zeros(6, 6), torch.zeros(6, 6)
    first[0, 0], second[1, 1] = 2.0, 3.0
    generator = torch.Generator()
    found = METHODS["tsv"].combine(
        torch.stack([first, second]), torch.ones(2), MethodOptions(), torch.zeros(6, 6), generator
    )
    assert relative(found, first + second) < 1e-6


def test_what_is_dropped_is_decided_by_the_random_seed() -> None:
    options = [MethodOptions(density=0.5, random_seed=seed) for seed in (1, 1, 2)]
    first, again, other = (combined("dare-linear", option) for option in options)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"a": 0.7, "b": 0.7}, r"weights sum to 1.4: expected at most 1.*--scale"),
        ({"a": 0.0}, "weight 0.0 of a: expected a number above 0"),
        ({"a": -0.5}, "weight -0.5 of a"),
        ({"a": float("nan")}, "weight nan of a"),
        ({"a": float("inf")}, "weight inf of a"),
    ],
)
def test_weights_that_are_no_shares_are_refused(weights: dict[str, float], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        check_weights(weights)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (MethodOptions(density=0.0), "density 0.0"),
        (MethodOptions(density=1.5), "density 1.5"),
        (MethodOptions(scale=float("nan")), "scale nan"),
        (MethodOptions(scale=0.0), "scale 0.0"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: MethodOptions, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        options.check()


def test_a_method_that_does_not_exist_is_answered_with_those_that_do() -> None:
    with pytest.raises(
        InvalidInputError, match=r"method 'median': expected one of mean, greedy, task-arithmetic, ties"
    ):
        method_named("median")
