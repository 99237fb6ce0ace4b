"""The recipes of the reproduction: the text that each training is done by."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from adapter_hub.base_model.naming import split_claim
from adapter_hub.trainers.reproduction.cells import Cell, adapter_ref, slug_of
from adapter_hub.trainers.reproduction.parameter_averaging.settings import Settings
from adapter_hub.trainers.reproduction.parameter_averaging.systems import BASE, LORA, Work
from adapter_hub.trainers.reproduction.toml import toml_text

LICENSE = "Apache-2.0"  # of the synthesised speech and of what is trained on it


def recipe_text(settings: Settings, cell: Cell[Work]) -> str:
    """Return the recipe of a training cell; paths are relative to it, so that a run's folder can be moved.

    Args:
        settings: what all cells share.
        cell: the training; its steps are known.
    """
    work, training = cell.work, settings.training
    name, version = adapter_ref(cell.name).split("@")
    adapter = {"name": name, "version": version, "method": work.method, "license": LICENSE}
    sources = [
        {
            "folder": f"../speech/{domain}/train",
            "language": settings.language,
            "domain": domain,
            "license": LICENSE,
        }
        for domain in work.domains
    ]
    data: dict[str, Any] = {"license": LICENSE, "train": sources}
    if work.exponent is not None:
        data["sampling_exponent"] = work.exponent
    tables: dict[str, dict[str, Any]] = {"adapter": adapter, "base_model": _base_model(settings, work)}
    tables["data"] = data
    if work.method == LORA:
        adapter["language"] = settings.language
        tables["lora"] = {"rank": training.lora_rank, "alpha": 2.0 * training.lora_rank}
    tables["training"] = {
        "steps": work.steps,
        "batch_size": training.batch_size,
        "peak_learning_rate": work.rate,
        "warmup_share": training.peak_share,
        "schedule": "slanted-triangle",
        "audio_length": training.audio_length,
        "random_seed": work.random_seed,
    }
    if training.precision != "float32":
        tables["training"]["precision"] = training.precision
    if work.decay != 1.0:
        tables["training"]["layer_decay"] = work.decay
    if work.frozen:
        tables["training"]["freeze"] = ["all-but-encoder-attention"]
    return f"# {cell.name}: a cell of `adapter-hub reproduce`\n\n" + toml_text(tables)


def _base_model(settings: Settings, work: Work) -> dict[str, str]:
    """Return what a training starts from: what another one made, or the base model."""
    if work.start or settings.encoder_seconds:
        return {"id": f"../trained/{slug_of(work.start or BASE)}"}
    revision, (claimed, place) = settings.base_model_revision, split_claim(settings.base_model)
    folder = Path(place)
    found = {"id": str(folder.resolve()) if folder.is_dir() else place}
    if claimed is not None:
        found = {"id": claimed, "path": str(folder.resolve())}
    return found if revision is None else found | {"revision": revision}
