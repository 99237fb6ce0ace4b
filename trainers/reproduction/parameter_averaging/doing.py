"""What a worker does with one cell: render, train, average, test."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import fmean

from adapter_hub.artifact.folder import Artifact
from adapter_hub.base_model.digest import base_model_digest
from adapter_hub.base_model.finding import find_base_model
from adapter_hub.data.dataset import read_dataset
from adapter_hub.evaluation.evaluating import EvaluationOptions
from adapter_hub.formats.reference import AdapterRef
from adapter_hub.model.base_model import load_base_model
from adapter_hub.trainers.averaging.adapters import average
from adapter_hub.trainers.averaging.full_models import ModelAverageOptions, ModelComponent
from adapter_hub.trainers.averaging.model_record import average_full_models
from adapter_hub.trainers.averaging.updates import Component
from adapter_hub.trainers.makers.shorter_input import shorten_input
from adapter_hub.trainers.reproduction.cells import Cell, Outcome, adapter_ref
from adapter_hub.trainers.reproduction.paper import Workplace
from adapter_hub.trainers.reproduction.parameter_averaging.recordings import collect
from adapter_hub.trainers.reproduction.parameter_averaging.settings import (
    DOMAINS,
    ORIGINAL,
    Settings,
)
from adapter_hub.trainers.reproduction.parameter_averaging.speech import write_speech
from adapter_hub.trainers.reproduction.parameter_averaging.systems import BASE, Work
from adapter_hub.trainers.reproduction.working import evaluate_cell, load_trained, publish_made, train_cell


def _base_model(settings: Settings, place: Workplace) -> Path:
    if settings.encoder_seconds:
        return place.trained(BASE)
    folder, _ = find_base_model(settings.base_model, settings.base_model_revision)
    return Path(folder)


def _evaluate(
    settings: Settings, place: Workplace, of: str | None, sets: Mapping[str, str]
) -> dict[str, float]:
    """Decode sets with what a cell made, None for the base model, into reports of given names."""
    decoding = settings.decoding
    transcriber = load_trained(place, of, settings.language, str(_base_model(settings, place)))
    options = EvaluationOptions(
        language=settings.language, beams=decoding.beams, batch_size=decoding.batch_size
    )
    values = {}
    for test, report in sets.items():
        folder, split = (test, "test") if test in DOMAINS else ("original", test)
        dataset = read_dataset(place.folder / "speech" / folder, split)
        values[test] = evaluate_cell(place, transcriber, dataset, options, report).value
    return values


def _cut(settings: Settings, place: Workplace, cell: Cell[Work], _: str | None) -> Outcome:
    """Write the base model with a shorter encoder's input."""
    assert settings.encoder_seconds is not None
    folder, _ = find_base_model(settings.base_model, settings.base_model_revision)
    shorten_input(Path(folder), place.trained(cell.name), settings.encoder_seconds)
    return {"digest": base_model_digest(place.trained(cell.name))}


def _speech(settings: Settings, place: Workplace, cell: Cell[Work], _: str | None) -> Outcome:
    """Synthesise a domain's speech, or collect it, and measure it."""
    name, original = cell.work.domains[0], settings.original
    folder = place.folder / "speech" / name
    (collect if settings.data else write_speech)(settings, folder, name)
    splits = (*original.dev_sets, *ORIGINAL) if name == "original" else ("train", "test")
    datasets = {split: read_dataset(folder, split) for split in splits}
    return {
        "hours": {split: sum(row.clip.seconds() for row in d.rows) / 3600 for split, d in datasets.items()},
        "utterances": {split: len(dataset.rows) for split, dataset in datasets.items()},
    }


def _training(settings: Settings, place: Workplace, cell: Cell[Work], recipe: str | None) -> Outcome:
    """Train; where the steps are tried, test what came out on the original domain's dev sets."""
    assert recipe is not None
    outcome = train_cell(place, cell, recipe, may_diverge=cell.work.dev)
    if outcome is None:
        return {"diverged": True}
    if cell.work.dev:
        after = _evaluate(
            settings,
            place,
            cell.name,
            {test: f"{cell.slug}-{test}.json" for test in settings.original.dev_sets},
        )
        outcome["dev"] = after
    return outcome


def _average(settings: Settings, place: Workplace, cell: Cell[Work], _: str | None) -> Outcome:
    """Average full models, or LoRAs as their updates."""
    out, base = place.trained(cell.name), _base_model(settings, place)
    if out.exists():  # of a worker that ended before its answer
        shutil.rmtree(out)
    ref = AdapterRef.parse(adapter_ref(cell.name))
    folders = [(place.trained(name), weight) for name, weight in cell.work.components]
    if (folders[0][0] / "adapter.json").is_file():
        loaded = load_base_model(base, device=place.device, cache=place.cache)
        components = [Component(Artifact.open(folder), weight) for folder, weight in folders]
        average(loaded, components, out, ref)
        publish_made(place, out)
    else:
        models = [ModelComponent(folder, weight) for folder, weight in folders]
        options = ModelAverageOptions(cell.work.method)
        average_full_models(models, ref, out, base_model=base, options=options)
    return {"components": dict(cell.work.components)}


def _test(settings: Settings, place: Workplace, cell: Cell[Work], _: str | None) -> Outcome:
    """Decode all test sets."""
    reports = {test: f"{cell.slug}-{test}.json" for test in cell.work.domains}
    values = _evaluate(settings, place, cell.work.of, reports)
    return {"values": values, "value": fmean(values.values()), "reports": reports}


RUNNERS: dict[str, Callable[[Settings, Workplace, Cell[Work], str | None], Outcome]] = {
    "base model": _cut,
    "speech": _speech,
    "training": _training,
    "average": _average,
    "test": _test,
}
