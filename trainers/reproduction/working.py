"""What cells are done with: the project's own train, publish and evaluate, in the folder of a run."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any

from adapter_hub.artifact.folder import Artifact
from adapter_hub.data.dataset import Dataset
from adapter_hub.errors import DivergedError
from adapter_hub.evaluation.evaluating import EvaluationOptions, evaluate
from adapter_hub.exchange import Places, publish
from adapter_hub.files.writing import write_atomically
from adapter_hub.formats.claims import EvaluationReport
from adapter_hub.formats.full_fine_tune import FullFineTune
from adapter_hub.formats.reference import BASE_MODEL
from adapter_hub.model.base_model import load_base_model
from adapter_hub.registry.file import FileRegistry
from adapter_hub.stores.cache import Cache
from adapter_hub.stores.folder import FolderStore
from adapter_hub.trainers.reproduction.cells import Cell, Outcome, adapter_ref
from adapter_hub.trainers.reproduction.paper import Workplace
from adapter_hub.trainers.training import train
from adapter_hub.transcription.opening import load
from adapter_hub.transcription.transcriber import Transcriber


def _registry(place: Workplace) -> FileRegistry:
    """Return the run's registry, read again each time: other workers publish, too."""
    return FileRegistry(place.folder / "registry.json")


def train_cell(place: Workplace, cell: Cell[Any], recipe: str, *, may_diverge: bool) -> Outcome | None:
    """Train by a recipe, and publish the adapter if it makes one.

    Args:
        place: the run's folder and device.
        cell: the training.
        recipe: TOML; its paths are relative to `recipes` in the run's folder.
        may_diverge: it is one of several that are tried.

    Returns:
        Seconds, steps, digest and trained parameters; None if it may diverge and did.

    Raises:
        DivergedError: it diverged and must not.
    """
    path, out = place.folder / "recipes" / f"{cell.slug}.toml", place.trained(cell.name)
    write_atomically(path, recipe.encode())
    began = time.monotonic()
    try:
        made = train(
            path,
            out,
            registries=(_registry(place),),
            cache=Cache(place.cache),
            device=place.device,
            tell=place.tell,
        )
    except DivergedError as error:
        if not may_diverge:
            raise
        place.tell(str(error))
        shutil.rmtree(out.with_name(f"{out.name}.training"), ignore_errors=True)
        return None
    outcome: Outcome = {"seconds": round(time.monotonic() - began, 1)}
    if isinstance(made, FullFineTune):
        model = load_base_model(out, device=place.device, cache=place.cache)
        parameters = sum(p.numel() for p in model.model.parameters())
        outcome |= {"digest": model.digest, "parameters": parameters}
        training = made.training
    else:
        manifest = Artifact.open(out).manifest
        publish_made(place, out)
        own = sum(section.parameters for section in manifest.lora if section.role != "parent")
        gate = manifest.gate.parameters if manifest.gate else 0
        outcome |= {"digest": made.digest, "parameters": own + gate, "gate_parameters": gate}
        training = manifest.training
    assert training is not None
    return outcome | {"steps": training.steps, "training_seconds": training.wall_seconds}


def publish_made(place: Workplace, folder: Path) -> None:
    """Publish an adapter in the run's registry.

    Args:
        place: the run's folder.
        folder: the artifact.
    """
    publish(folder, Places(_registry(place), FolderStore(place.folder / "store")))


def load_trained(place: Workplace, training: str | None, language: str, base_model: str) -> Transcriber:
    """Load what a training made.

    Args:
        place: the run's folder and device.
        training: the name of the cell; None for the base model itself.
        language: of the speech.
        base_model: the folder of the base model.
    """
    places: dict[str, Any] = {
        "registry": str(place.folder / "registry.json"),
        "cache": str(place.cache),
        "device": place.device,
        "language": language,
    }
    if training is None:
        return load(BASE_MODEL, base_model=base_model, **places)
    if place.trained(training).joinpath("adapter.json").is_file():
        return load(adapter_ref(training), base_model=base_model, **places)
    return load(BASE_MODEL, base_model=str(place.trained(training)), **places)


def evaluate_cell(
    place: Workplace, transcriber: Transcriber, dataset: Dataset, options: EvaluationOptions, name: str
) -> EvaluationReport:
    """Decode a data set and write the report.

    Args:
        place: the run's folder and device.
        transcriber: of what is evaluated.
        dataset: a split.
        options: language, beams, batch size.
        name: of the report, below `evaluations` in the run's folder.
    """
    report = evaluate(transcriber, dataset, options)
    write_atomically(place.folder / "evaluations" / name, report.to_bytes())
    return report
