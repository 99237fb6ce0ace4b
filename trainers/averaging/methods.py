"""How updates of one parameter are combined into one: the mean, and what is tried beside it.

    method = method_named("ties")
    combined = method.combine(updates, weights, MethodOptions(density=0.2), base_weight, generator)
    factors = method.combine_factors(low_rank_updates, weights, options)      # where it has a low rank

`combine` takes the updates ΔWᵢ of one parameter, `[n, *shape]`, and returns one, `[*shape]`; the parameters'
names are those of mergekit, and so are the results on the same tensors. Where the result of a method has
the rank of its updates together, `combine_factors` computes the same from factors and forms no matrix.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from adapter_hub.errors import InvalidInputError
from adapter_hub.trainers.averaging.factors import Factors, singular_factors, weighted_sum


@dataclass(frozen=True)
class MethodOptions:
    """What the methods can be told.

    Attributes:
        density: share of each update's values to keep (`ties`, `dare-ties`, `dare-linear`).
        scale: factor of the combined update (`task-arithmetic`, `ties`, `dare-ties`, `dare-linear`).
        random_seed: of what is dropped (`dare-ties`, `dare-linear`).
    """

    density: float = 1.0
    scale: float = 1.0
    random_seed: int = 0

    def check(self) -> None:
        """Refuse what nothing can be combined with.

        Raises:
            InvalidInputError: one line.
        """
        if not 0.0 < self.density <= 1.0:
            raise InvalidInputError(f"density {self.density}: expected a share above 0 and at most 1")
        if not math.isfinite(self.scale) or self.scale == 0.0:
            raise InvalidInputError(f"scale {self.scale}: expected a finite number other than 0")


# updates [n, *shape], weights [n], options, the base model's parameter [*shape], a generator for draws
Combine = Callable[[Tensor, Tensor, MethodOptions, Tensor, torch.Generator], Tensor]
CombineFactors = Callable[[Sequence[Factors], Sequence[float], MethodOptions], Factors]


@dataclass(frozen=True)
class AveragingMethod:
    """A way to combine updates.

    Attributes:
        name: as users write it.
        source: the paper.
        options: names of the `MethodOptions` that it reads.
        combine: the arithmetic, on whole updates.
        elementwise: whether the values of one place are combined without a look at the others.
        combine_factors: the same on factors, where the result's rank is theirs together; else None.
    """

    name: str
    source: str
    options: tuple[str, ...]
    combine: Combine
    elementwise: bool = False
    combine_factors: CombineFactors | None = None


METHODS: dict[str, AveragingMethod] = {}


def method(
    name: str,
    source: str,
    *,
    options: Sequence[str] = (),
    elementwise: bool = False,
    factored: CombineFactors | None = None,
) -> Callable[[Combine], Combine]:
    """Enter a function into the table of methods."""

    def enter(combine: Combine) -> Combine:
        METHODS[name] = AveragingMethod(name, source, tuple(options), combine, elementwise, factored)
        return combine

    return enter


def mean_of_factors(factors: Sequence[Factors], weights: Sequence[float], options: MethodOptions) -> Factors:
    """Return Σ wᵢ·Bᵢ·Aᵢ as factors, exactly."""
    return weighted_sum(list(zip(weights, factors, strict=True)))


def scaled_sum_of_factors(
    factors: Sequence[Factors], weights: Sequence[float], options: MethodOptions
) -> Factors:
    """Return scale·Σ wᵢ·Bᵢ·Aᵢ as factors, exactly."""
    return weighted_sum([(options.scale * w, f) for w, f in zip(weights, factors, strict=True)])


def tsv_of_factors(factors: Sequence[Factors], weights: Sequence[float], options: MethodOptions) -> Factors:
    """Return `tsv` of low-rank updates as factors: the same singular vectors, found through QR."""
    outputs, inputs = factors[0].b.shape[0], factors[0].a.shape[1]
    share = max(1, min(outputs, inputs) // len(factors))
    triples = []
    for update in factors:
        left, values, right = singular_factors(update)
        kept = min(share, update.rank, len(values))
        triples.append((left[:, :kept], values[:kept], right[:kept]))
    left = _orthogonal(torch.cat([u for u, _, _ in triples], dim=1))
    right = _orthogonal(torch.cat([vh for _, _, vh in triples]))
    values = torch.cat([w * s for w, (_, s, _) in zip(weights, triples, strict=True)])
    dtype = factors[0].a.dtype
    return Factors(a=right.to(dtype), b=(options.scale * left * values).to(dtype))


@method("mean", "Plantinga et al., SLT 2024 (AoDE)", elementwise=True, factored=mean_of_factors)
def mean(
    updates: Tensor, weights: Tensor, options: MethodOptions, base: Tensor, generator: torch.Generator
) -> Tensor:
    """Σ wᵢ·ΔWᵢ: the average of the merged models, where the weights sum to 1 with the base model's share."""
    return torch.tensordot(weights, updates, 1)


@method("greedy", "Wortsman et al., arXiv 2203.05482, recipe 1", elementwise=True, factored=mean_of_factors)
def greedy(
    updates: Tensor, weights: Tensor, options: MethodOptions, base: Tensor, generator: torch.Generator
) -> Tensor:
    """Σ wᵢ·ΔWᵢ of the components that dev data chose: see `adapter_hub.trainers.averaging.greedy`."""
    return torch.tensordot(weights, updates, 1)


@method(
    "task-arithmetic", "Ilharco et al., arXiv 2212.04089", options=("scale",), factored=scaled_sum_of_factors
)
def task_arithmetic(
    updates: Tensor, weights: Tensor, options: MethodOptions, base: Tensor, generator: torch.Generator
) -> Tensor:
    """λ·Σ wᵢ·ΔWᵢ: as the mean, with a scale and weights that need not sum to 1."""
    return options.scale * torch.tensordot(weights, updates, 1)


@method("ties", "Yadav et al., arXiv 2306.01708", options=("density", "scale"))
def ties(
    updates: Tensor, weights: Tensor, options: MethodOptions, base: Tensor, generator: torch.Generator
) -> Tensor:
    """Trim each update to its largest values, elect a sign for each place, average those that agree."""
    trimmed = torch.stack([largest(update, options.density) for update in updates])
    return options.scale * elected(trimmed, weights, normalise=True)


@method("dare-linear", "Yu et al., arXiv 2311.03099", options=("density", "scale", "random_seed"))
def dare_linear(
    updates: Tensor, weights: Tensor, options: MethodOptions, base: Tensor, generator: torch.Generator
) -> Tensor:
    """Drop values at random, scale what is left up to each update's L1 norm, add with weights."""
    dropped = torch.stack([dropped_out(update, options.density, generator) for update in updates])
    return options.scale * torch.tensordot(weights, dropped, 1)


@method("dare-ties", "Yu et al., arXiv 2311.03099", options=("density", "scale", "random_seed"))
def dare_ties(
    updates: Tensor, weights: Tensor, options: MethodOptions, base: Tensor, generator: torch.Generator
) -> Tensor:
    """Drop as `dare-linear`, then elect signs as `ties` and add what agrees."""
    dropped = torch.stack([dropped_out(update, options.density, generator) for update in updates])
    return options.scale * elected(dropped, weights, normalise=False)


@method("most-extreme", "Plantinga et al., SLT 2024, table IV", elementwise=True)
def most_extreme(
    updates: Tensor, weights: Tensor, options: MethodOptions, base: Tensor, generator: torch.Generator
) -> Tensor:
    """Of every parameter the value that is farthest from zero in any expert."""
    return _chosen(updates, base, torch.argmax)


@method("least-extreme", "Plantinga et al., SLT 2024, table IV", elementwise=True)
def least_extreme(
    updates: Tensor, weights: Tensor, options: MethodOptions, base: Tensor, generator: torch.Generator
) -> Tensor:
    """Of every parameter the value that is nearest to zero in any expert."""
    return _chosen(updates, base, torch.argmin)


@method("tsv", "Gargiulo et al., arXiv 2412.00081 (TSV-M)", options=("scale",), factored=tsv_of_factors)
def tsv(
    updates: Tensor, weights: Tensor, options: MethodOptions, base: Tensor, generator: torch.Generator
) -> Tensor:
    """Keep each update's largest singular vectors, as many as there is room for, and whiten them together.

    Of n updates each gives min(outputs, inputs) // n singular triples; their vectors are made orthogonal to
    one another (the nearest orthogonal matrices), so that the updates do not interfere.
    """
    share = max(1, min(updates.shape[1:]) // len(updates))
    triples = []
    for weight, update in zip(weights, updates, strict=True):
        left, values, right = torch.linalg.svd(update, full_matrices=False)
        noise = values[0] * max(update.shape) * torch.finfo(update.dtype).eps
        kept = min(share, int((values > noise).sum()))  # the vectors of a value of 0 are any
        triples.append((left[:, :kept], weight * values[:kept], right[:kept]))
    left = _orthogonal(torch.cat([u for u, _, _ in triples], dim=1))
    right = _orthogonal(torch.cat([vh for _, _, vh in triples]))
    return options.scale * (left * torch.cat([s for _, s, _ in triples])) @ right


def largest(update: Tensor, density: float) -> Tensor:
    """Return an update with only its `density` of values that are largest in magnitude; the rest is 0."""
    if density >= 1:
        return update
    keep = max(1, int(density * update.numel()))
    mask = torch.zeros(update.numel(), dtype=update.dtype, device=update.device)
    mask[torch.argsort(update.abs().reshape(-1), descending=True)[:keep]] = 1
    return update * mask.reshape_as(update)


def dropped_out(update: Tensor, density: float, generator: torch.Generator) -> Tensor:
    """Return an update with each value kept with probability `density`, scaled to the L1 norm of before."""
    if density >= 1:
        return update
    mask = torch.bernoulli(torch.full_like(update, density), generator=generator)
    kept = update * mask
    before, after = update.abs().sum(), kept.abs().sum()
    return kept * (before / after) if before >= 1e-7 and after >= 1e-7 else kept


def elected(updates: Tensor, weights: Tensor, *, normalise: bool) -> Tensor:
    """Return the sum of the weighted values that have the sign of the sum of all; by their weights if asked.

    Args:
        updates: `[n, *shape]`.
        weights: `[n]`.
        normalise: divide by the weights of the values that agree.
    """
    shares = weights.view(-1, *[1] * (updates.ndim - 1))
    weighted = updates * shares
    majority = torch.where(weighted.sum(0) >= 0, 1.0, -1.0)
    agree = weighted.sign() == majority
    total = (weighted * agree).sum(0)
    if not normalise:
        return total
    divisor = (shares * agree).sum(0)
    return total / torch.where(divisor == 0, 1.0, divisor)


def _chosen(updates: Tensor, base: Tensor, choose: Callable[..., Tensor]) -> Tensor:
    experts = base + updates
    index = choose(experts.abs(), dim=0, keepdim=True)
    return experts.gather(0, index)[0] - base


def _orthogonal(matrix: Tensor) -> Tensor:
    """Return the nearest matrix with orthonormal columns or rows (the orthogonal Procrustes problem)."""
    left, _, right = torch.linalg.svd(matrix, full_matrices=False)
    return left @ right


def method_named(name: str) -> AveragingMethod:
    """Return a method by its name.

    Raises:
        InvalidInputError: no such method; the line lists them.
    """
    if name not in METHODS:
        raise InvalidInputError(f"method {name!r}: expected one of {', '.join(METHODS)}")
    return METHODS[name]


def check_weights(weights: Mapping[str, float]) -> None:
    """Refuse weights that are not shares of one model; what they leave is the base model's share.

    Args:
        weights: by reference.

    Raises:
        InvalidInputError: a weight that is not above 0 and finite, or a sum above 1.
    """
    for ref, weight in weights.items():
        if not (math.isfinite(weight) and weight > 0.0):
            raise InvalidInputError(f"weight {weight} of {ref}: expected a number above 0")
    total = math.fsum(weights.values())
    if total > 1.0 + 1e-9:
        raise InvalidInputError(
            f"weights sum to {total:g}: expected at most 1, where the rest is the base model's share; "
            "--scale makes an update larger"
        )


def shares(text: str | None, count: int, base_model: float = 0.0) -> list[float]:
    """Return each component's share from relative weights; what they leave is the base model's.

    Args:
        text: numbers with commas between them, like `4,1,1,1`; None for equal ones.
        count: the number of components.
        base_model: its relative weight.

    Raises:
        InvalidInputError: not so many numbers, or one that is not finite and above 0.
    """
    parts = ["1"] * count if text is None else text.split(",")
    if len(parts) != count:
        raise InvalidInputError(f"--weights {text}: expected {count} numbers, one for each component")
    try:
        weights = [float(part) for part in parts]
    except ValueError:
        raise InvalidInputError(f"--weights {text}: expected numbers, like 4,1,1,1") from None
    if not all(math.isfinite(weight) and weight > 0.0 for weight in weights):
        raise InvalidInputError(f"--weights {text}: expected numbers above 0")
    if not (math.isfinite(base_model) and base_model >= 0.0):
        raise InvalidInputError(f"--with-base-model {base_model}: expected a number of 0 or more")
    total = math.fsum([*weights, base_model])
    return [weight / total for weight in weights]
