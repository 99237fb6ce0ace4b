"""The recipes of the reproduction: the text that each training is done by."""

from __future__ import annotations

from typing import Any

from adapter_hub.trainers.reproduction.cells import Cell, adapter_ref, slug_of
from adapter_hub.trainers.reproduction.parameter_averaging.settings import Settings
from adapter_hub.trainers.reproduction.parameter_averaging.systems import LORA, Work
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
    base_model = f"../trained/{slug_of(work.start)}" if work.start else settings.base_model
    tables: dict[str, dict[str, Any]] = {"adapter": adapter, "base_model": {"id": base_model}, "data": data}
    if work.method == LORA:
        adapter["language"] = settings.language
        tables["lora"] = {"rank": training.lora_rank, "alpha": 2.0 * training.lora_rank}
    tables["training"] = {
        "steps": work.steps,
        "batch_size": training.batch_size,
        "peak_learning_rate": work.rate,
        "warmup_share": training.peak_share,
        "schedule": "slanted-triangle",
        "audio_length": "batch",
        "random_seed": work.random_seed,
    }
    if work.decay != 1.0:
        tables["training"]["layer_decay"] = work.decay
    if work.frozen:
        tables["training"]["freeze"] = ["all-but-encoder-attention"]
    return f"# {cell.name}: a cell of `adapter-hub reproduce`\n\n" + toml_text(tables)
