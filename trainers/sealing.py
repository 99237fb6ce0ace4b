"""Write a trained adapter as an artifact: weights in PEFT's format, ancestors' manifests, manifest."""

from __future__ import annotations

import json
import os
import platform
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from adapter_hub.artifact.folder import Artifact, seal, write_ancestors
from adapter_hub.artifact.peft import WEIGHTS_FILE
from adapter_hub.artifact.peft_config import CONFIG_FILE
from adapter_hub.artifact.weights import GATE_FILE, ROLE_FOLDERS, Role, lora_section
from adapter_hub.decoding.probe import measure_probe
from adapter_hub.errors import DivergedError
from adapter_hub.formats.manifest import MANIFEST_FILE, GateSection, Parent, Training, longest_input
from adapter_hub.model.loading import load_adapter
from adapter_hub.packages import package_versions
from adapter_hub.speech.languages import whisper_code
from adapter_hub.trainers.inputs import Inputs
from adapter_hub.trainers.loop.families import FAMILIES
from adapter_hub.trainers.loop.fitting import longest_batch
from adapter_hub.trainers.loop.result import TrainingResult
from adapter_hub.trainers.methods.expert_pairs import split_state
from adapter_hub.trainers.methods.injection import export_config
from adapter_hub.trainers.methods.trainable import State, TrainableModel
from adapter_hub.trainers.provenance import code_revision
from adapter_hub.trainers.published_recipe import published_recipe
from adapter_hub.trainers.recipe_tables import AdapterTable, GateTable

PAIR_ROLES: tuple[Role, Role] = ("parent", "child")


def write_adapter(folder: Path, result: TrainingResult, inputs: Inputs) -> Artifact:
    """Write a trained adapter to `folder` and seal it.

    Args:
        folder: an empty folder.
        result: of a training by any method but full-fine-tuning.
        inputs: of the training.

    Raises:
        DivergedError: the weights are too large for the recipe's dtype.
    """
    trainable, fields = result.trainable, _fields(inputs, result)
    if inputs.parents:
        write_ancestors(folder, list(inputs.parents.values()))
    if inputs.file.recipe.adapter.method == "expert-pair":
        return _write_pair(folder, trainable, inputs, fields)
    _write_lora(folder, trainable.state(), inputs)
    return seal(folder, fields | {"probe": measure_probe(inputs.base, folder)})


def _write_lora(folder: Path, state: State, inputs: Inputs) -> None:
    """Write PEFT's two files."""
    recipe = inputs.file.recipe
    _write_tensors(folder / WEIGHTS_FILE, state, recipe.lora.dtype)
    config = json.dumps(export_config(recipe, state, inputs.base.pin), indent=2, sort_keys=True) + "\n"
    (folder / CONFIG_FILE).write_text(config, encoding="utf-8")


def _write_tensors(path: Path, state: State, dtype: str) -> None:
    tensors = {name: state[name].to(getattr(torch, dtype)) for name in sorted(state)}
    for name, tensor in tensors.items():
        if not torch.isfinite(tensor).all():
            raise DivergedError(f"training: {name} is too large for {dtype}; lower peak_learning_rate")
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, path, metadata={"format": "pt"})
    path.chmod(0o644)


def _write_pair(folder: Path, trainable: TrainableModel, inputs: Inputs, fields: dict[str, Any]) -> Artifact:
    """Write both LoRAs, the parent's byte for byte, and the gate."""
    expert, recipe = inputs.parents["expert"], inputs.file.recipe
    child, gate = split_state(trainable.state())
    parent_folder, child_folder = (folder / ROLE_FOLDERS[role] for role in PAIR_ROLES)
    parent_folder.mkdir(parents=True)
    for name in (CONFIG_FILE, WEIGHTS_FILE):
        shutil.copyfile(expert.path / name, parent_folder / name)
    _write_lora(child_folder, child, inputs)
    _write_tensors(folder / GATE_FILE, gate, recipe.lora.dtype)
    fields |= {
        "lora": [lora_section(folder / ROLE_FOLDERS[role], role) for role in PAIR_ROLES],
        "gate": GateSection(
            kind=(recipe.gate or GateTable()).kind, parameters=sum(tensor.numel() for tensor in gate.values())
        ),
    }
    # the probe runs what users run, and a pair is loaded by its manifest: so seal, measure, seal again
    draft = seal(folder, fields)
    probe = measure_probe(inputs.base, load_adapter(inputs.base, draft))
    (folder / MANIFEST_FILE).unlink()
    return seal(folder, fields | {"created": draft.manifest.created, "probe": probe})


def _fields(inputs: Inputs, result: TrainingResult) -> dict[str, Any]:
    adapter = inputs.file.recipe.adapter
    return {
        "name": adapter.name,
        "version": adapter.version,
        "authors": adapter.authors,
        "license": adapter.license,
        "method": adapter.method,
        "task": adapter.task,
        "timestamps": adapter.timestamps,
        "input_seconds": _input_seconds(inputs),
        "languages": [
            {"tag": adapter.language, "decode_language": adapter.decode_language or _code(adapter)}
        ],
        "base_model": inputs.base.pin,
        "parents": [_parent(role, parent) for role, parent in sorted(inputs.parents.items())],
        "similarity": inputs.similarity,
        "data": inputs.train.sources,
        "recipe": published_recipe(inputs.file, inputs.cache),
        "training": training_record(inputs, result),
    }


def _input_seconds(inputs: Inputs) -> float | None:
    """Return the longest input that the adapter or one of its parents was trained on."""
    chunk = FAMILIES[inputs.base.family].chunk_frames(inputs.base.model.config)
    own = longest_batch(inputs.file.recipe.training, chunk, inputs.train.examples)
    return longest_input([own, *(parent.manifest.input_seconds for parent in inputs.parents.values())])


def _code(adapter: AdapterTable) -> str:
    """Return the language's own code."""
    return whisper_code(str(adapter.language))


def _parent(role: str, parent: Artifact) -> Parent:
    manifest = parent.manifest
    return Parent.model_validate(
        {
            "role": role,
            "name": manifest.name,
            "version": manifest.version,
            "digest": parent.digest,
            "weights_digest": manifest.weights_digest,
            "function_digest": manifest.function_digest,
        }
    )


def training_record(inputs: Inputs, result: TrainingResult) -> Training:
    """Return the manifest's record of how a training ran.

    Args:
        inputs: of the training.
        result: of the training.
    """
    revision, dirty = code_revision()
    device = inputs.base.device
    hardware = (
        torch.cuda.get_device_name(device)
        if device.type == "cuda"
        else f"{platform.machine()} CPU, {os.cpu_count()} cores, {torch.get_num_threads()} threads"
    )
    return Training(
        steps=result.steps,
        best_step=result.best_step,
        random_seed=inputs.file.recipe.training.random_seed,
        hardware=hardware if result.processes == 1 else f"{result.processes} processes, each: {hardware}",
        wall_seconds=round(result.seconds, 1),
        packages=package_versions(),
        code_revision=revision,
        dirty=dirty,
        curve=result.curve or None,
    )
