"""Sums and truncations of low-rank updates: exact, and with the error that is stated."""

from __future__ import annotations

import pytest
import torch

from adapter_hub.errors import InvalidInputError
from adapter_hub.trainers.averaging.factors import Factors, nearest, singular_factors, truncate, weighted_sum


def random_factors(rank: int, outputs: int = 24, inputs: int = 16, seed: int = 0) -> Factors:
    generator = torch.Generator().manual_seed(seed)
    return Factors(
        a=torch.randn(rank, inputs, generator=generator), b=torch.randn(outputs, rank, generator=generator)
    )


def relative(found: torch.Tensor, wanted: torch.Tensor) -> float:
    return float(torch.linalg.matrix_norm(found - wanted) / torch.linalg.matrix_norm(wanted))


def test_a_weighted_sum_of_updates_of_different_ranks_is_exact() -> None:
    parts = [
        (0.5, random_factors(2, seed=1)),
        (0.3, random_factors(5, seed=2)),
        (0.2, random_factors(1, seed=3)),
    ]
    total = weighted_sum(parts)
    assert total.rank == 8
    assert relative(total.dense(), sum(w * f.dense() for w, f in parts)) < 1e-6  # type: ignore[arg-type]


def test_the_average_of_an_update_with_itself_is_itself() -> None:
    update = random_factors(4)
    assert relative(weighted_sum([(0.5, update), (0.5, update)]).dense(), update.dense()) < 1e-6


@pytest.mark.parametrize("rank", [3, 40], ids=["through QR", "through the matrix"])
def test_singular_values_are_those_of_the_matrix(rank: int) -> None:
    update = random_factors(rank)
    _, values, _ = singular_factors(update)
    wanted = torch.linalg.svdvals(update.dense().double())
    assert torch.allclose(values[: min(rank, 16)], wanted[: min(rank, 16)], atol=1e-5)


@pytest.mark.parametrize("rank", [1, 2, 5])
def test_the_stated_error_of_a_truncation_is_the_measured_one(rank: int) -> None:
    update = random_factors(8)
    kept, error = truncate(update, rank=rank)
    assert kept.rank == rank
    assert relative(kept.dense(), update.dense()) == pytest.approx(error, rel=1e-4)
    assert nearest(update.dense(), rank=rank)[1] == pytest.approx(error, rel=1e-4)


def test_a_truncation_that_cuts_nothing_changes_nothing() -> None:
    update = random_factors(4)
    assert truncate(update, rank=4) == (update, 0.0)


def test_energy_keeps_the_smallest_rank_that_holds_it() -> None:
    update = random_factors(8)
    squares = torch.linalg.svdvals(update.dense().double()).square()
    kept, error = truncate(update, energy=0.9)
    assert float(squares[: kept.rank].sum() / squares.sum()) >= 0.9
    assert float(squares[: kept.rank - 1].sum() / squares.sum()) < 0.9
    assert error == pytest.approx(float((1 - squares[: kept.rank].sum() / squares.sum()).sqrt()), rel=1e-6)


def test_an_update_of_zero_keeps_one_rank_and_has_no_error() -> None:
    update = Factors(a=torch.zeros(4, 16), b=torch.zeros(24, 4))
    kept, error = truncate(update, energy=0.5)
    assert kept.rank == 1
    assert error == 0.0
    assert not kept.dense().any()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "a rank or an energy"),
        ({"rank": 1, "energy": 0.5}, "a rank or an energy"),
        ({"rank": 0}, "rank 0: expected 1 or more"),
        ({"energy": 0.0}, "energy 0.0: expected a share"),
        ({"energy": 2.0}, "energy 2.0: expected a share"),
        ({"energy": float("nan")}, "energy nan: expected a share"),
    ],
)
def test_a_truncation_that_makes_no_sense_is_refused(options: dict[str, float], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        truncate(random_factors(2), **options)  # type: ignore[arg-type]
