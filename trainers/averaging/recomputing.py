"""The record of how an average of adapters was computed, and the average computed again from it.

list(differences(base, published, components))     # [] where the published weights are what was recorded
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from adapter_hub.artifact.folder import Artifact
from adapter_hub.formats.manifest import AverageSection
from adapter_hub.model.base_model import BaseModel
from adapter_hub.model.loading import load_adapter
from adapter_hub.trainers.averaging.factors import distance
from adapter_hub.trainers.averaging.methods import MethodOptions, method_named
from adapter_hub.trainers.averaging.updates import (
    AverageOptions,
    CombinedUpdate,
    Component,
    combined_update,
    factors_of,
)


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
