"""Write what was trained as an artifact: PEFT's two files, the ancestors, the manifest."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch
from safetensors.torch import save_file

from adapter_hub.artifact import Artifact, seal, write_ancestors
from adapter_hub.manifest import DataSource, Language, Parent, Training
from adapter_hub.peft_format import CONFIG_FILE, WEIGHTS_FILE
from adapter_hub.runtime.probe import measure_probe
from adapter_hub.trainers.inputs import Inputs
from adapter_hub.trainers.methods import export_config
from adapter_hub.trainers.trainee import Trainee

PACKAGES = ("adapter-hub", "torch", "transformers", "peft", "accelerate", "numpy", "soundfile", "soxr")


def write_adapter(folder: Path, trainee: Trainee, inputs: Inputs, *, steps: int, seconds: float) -> Artifact:
    """Write the trained LoRA to `folder` and seal it.

    Args:
        folder: empty.
        trainee: with the trained PEFT model.
        inputs: what it was trained from.
        steps: optimiser steps.
        seconds: wall-clock time of the training.
    """
    recipe = inputs.file.recipe
    dtype = getattr(torch, recipe.lora.dtype)
    state = {name: tensor.to(dtype) for name, tensor in sorted(trainee.state().items())}
    save_file(state, folder / WEIGHTS_FILE, metadata={"format": "pt"})
    (folder / WEIGHTS_FILE).chmod(0o644)
    config = json.dumps(export_config(recipe), indent=2, sort_keys=True) + "\n"
    (folder / CONFIG_FILE).write_text(config, encoding="utf-8")
    if inputs.parents:
        write_ancestors(folder, list(inputs.parents.values()))
    fields = {
        "name": recipe.adapter.name,
        "version": recipe.adapter.version,
        "authors": recipe.adapter.authors,
        "license": recipe.adapter.license,
        "method": recipe.adapter.method,
        "task": recipe.adapter.task,
        "timestamps": recipe.adapter.timestamps,
        "languages": [Language(tag=recipe.adapter.language, decode_language=recipe.decode_language)],
        "base_model": inputs.base.pin,
        "parents": [_parent(role, parent) for role, parent in sorted(inputs.parents.items())],
        "similarity": inputs.similarity,
        "data": [_source(inputs)],
        "recipe": inputs.file.text,
        "training": _training(inputs, steps, seconds),
        "probe": measure_probe(inputs.base, folder),
    }
    return seal(folder, fields)


def _parent(role: str, parent: Artifact) -> Parent:
    manifest = parent.manifest
    return Parent.model_validate(
        {
            "role": role,
            "name": manifest.name,
            "version": manifest.version,
            "digest": parent.digest,
            "weights_digest": manifest.weights_digest,
        }
    )


def _source(inputs: Inputs) -> DataSource:
    data = inputs.file.recipe.data
    folder = inputs.file.resolve(data.train).resolve()
    return DataSource(
        id=data.id or folder.parent.name,
        revision=data.revision,
        split=folder.name,
        license=data.license,
        hours=round(inputs.train.hours, 4),
        utterances=len(inputs.train.examples),
        sha256=inputs.train.sha256,
    )


def _training(inputs: Inputs, steps: int, seconds: float) -> Training:
    revision, dirty = _code_revision()
    device = inputs.base.device
    hardware = (
        torch.cuda.get_device_name(device)
        if device.type == "cuda"
        else f"{platform.machine()} CPU, {os.cpu_count()} cores, {torch.get_num_threads()} threads"
    )
    return Training(
        steps=steps,
        random_seed=inputs.file.recipe.training.random_seed,
        hardware=hardware,
        wall_seconds=round(seconds, 1),
        packages={name: found for name in PACKAGES if (found := _version(name))},
        code_revision=revision,
        dirty=dirty,
    )


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _code_revision() -> tuple[str | None, bool | None]:
    """Return the commit of this code and whether it was changed since; None outside of a checkout."""
    here = Path(__file__).resolve().parent
    try:
        head = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=here, capture_output=True, text=True, check=True, timeout=10
        ).stdout.strip()
        status = subprocess.run(
            ["git", "status", "--porcelain", "--untracked-files=no", "--", "adapter_hub", "trainers"],
            cwd=here.parent,
            capture_output=True,
            text=True,
            check=True,
            timeout=10,
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return None, None
    return head, bool(status.strip())
