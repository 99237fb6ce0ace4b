"""An adapter as plain PEFT and vLLM take it: PEFT's two files, which name a base model that can be loaded.

    name, revision = loadable_base_model(artifact, None, cache)
    write_peft(artifact, folder, None, (name, revision))

An artifact's own files are in PEFT's format, too. Two things differ: the base model of a manifest may be a
name that nothing finds, and ranks may differ by module, which PEFT has patterns for and vLLM passes over.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from adapter_hub.artifact.folder import Artifact
from adapter_hub.artifact.peft import PREFIX, WEIGHTS_FILE, canonical_config
from adapter_hub.artifact.peft_config import CONFIG_FILE
from adapter_hub.base_model.finding import find_base_model, find_pinned_base_model
from adapter_hub.errors import InvalidInputError
from adapter_hub.exchange.importing import base_model_pin
from adapter_hub.formats.manifest import LoraModule
from adapter_hub.model.base_model import DTYPES
from adapter_hub.model.lora_file import ExpectedFile, named_values, open_weights, read_values


def loadable_base_model(artifact: Artifact, named: str | None, cache: Path) -> tuple[str, str | None]:
    """Return what `from_pretrained` loads an adapter's base model by, and its commit.

    Args:
        artifact: the adapter.
        named: the base model as the user names it; None for the one that the adapter pins.
        cache: the cache's folder.

    Returns:
        The id of a repository with its commit, or a folder of this machine and None.

    Raises:
        NotFoundError: it has no repository, and is not on this machine. InvalidInputError: another one.
    """
    pin = artifact.manifest.base_model
    if named is None:
        return (pin.id, pin.revision) if pin.revision else (str(find_pinned_base_model(pin, cache)[0]), None)
    folder, commit = find_base_model(named, cache=cache)
    found = base_model_pin(folder, named, commit, cache=cache)
    if found.digest != pin.digest:
        raise InvalidInputError(
            f"{artifact.ref}: made for base model {pin.id} ({pin.digest[:19]}…), and {named} is another one "
            f"({found.digest[:19]}…)"
        )
    return (found.id, found.revision) if found.revision else (str(folder.absolute()), None)


def write_peft(
    artifact: Artifact, folder: Path, dtype: str | None, base_model: tuple[str, str | None]
) -> str:
    """Write an adapter's two files.

    Args:
        artifact: an adapter that is one LoRA.
        folder: an empty one.
        dtype: of the tensors; None keeps theirs.
        base_model: what it is loaded onto, and the commit.

    Returns:
        The dtype of the tensors.
    """
    (section,) = artifact.manifest.lora
    one_scaling = len({module.scaling for module in section.modules}) == 1
    kept = dtype or (section.dtype if one_scaling else "float32")  # a product would be rounded
    modules, tensors = _of_one_rank(section.modules, _tensors(artifact))
    config = canonical_config(modules, section.dropout, *base_model)
    (folder / CONFIG_FILE).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    cast = {name: tensors[name].to(DTYPES[kept]).contiguous() for name in sorted(tensors)}
    if odd := [name for name, tensor in cast.items() if not bool(torch.isfinite(tensor).all())]:
        raise InvalidInputError(f"{artifact.ref}: values of {odd[0]} are too large for {kept}; use float32")
    save_file(cast, folder / WEIGHTS_FILE, metadata={"format": "pt"})
    return kept


def _tensors(artifact: Artifact) -> dict[str, Tensor]:
    """Return an adapter's tensors, of the bytes that its manifest lists."""
    (entry,) = (entry for entry in artifact.manifest.files if entry.path == WEIGHTS_FILE)
    with open_weights(artifact.path / WEIGHTS_FILE, artifact.ref) as weights:
        expected = ExpectedFile(entry.sha256, artifact.stamps.get(WEIGHTS_FILE))
        return named_values(weights.header, read_values(weights, expected))


def _of_one_rank(
    modules: Sequence[LoraModule], tensors: Mapping[str, Tensor]
) -> tuple[list[LoraModule], dict[str, Tensor]]:
    """Return the same updates with one rank and one scaling for all modules: zeros change none of them."""
    rank = max(module.rank for module in modules)
    scalings = {module.scaling for module in modules}
    scaling = scalings.pop() if len(scalings) == 1 else 1.0
    made: list[LoraModule] = []
    changed: dict[str, Tensor] = {}
    for module in modules:
        name = f"{PREFIX}{module.path}.lora_{{}}.weight"
        a, b = tensors[name.format("A")], tensors[name.format("B")]
        if module.scaling != scaling:
            b = b.float() * (module.scaling / scaling)
        if module.rank < rank:
            a = torch.cat([a, a.new_zeros(rank - a.shape[0], *a.shape[1:])])
            b = torch.cat([b, b.new_zeros(b.shape[0], rank - b.shape[1], *b.shape[2:])], dim=1)
        changed |= {name.format("A"): a, name.format("B"): b}
        made.append(LoraModule(path=module.path, rank=rank, scaling=scaling))
    return made, changed
