"""Low-rank updates of linears, summed exactly and truncated with their error known.

    total = weighted_sum([(0.5, first), (0.5, second)])     # rank 16 of two of rank 8, nothing lost
    cut, error = truncate(total, rank=8)                    # the best of that rank; error 0.0 to 1.0

A weighted sum of LoRAs is a LoRA whose factors are concatenated:

    ΔW = Σ wᵢ·Bᵢ·Aᵢ = [w₁B₁ … wₙBₙ] · [A₁; …; Aₙ],   rank = Σ rᵢ

Its singular values follow from QR decompositions of the two factors (B = Q_b·R_b, Aᵀ = Q_a·R_a,
R_b·R_aᵀ = U·S·Vᵀ), without forming ΔW. Cut to rank k, the relative Frobenius error is
√(Σ_{j>k} sⱼ² / Σ sⱼ²), the least possible (Eckart and Young, 1936).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from adapter_hub.errors import InvalidInputError


@dataclass(frozen=True, eq=False)
class Factors:
    """The update of one linear, ΔW = B·A; the scaling is in B.

    Attributes:
        a: `[rank, inputs]`, float32 or float64.
        b: `[outputs, rank]`, of the same dtype.
    """

    a: Tensor
    b: Tensor

    @property
    def rank(self) -> int:
        """The number of rows of A."""
        return int(self.a.shape[0])

    def dense(self) -> Tensor:
        """Return ΔW, `[outputs, inputs]`."""
        return self.b @ self.a


def weighted_sum(parts: Sequence[tuple[float, Factors]]) -> Factors:
    """Return Σ wᵢ·ΔWᵢ as factors, exactly.

    Args:
        parts: weights with updates of one linear, at least one.
    """
    return Factors(
        a=torch.cat([factors.a for _, factors in parts]),
        b=torch.cat([weight * factors.b for weight, factors in parts], dim=1),
    )


def norm(factors: Factors) -> float:
    """Return ‖ΔW‖ in the Frobenius norm, without forming ΔW."""
    _, r_b = torch.linalg.qr(factors.b.double())
    _, r_a = torch.linalg.qr(factors.a.double().T)
    return float(torch.linalg.matrix_norm(r_b @ r_a.T))


def distance(first: Factors, second: Factors) -> float:
    """Return ‖ΔW₁ - ΔW₂‖ / ‖ΔW₁‖ in the Frobenius norm, from the factors."""
    whole, rest = norm(first), norm(weighted_sum([(1.0, first), (-1.0, second)]))
    return rest / whole if whole else (0.0 if rest == 0.0 else math.inf)


def singular_factors(factors: Factors) -> tuple[Tensor, Tensor, Tensor]:
    """Return the singular value decomposition of B·A: `[outputs, k]`, `[k]`, `[k, inputs]`, in float64.

    ΔW is formed only where that is cheaper: where the rank reaches the smaller side of the matrix.
    """
    a, b = factors.a.double(), factors.b.double()
    if factors.rank >= min(a.shape[1], b.shape[0]):
        left, values, right = torch.linalg.svd(b @ a, full_matrices=False)
        return left, values, right
    q_b, r_b = torch.linalg.qr(b)
    q_a, r_a = torch.linalg.qr(a.T)
    left, values, right = torch.linalg.svd(r_b @ r_a.T)
    return q_b @ left, values, right @ q_a.T


def truncate(
    factors: Factors, *, rank: int | None = None, energy: float | None = None
) -> tuple[Factors, float]:
    """Return the nearest update of a lower rank, and its relative error.

    Args:
        factors: what to truncate.
        rank: the rank to keep at most.
        energy: the share of the squared singular values to keep at least, above 0 and at most 1; the rank
            is then the smallest that keeps it.

    Returns:
        The factors in the dtype of the given ones, each with the root of the singular values, and
        ‖ΔW - cut‖ / ‖ΔW‖ in the Frobenius norm; unchanged and 0.0 where nothing has to be cut.

    Raises:
        InvalidInputError: a rank below 1, an energy that is not a share, or both or neither of them.
    """
    check_truncation(rank, energy)
    if rank is not None and factors.rank <= rank:
        return factors, 0.0
    return cut(*singular_factors(factors), rank=rank, energy=energy, dtype=factors.a.dtype)


def nearest(matrix: Tensor, *, rank: int | None = None, energy: float | None = None) -> tuple[Factors, float]:
    """Return the nearest low-rank update to a matrix `[outputs, inputs]`, and its relative error.

    Args and errors are those of `truncate`.
    """
    check_truncation(rank, energy)
    left, values, right = torch.linalg.svd(matrix.double(), full_matrices=False)
    return cut(left, values, right, rank=rank, energy=energy, dtype=matrix.dtype)


def cut(
    left: Tensor,
    values: Tensor,
    right: Tensor,
    *,
    rank: int | None,
    energy: float | None,
    dtype: torch.dtype,
) -> tuple[Factors, float]:
    """Return the largest singular values and their vectors as factors, and the relative error of the rest.

    Args:
        left: `[outputs, k]`.
        values: `[k]`, from the largest to the smallest.
        right: `[k, inputs]`.
        rank: as in `truncate`.
        energy: as in `truncate`.
        dtype: of the factors.
    """
    squares = values.square()
    whole = float(squares.sum())
    kept = len(values) if rank is None else min(rank, len(values))
    if energy is not None:
        short = squares.cumsum(0) < energy * whole * (1 - 1e-12)  # rounding must not cost a rank
        kept = min(kept, int(short.sum()) + 1)
    roots = values[:kept].sqrt()
    factors = Factors(a=(roots[:, None] * right[:kept]).to(dtype), b=(left[:, :kept] * roots).to(dtype))
    rest = float(squares[kept:].sum())
    return factors, math.sqrt(rest / whole) if whole > 0.0 else 0.0


def check_truncation(rank: int | None, energy: float | None) -> None:
    """Refuse what cannot be truncated to.

    Raises:
        InvalidInputError: see `truncate`.
    """
    if (rank is None) == (energy is None):
        raise InvalidInputError("truncation: expected a rank or an energy, one of the two")
    if rank is not None and rank < 1:
        raise InvalidInputError(f"rank {rank}: expected 1 or more")
    if energy is not None and not 0.0 < energy <= 1.0:
        raise InvalidInputError(f"energy {energy}: expected a share above 0 and at most 1, like 0.99")
