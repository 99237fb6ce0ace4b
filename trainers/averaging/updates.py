"""The combined updates of adapters, module by module, and how far they are truncated.

    update = combined_update(base, [Component(pl, 0.5), Component(it, 0.5)], AverageOptions(rank=32))
    update.error                                     # relative, of the truncation of all modules together

`adapter_hub.trainers.averaging.adapters` writes one as an adapter.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor

from adapter_hub.artifact.folder import Artifact
from adapter_hub.errors import InvalidInputError
from adapter_hub.formats.manifest import MAXIMUM_RANK, Selection
from adapter_hub.model.base_model import BaseModel
from adapter_hub.model.loading import ResidentAdapter, load_adapter
from adapter_hub.reporting import Progress
from adapter_hub.trainers.averaging.factors import Factors, check_truncation, nearest, norm, truncate
from adapter_hub.trainers.averaging.methods import MethodOptions, method_named

DType = Literal["float32", "float16", "bfloat16"]


@dataclass(frozen=True)
class Component:
    """An adapter and its weight in an average."""

    artifact: Artifact
    weight: float


@dataclass(frozen=True)
class AverageOptions:
    """How components are combined and how far the result is truncated.

    Attributes:
        method: one of `adapter_hub.trainers.averaging.methods`.
        parameters: what that method can be told.
        rank: of every module at most; None keeps the sum of the components' ranks.
        energy: the share of each module's squared singular values to keep; None does not look.
        dtype: of the weights that are written.
        selection: of the components, by method `greedy` and no other.
    """

    method: str = "mean"
    parameters: MethodOptions = field(default_factory=MethodOptions)
    rank: int | None = None
    energy: float | None = None
    dtype: DType = "float32"
    selection: Selection | None = None

    def check(self) -> None:
        """Refuse what cannot be averaged by.

        Raises:
            InvalidInputError: one line.
        """
        method_named(self.method)
        self.parameters.check()
        if (self.method == "greedy") != (self.selection is not None):
            raise InvalidInputError(
                f"method {self.method}: components are chosen on dev data by method greedy, and by no other"
            )
        if self.rank is not None or self.energy is not None:
            check_truncation(self.rank, self.energy)
        if self.rank is not None and self.rank > MAXIMUM_RANK:
            raise InvalidInputError(f"rank {self.rank}: expected at most {MAXIMUM_RANK}")


@dataclass(frozen=True)
class CombinedModule:
    """The combined update of one linear, and what truncation cost.

    Attributes:
        path: of the linear.
        factors: its update, float32.
        error: the relative Frobenius error of the truncation, 0.0 where nothing was cut.
        norm: of the update before truncation.
    """

    path: str
    factors: Factors
    error: float
    norm: float


@dataclass(frozen=True)
class CombinedUpdate:
    """The combined updates of all linears, in the order of their paths."""

    modules: tuple[CombinedModule, ...]

    @property
    def largest_error(self) -> float:
        """The largest relative error of any module."""
        return max((module.error for module in self.modules), default=0.0)

    @cached_property
    def error(self) -> float:
        """The relative Frobenius error of all modules together."""
        whole = math.fsum(module.norm**2 for module in self.modules)
        lost = math.fsum((module.error * module.norm) ** 2 for module in self.modules)
        return math.sqrt(lost / whole) if whole else 0.0


def combined_update(
    base: BaseModel,
    components: Sequence[Component],
    options: AverageOptions,
    progress: Progress | None = None,
) -> CombinedUpdate:
    """Return the combined update of every linear that any component adapts.

    Args:
        base: the components' base model, in float32.
        components: with their weights.
        options: how.
        progress: called with the modules that are done and their number.

    Raises:
        InvalidInputError: a module's rank is more than can be loaded. IntegrityError: as `load_adapter`.
    """
    wholes = whole_updates(base, components, options, progress)
    return CombinedUpdate(tuple(_truncated(path, whole, ranks, options) for path, whole, ranks in wholes))


def whole_updates(
    base: BaseModel,
    components: Sequence[Component],
    options: AverageOptions,
    progress: Progress | None = None,
) -> Iterator[tuple[str, Factors | Tensor, int]]:
    """Yield the combined update of every linear before any truncation.

    Args:
        base: the components' base model, in float32.
        components: with their weights.
        options: how.
        progress: called with the modules that are done and their number.

    Yields:
        The path, in sorted order; factors where the method has them, else a matrix `[outputs, inputs]`; and
        the sum of the components' ranks.

    Raises:
        IntegrityError: as `load_adapter`.
    """
    adapters = [load_adapter(base, component.artifact) for component in components]
    weights = [component.weight for component in components]
    paths = sorted({path for adapter in adapters for path in adapter.layout})
    generator = torch.Generator().manual_seed(options.parameters.random_seed)
    for number, path in enumerate(paths, start=1):
        having = [
            (w, factors_of(a, path)) for w, a in zip(weights, adapters, strict=True) if path in a.layout
        ]
        whole = _whole(base, path, having, len(adapters), options, generator)
        yield path, whole, sum(factors.rank for _, factors in having)
        if progress:
            progress(number, len(paths))


def factors_of(adapter: ResidentAdapter, path: str) -> Factors:
    """Return an adapter's update of one linear in float32, its scaling and static shares in B."""
    module = adapter.layout[path]
    return Factors(
        a=module.lora_a(adapter.buffer).float().cpu(),
        b=module.lora_b(adapter.buffer).float().cpu(),
    )


def _whole(
    base: BaseModel,
    path: str,
    having: Sequence[tuple[float, Factors]],
    components: int,
    options: AverageOptions,
    generator: torch.Generator,
) -> Factors | Tensor:
    """Combine the updates of one linear; a component that does not adapt it adds an update of 0."""
    method = method_named(options.method)
    weights, updates = [weight for weight, _ in having], [factors for _, factors in having]
    if method.combine_factors is not None:
        return method.combine_factors(updates, weights, options.parameters)
    weight = base.linears[path].weight.float().cpu()
    dense = [factors.dense() for factors in updates]
    dense += [torch.zeros_like(weight)] * (components - len(dense))
    shares = torch.tensor([*weights, *[1.0] * (components - len(weights))])
    return method.combine(torch.stack(dense), shares, options.parameters, weight, generator)


def _truncated(path: str, whole: Factors | Tensor, ranks: int, options: AverageOptions) -> CombinedModule:
    """Return a combined update as factors that can be loaded; a matrix keeps at most the ranks together."""
    if isinstance(whole, Factors):
        size = norm(whole)
        if options.rank is None and options.energy is None:
            return CombinedModule(path, _loadable(path, whole), 0.0, size)
        factors, error = truncate(whole, rank=options.rank, energy=options.energy)
        return CombinedModule(path, _loadable(path, factors), error, size)
    rank = options.rank if options.energy is None else None
    if rank is None and options.energy is None:
        rank = min(ranks, MAXIMUM_RANK)
    factors, error = nearest(whole, rank=rank, energy=options.energy)
    return CombinedModule(path, _loadable(path, factors), error, float(torch.linalg.matrix_norm(whole)))


def _loadable(path: str, factors: Factors) -> Factors:
    if factors.rank > MAXIMUM_RANK:
        raise InvalidInputError(
            f"{path}: the average has rank {factors.rank}, and at most {MAXIMUM_RANK} can be loaded; "
            "truncate it with --rank or --energy"
        )
    return factors
