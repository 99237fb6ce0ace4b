"""Greedy averages: a component is taken only if the error on dev data is lower with it.

    components, selection = choose(base, [Component(pl, 1.0), Component(it, 1.0)], [dev], ref)
    average(base, components, out, ref, AverageOptions(method="greedy", selection=selection))

The greedy soup of Wortsman et al., *Model soups* (ICML 2022, arXiv 2203.05482), recipe 1: the components are
tried in the order of their own error. The recipe takes one that leaves the error as it is, too; here it would
only make the average larger, so it is left out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from adapter_hub.data.dataset import Dataset, data_sha256
from adapter_hub.errors import InvalidInputError
from adapter_hub.evaluation.evaluating import EvaluationOptions, scored_rows
from adapter_hub.evaluation.scoring import pooled
from adapter_hub.formats.manifest import DevSet, Selection, TriedComponent
from adapter_hub.formats.reference import AdapterRef
from adapter_hub.model.base_model import BaseModel
from adapter_hub.model.blending import blended
from adapter_hub.model.loading import ResidentAdapter, load_adapter
from adapter_hub.reporting import Tell
from adapter_hub.speech.languages import primary_metric
from adapter_hub.trainers.averaging.adapters import check_components
from adapter_hub.trainers.averaging.updates import Component
from adapter_hub.transcription.routing import FixedRoute
from adapter_hub.transcription.transcriber import Transcriber

BEAMS = 1


@dataclass(frozen=True)
class _Ingredient:
    """A component in memory, with its relative weight."""

    component: Component
    adapter: ResidentAdapter


@dataclass
class _Dev:
    """Dev data and the error of averages on it."""

    base: BaseModel
    sets: Sequence[Dataset]
    options: EvaluationOptions
    base_model: float

    def __post_init__(self) -> None:
        self.metrics = [primary_metric(self._languages(dataset)) for dataset in self.sets]

    def error(self, ingredients: Sequence[_Ingredient]) -> float:
        """Return the error of an average: the mean of the primary rates of all sets."""
        components = shared([item.component for item in ingredients], self.base_model)
        parts = [(item.adapter, c.weight) for item, c in zip(ingredients, components, strict=True)]
        spoken = {one.tag: one for c in components for one in c.artifact.manifest.languages}
        route = FixedRoute(self.base, blended(parts), languages=tuple(spoken.values()))
        transcriber = Transcriber(self.base, route)
        rates = []
        for dataset, metric in zip(self.sets, self.metrics, strict=True):
            rows = scored_rows(transcriber, dataset, self.options)
            rates.append(pooled([row.counts(metric) for row in rows]).rate)
        return math.fsum(rates) / len(rates)

    def records(self) -> tuple[DevSet, ...]:
        """Return what the manifest says of the data."""
        return tuple(
            DevSet(data=dataset.name, split=dataset.split, data_sha256=data_sha256(dataset), metric=metric)
            for dataset, metric in zip(self.sets, self.metrics, strict=True)
        )

    def _languages(self, dataset: Dataset) -> tuple[str, ...]:
        given = (self.options.language,) if self.options.language else ()
        return dataset.languages or given


def choose(
    base: BaseModel,
    components: Sequence[Component],
    dev: Sequence[Dataset],
    ref: AdapterRef,
    *,
    language: str | None = None,
    base_model: float = 0.0,
    tell: Tell | None = None,
) -> tuple[list[Component], Selection]:
    """Return the components whose average has the lowest error that greedy search finds, with their shares.

    Averages are measured before any truncation, and decoded greedily.

    Args:
        base: their base model.
        components: with relative weights, at least two.
        dev: data sets that no component was trained or will be tested on; the error is the mean of theirs.
        ref: what the average will be called.
        language: BCP 47 tag of rows without one of their own.
        base_model: the base model's relative weight in every average.
        tell: called with one line after every evaluation.

    Raises:
        InvalidInputError: fewer than two components or some that cannot be averaged, no data, or rows that
            cannot be evaluated.
        IntegrityError: see `load_adapter`.
    """
    if len(components) < 2 or not dev:
        raise InvalidInputError(
            "method greedy: expected two components or more to choose among, and dev data"
        )
    check_components(base, components, ref)
    measure = _Dev(base, dev, EvaluationOptions(language=language, beams=BEAMS), base_model)
    tell = tell or (lambda _: None)
    alone: list[tuple[float, _Ingredient]] = []
    for component in components:
        item = _Ingredient(component, load_adapter(base, component.artifact))
        alone.append((measure.error([item]), item))
        tell(f"{component.artifact.manifest.ref} alone: dev error {100 * alone[-1][0]:.2f} %")
    alone.sort(key=lambda pair: pair[0])  # of equal ones the first that was named
    (best, first), *rest = alone
    kept, tried = [first], [_tried(first, best, None, kept=True)]
    for own, item in rest:
        found = measure.error([*kept, item])
        better = found < best
        tried.append(_tried(item, own, found, kept=better))
        tell(
            f"with {item.component.artifact.manifest.ref}: dev error {100 * found:.2f} %, "
            f"{'kept' if better else 'dropped'}"
        )
        if better:
            kept, best = [*kept, item], found
    chosen = shared([item.component for item in kept], base_model)
    record = Selection(data=measure.records(), normaliser=measure.options.normaliser, tried=tuple(tried))
    return chosen, record


def shared(components: Sequence[Component], base_model: float) -> list[Component]:
    """Return components with their shares of one model instead of relative weights.

    Args:
        components: with relative weights.
        base_model: the base model's.
    """
    total = math.fsum([*(component.weight for component in components), base_model])
    return [replace(component, weight=component.weight / total) for component in components]


def _tried(item: _Ingredient, error: float, error_with: float | None, *, kept: bool) -> TriedComponent:
    artifact = item.component.artifact
    return TriedComponent(
        name=artifact.manifest.name,
        version=artifact.manifest.version,
        digest=artifact.digest,
        error=error,
        error_with=error_with,
        kept=kept,
    )
