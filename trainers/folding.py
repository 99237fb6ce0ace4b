"""Fold a static expert pair into one ordinary LoRA.

    folded = fold(base, pair, Path("out/da-folded"), AdapterRef.parse("mini/da-folded@1.0.0"))

A static gate gives every token the same two shares, so the pair equals the LoRA

    A = [A_p; A_c],   B = [g₀·s_p·B_p, g₁·s_c·B_c]

of rank r_p + r_c, exactly; plain PEFT and vLLM load it. It is a composition without training: method
`average` with the pair as its only component, so that the pair's whole lineage is kept.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from adapter_hub.artifact.folder import Artifact, seal, write_ancestors
from adapter_hub.artifact.peft import WEIGHTS_FILE, canonical_config
from adapter_hub.artifact.peft_config import CONFIG_FILE
from adapter_hub.decoding.probe import measure_probe
from adapter_hub.errors import ConflictError, InvalidInputError
from adapter_hub.files.writing import folder_in_the_making
from adapter_hub.formats.manifest import MAXIMUM_RANK, LoraModule, Parent
from adapter_hub.formats.reference import AdapterRef
from adapter_hub.model.base_model import BaseModel
from adapter_hub.model.loading import ResidentAdapter, load_adapter
from adapter_hub.trainers.methods.trainable import PREFIX


def fold(base: BaseModel, pair: Artifact, out: Path, ref: AdapterRef | None = None) -> Artifact:
    """Write a static pair as one LoRA in float32.

    Args:
        base: the pair's base model, in float32.
        pair: an expert pair whose gate is static.
        out: a folder that does not exist yet.
        ref: name and version of the new adapter; by default the pair's with `-folded` appended to its name.

    Raises:
        InvalidInputError: not an expert pair, a gate that depends on the token, the pair's own name, or a
            rank above the largest that can be loaded.
        ConflictError: `out` exists. IntegrityError: the pair is damaged.
    """
    manifest = pair.manifest
    if manifest.gate is None:
        raise InvalidInputError(
            f"{pair.ref}: its method is {manifest.method}; only expert pairs can be folded"
        )
    if manifest.gate.kind != "static":
        raise InvalidInputError(
            f"{pair.ref}: its gate weighs the two LoRAs differently for every token, which one LoRA cannot; "
            'only a pair with gate.kind = "static" can be folded'
        )
    name, version = (ref.name, ref.version) if ref else (f"{manifest.name}-folded", manifest.version)
    if version is None:
        raise InvalidInputError(f"--as {name}: expected NAME@VERSION, like {name}@{manifest.version}")
    if name == manifest.name:
        raise InvalidInputError(
            f"{name}: is the pair's own name, and a LoRA is not a version of a pair; choose another name"
        )
    _check_ranks(pair)
    if out.exists():
        raise ConflictError(f"{out}: already exists; choose another --out or remove it")
    adapter = load_adapter(base, pair)
    try:
        with folder_in_the_making(out) as folder:
            _write(folder, adapter, pair)
            write_ancestors(folder, [pair])
            fields = _fields(pair, name, version) | {"probe": measure_probe(base, folder)}
            seal(folder, fields)
    except FileExistsError:
        raise ConflictError(f"{out}: was created meanwhile; choose another --out") from None
    return Artifact.open(out)


def _check_ranks(pair: Artifact) -> None:
    """Refuse a pair whose ranks together are more than a LoRA that can be loaded may have."""
    ranks = Counter[str]()
    for section in pair.manifest.lora:
        ranks.update({module.path: module.rank for module in section.modules})
    path, rank = ranks.most_common(1)[0]
    if rank > MAXIMUM_RANK:
        raise InvalidInputError(
            f"{pair.ref}: {path} would have rank {rank}, and at most {MAXIMUM_RANK} can be loaded; "
            "use the pair as it is"
        )


def _write(folder: Path, adapter: ResidentAdapter, pair: Artifact) -> None:
    """Write the pair's weights as PEFT's two files; B already holds shares and scalings."""
    tensors, modules = {}, []
    for part in adapter.layout.modules:
        key = f"{PREFIX}{part.path}.lora_{{}}.weight"
        tensors[key.format("A")] = part.lora_a(adapter.buffer).float().cpu().contiguous()
        tensors[key.format("B")] = part.lora_b(adapter.buffer).float().cpu().contiguous()
        modules.append(LoraModule(path=part.path, rank=part.rank, scaling=1.0))
    save_file(dict(sorted(tensors.items())), folder / WEIGHTS_FILE, metadata={"format": "pt"})
    (folder / WEIGHTS_FILE).chmod(0o644)
    pin = pair.manifest.base_model
    config = canonical_config(modules, 0.0, pin.id, pin.revision)
    (folder / CONFIG_FILE).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _fields(pair: Artifact, name: str, version: str) -> dict[str, Any]:
    manifest = pair.manifest
    component = Parent(
        role="component",
        name=manifest.name,
        version=manifest.version,
        digest=pair.digest,
        weights_digest=manifest.weights_digest,
        function_digest=manifest.function_digest,
        weight=1.0,
    )
    return {
        "name": name,
        "version": version,
        "authors": manifest.authors,
        "license": manifest.license,
        "method": "average",
        "task": manifest.task,
        "timestamps": manifest.timestamps,
        "languages": manifest.languages,
        "base_model": manifest.base_model,
        "parents": [component],
    }
