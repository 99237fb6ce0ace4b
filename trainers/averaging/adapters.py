"""Averages of adapters: one ordinary LoRA whose update is the combination of its components' updates.

    ref = AdapterRef.parse("me/pl-it@1.0.0")
    average(base, [Component(pl, 0.5), Component(it, 0.5)], Path("out/pl-it"), ref)

What is averaged is the updates ΔW, so that the result is the average of the merged models (Plantinga et al.,
SLT 2024, III-B); never A and B, whose products would mix. Weights that sum to less than 1 leave the rest to
the base model.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import save_file
from torch import Tensor

from adapter_hub.artifact.folder import Artifact, seal, write_ancestors
from adapter_hub.artifact.peft import PREFIX, WEIGHTS_FILE, canonical_config
from adapter_hub.artifact.peft_config import CONFIG_FILE
from adapter_hub.decoding.probe import measure_probe
from adapter_hub.errors import ConflictError, InvalidInputError, few
from adapter_hub.files.writing import folder_in_the_making
from adapter_hub.formats.manifest import (
    MAXIMUM_RANK,
    AverageSection,
    BaseModelPin,
    LoraModule,
    Parent,
    Selection,
)
from adapter_hub.formats.reference import AdapterRef
from adapter_hub.model.base_model import BaseModel, PositionwiseLinear
from adapter_hub.model.loading import ResidentAdapter, load_adapter
from adapter_hub.reporting import Progress
from adapter_hub.trainers.averaging.factors import (
    Factors,
    check_truncation,
    nearest,
    truncate,
    weighted_sum,
)
from adapter_hub.trainers.averaging.methods import MethodOptions, check_weights, method_named

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


def average(
    base: BaseModel,
    components: Sequence[Component],
    out: Path,
    ref: AdapterRef,
    options: AverageOptions | None = None,
    progress: Progress | None = None,
) -> tuple[Artifact, CombinedUpdate]:
    """Write the average of adapters as one LoRA.

    Args:
        base: the components' base model, in float32.
        components: at least one; with method `mean` their weights sum to at most 1.
        out: a folder that does not exist yet.
        ref: name and version of the new adapter.
        options: how; the exact mean by default.
        progress: called with the modules that are done and their number.

    Returns:
        The artifact, and the update with the error of every module.

    Raises:
        InvalidInputError: components that cannot be averaged, weights or options that make no sense.
        ConflictError: `out` exists. IntegrityError: a component is not sound.
    """
    options = options or AverageOptions()
    options.check()
    check_components(base, components, ref)
    check_weights({component.artifact.manifest.ref: component.weight for component in components})
    if out.exists():
        raise ConflictError(f"{out}: already exists; choose another --out or remove it")
    update = combined_update(base, components, options, progress)
    artifacts = [component.artifact for component in components]
    try:
        with folder_in_the_making(out) as folder:
            write_lora(folder, update, options.dtype, base, artifacts[0].manifest.base_model)
            write_ancestors(folder, artifacts)
            fields = _fields(components, ref, options, update)
            seal(folder, fields | {"probe": measure_probe(base, folder)})
    except FileExistsError:
        raise ConflictError(f"{out}: appeared meanwhile; choose another --out") from None
    return Artifact.open(out), update


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
        norm = float(torch.linalg.matrix_norm(_core(whole)))
        if options.rank is None and options.energy is None:
            return CombinedModule(path, _loadable(path, whole), 0.0, norm)
        factors, error = truncate(whole, rank=options.rank, energy=options.energy)
        return CombinedModule(path, _loadable(path, factors), error, norm)
    rank = options.rank if options.energy is None else None
    if rank is None and options.energy is None:
        rank = min(ranks, MAXIMUM_RANK)
    factors, error = nearest(whole, rank=rank, energy=options.energy)
    return CombinedModule(path, _loadable(path, factors), error, float(torch.linalg.matrix_norm(whole)))


def _core(factors: Factors) -> torch.Tensor:
    """Return a small matrix with the singular values of B·A."""
    _, r_b = torch.linalg.qr(factors.b.double())
    _, r_a = torch.linalg.qr(factors.a.double().T)
    return r_b @ r_a.T


def _loadable(path: str, factors: Factors) -> Factors:
    if factors.rank > MAXIMUM_RANK:
        raise InvalidInputError(
            f"{path}: the average has rank {factors.rank}, and at most {MAXIMUM_RANK} can be loaded; "
            "truncate it with --rank or --energy"
        )
    return factors


def write_lora(
    folder: Path, update: CombinedUpdate, dtype: DType, base: BaseModel, pin: BaseModelPin
) -> None:
    """Write an update as PEFT's two files; the scaling is 1, B holds all of it.

    Args:
        folder: where to.
        update: of every linear.
        dtype: of the tensors.
        base: the base model: of its convolutions PEFT's tensors have one more dimension.
        pin: of it, whose id the config names.
    """
    tensors, modules = {}, []
    for module in update.modules:
        key = f"{PREFIX}{module.path}.lora_{{}}.weight"
        last = (1,) if isinstance(base.linears[module.path], PositionwiseLinear) else ()
        for name, factor in (("A", module.factors.a), ("B", module.factors.b)):
            tensors[key.format(name)] = (
                factor.to(getattr(torch, dtype)).reshape(*factor.shape, *last).contiguous()
            )
        modules.append(LoraModule(path=module.path, rank=module.factors.rank, scaling=1.0))
    odd = [name for name, tensor in tensors.items() if not bool(torch.isfinite(tensor).all())]
    if odd:
        raise InvalidInputError(f"average: values too large for {dtype} in {few(odd)}; use --dtype float32")
    save_file(dict(sorted(tensors.items())), folder / WEIGHTS_FILE, metadata={"format": "pt"})
    (folder / WEIGHTS_FILE).chmod(0o644)
    config = canonical_config(modules, 0.0, pin.id, pin.revision)
    (folder / CONFIG_FILE).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def check_components(base: BaseModel, components: Sequence[Component], ref: AdapterRef) -> None:
    """Refuse what cannot be averaged.

    Args:
        base: the loaded base model.
        components: adapters.
        ref: of the average.

    Raises:
        InvalidInputError: every reason.
    """
    if not components:
        raise InvalidInputError("average: no component; name at least one adapter")
    if ref.version is None:
        raise InvalidInputError(f"--as {ref}: expected NAME@VERSION, like {ref.name}@1.0.0")
    if problems := list(_component_problems(base, components, ref)):
        raise InvalidInputError(f"average: {few(problems)}")


def _component_problems(base: BaseModel, components: Sequence[Component], ref: AdapterRef) -> Iterator[str]:
    """Yield in one line each why adapters cannot be averaged."""
    first = components[0].artifact.manifest
    seen: dict[str, str] = {}
    for component in components:
        manifest = component.artifact.manifest
        digest = component.artifact.digest
        if digest in seen:
            yield f"{manifest.ref} is named twice; add its weights up"
        seen[digest] = manifest.ref
        if manifest.base_model.digest != base.digest:
            yield (
                f"{manifest.ref} is for base model {manifest.base_model.id}, and {base.id} is loaded; "
                "only adapters of one base model can be averaged"
            )
        if manifest.gate is not None and manifest.gate.kind == "token":
            yield (
                f"{manifest.ref} weighs its experts for every token, which no single LoRA does; average "
                "its parent and its child as adapters of their own, or a pair with a static gate"
            )
        if manifest.task != first.task:
            yield f"{manifest.ref} is for {manifest.task}, and {first.ref} for {first.task}"
        if manifest.timestamps != first.timestamps:
            yield f"of {manifest.ref} and {first.ref} only one was trained with timestamps"
        if manifest.name == ref.name and manifest.method != "average":
            yield f"{ref.name} is a component's own name, and an average is not a version of it"
    yield from _language_problems(components)


def _language_problems(components: Sequence[Component]) -> Iterator[str]:
    known: dict[str, tuple[str, str]] = {}
    for component in components:
        manifest = component.artifact.manifest
        for language in manifest.languages:
            before, whose = known.setdefault(language.tag, (language.decode_language, manifest.ref))
            if before != language.decode_language:
                yield (
                    f"{language.tag} is decoded as {before} by {whose} and as {language.decode_language} "
                    f"by {manifest.ref}"
                )


def _fields(
    components: Sequence[Component],
    ref: AdapterRef,
    options: AverageOptions,
    update: CombinedUpdate,
) -> dict[str, Any]:
    """Return what the manifest says of an average, apart from its files and probe."""
    manifests = [component.artifact.manifest for component in components]
    parents = [
        Parent(
            role="component",
            name=component.artifact.manifest.name,
            version=component.artifact.manifest.version,
            digest=component.artifact.digest,
            weights_digest=component.artifact.manifest.weights_digest,
            function_digest=component.artifact.manifest.function_digest,
            weight=component.weight,
        )
        for component in components
    ]
    languages = {language.tag: language for manifest in manifests for language in manifest.languages}
    licences = sorted({manifest.license for manifest in manifests})
    return {
        "name": ref.name,
        "version": ref.version,
        "authors": list(dict.fromkeys(author for manifest in manifests for author in manifest.authors)),
        "license": licences[0] if len(licences) == 1 else " AND ".join(f"({text})" for text in licences),
        "method": "average",
        "task": manifests[0].task,
        "timestamps": manifests[0].timestamps,
        "languages": [languages[tag] for tag in sorted(languages)],
        "base_model": manifests[0].base_model,
        "parents": parents,
        "average": average_section(options, update),
    }


def average_section(options: AverageOptions, update: CombinedUpdate) -> AverageSection:
    """Return the record of how an average was computed, from which an audit computes it again."""
    wanted = method_named(options.method).options
    given = {name: getattr(options.parameters, name) for name in wanted}
    return AverageSection(
        method=options.method,
        density=given.get("density"),
        scale=given.get("scale"),
        random_seed=given.get("random_seed"),
        rank=options.rank,
        energy=options.energy,
        error=update.error,
        largest_error=update.largest_error,
        errors={module.path: module.error for module in update.modules if module.error > 0.0} or None,
        selection=options.selection,
    )


def differences(base: BaseModel, published: Artifact, components: Sequence[Component]) -> Iterator[str]:
    """Yield how an average's weights differ from what its components give.

    The update of every linear is computed again from the components' bytes and compared with the published
    one: no farther from it than the recorded truncation and the rounding of the published dtype allow.

    Args:
        base: their base model, in float32.
        published: an adapter of method `average`.
        components: its parents' artifacts with the recorded weights.
    """
    section = published.manifest.average
    options = AverageOptions() if section is None else options_of(section)
    exact = (
        replace(options, rank=None, energy=None) if method_named(options.method).combine_factors else options
    )
    again = {module.path: module for module in combined_update(base, components, exact).modules}
    adapter = load_adapter(base, published)
    allowed = (section.errors if section else None) or {}
    rounding = {"float32": 1e-5, "float16": 2e-3, "bfloat16": 1e-2}[published.manifest.lora[0].dtype]
    for path in sorted(again.keys() ^ set(adapter.layout)):
        yield f"{path}: adapted by {'the components' if path in again else 'the average'} only"
    for path in sorted(again.keys() & set(adapter.layout)):
        error = distance(again[path].factors, factors_of(adapter, path))
        if error > allowed.get(path, 0.0) + rounding:
            yield (
                f"{path}: the update is {error:.3g} from what the components give, relative to it; "
                f"{allowed.get(path, 0.0):.3g} is recorded"
            )


def distance(first: Factors, second: Factors) -> float:
    """Return ‖ΔW₁ - ΔW₂‖ / ‖ΔW₁‖ in the Frobenius norm, from the factors."""
    gap = weighted_sum([(1.0, first), (-1.0, second)])
    whole = float(torch.linalg.matrix_norm(_core(first)))
    rest = float(torch.linalg.matrix_norm(_core(gap)))
    return rest / whole if whole else (0.0 if rest == 0.0 else math.inf)


def options_of(section: AverageSection) -> AverageOptions:
    """Return the options that a manifest records."""
    defaults = MethodOptions()
    return AverageOptions(
        method=section.method,
        parameters=MethodOptions(
            density=defaults.density if section.density is None else section.density,
            scale=defaults.scale if section.scale is None else section.scale,
            random_seed=defaults.random_seed if section.random_seed is None else section.random_seed,
        ),
        rank=section.rank,
        energy=section.energy,
        selection=section.selection,
    )
