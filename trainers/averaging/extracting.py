"""Adapters out of full fine-tunes: the nearest LoRA to what training changed, and what no LoRA can hold.

    artifact, found = extract(base, Path("whisper-da"), Path("out/da"), identity, rank=32)

The change of every linear is cut to its largest singular values (Eckart and Young, 1936), one module in
memory at a time. Norms, biases, embeddings and convolutions have no place in a LoRA: their change is
measured and lost.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import torch

from adapter_hub.artifact.folder import Artifact, seal
from adapter_hub.decoding.probe import measure_probe, probe_logits
from adapter_hub.errors import ConflictError, InvalidInputError, few
from adapter_hub.exchange.importing import Identity, imported_fields
from adapter_hub.files.writing import folder_in_the_making
from adapter_hub.formats.manifest import MAXIMUM_RANK
from adapter_hub.model.base_model import BaseModel, load_base_model
from adapter_hub.reporting import Progress
from adapter_hub.trainers.averaging.adapters import CombinedModule, CombinedUpdate, write_lora
from adapter_hub.trainers.averaging.factors import check_truncation, nearest
from adapter_hub.trainers.averaging.full_models import GENERATION, differing_settings
from adapter_hub.trainers.averaging.tensor_streams import TensorSource


@dataclass(frozen=True)
class Extraction:
    """What an adapter holds of a full model.

    Attributes:
        update: of every linear that changed, with its relative error.
        left_out: by tensor, the relative norm of a change that no LoRA holds: ‖change‖ / ‖base model's‖.
        logits_error: ‖adapter - full model‖ / ‖base model - full model‖ of the probe's logits.
        other_generation: the full model generates by other settings; the adapter runs by the base model's.
    """

    update: CombinedUpdate
    left_out: dict[str, float]
    logits_error: float
    other_generation: bool


def extract(
    base: BaseModel,
    folder: Path,
    out: Path,
    identity: Identity,
    *,
    rank: int | None = None,
    energy: float | None = None,
    progress: Progress | None = None,
) -> tuple[Artifact, Extraction]:
    """Write the nearest adapter to a full fine-tune of a base model.

    Args:
        base: the base model, in float32.
        folder: of the fine-tune.
        out: a folder that does not exist yet.
        identity: of the adapter.
        rank: of every module at most.
        energy: the share of each module's squared singular values to keep; one of the two.
        progress: called with the tensors that are done and their number.

    Raises:
        InvalidInputError: not a fine-tune of this base model, one without any change, or no such rank.
        ConflictError: `out` exists. NotFoundError, IntegrityError: the folder is not a sound model.
    """
    check_truncation(rank, energy)
    if rank is not None and rank > MAXIMUM_RANK:
        raise InvalidInputError(f"rank {rank}: expected at most {MAXIMUM_RANK}")
    base.check_languages([language.decode_language for language in identity.languages])
    if out.exists():
        raise ConflictError(f"{out}: already exists; choose another --out or remove it")
    differing = differing_settings(base.folder, folder)
    if alien := [name for name in differing if name != GENERATION]:
        raise InvalidInputError(
            f"{folder}: not a fine-tune of {base.id}; it differs in its {' and '.join(alien)}"
        )
    full = probe_logits(load_base_model(folder.resolve(), device=base.device.type))
    update, left_out = _changes(base, folder, rank, energy, progress)
    with folder_in_the_making(out) as scratch:
        write_lora(scratch, update, "float32", base, base.pin)
        probe = measure_probe(base, scratch)
        seal(scratch, imported_fields(identity, base.pin) | {"probe": probe})
        away = torch.tensor(probe.adapter_logits) - full
        whole = float((torch.tensor(probe.base_model_logits) - full).norm())
        error = float(away.norm()) / whole if whole else math.inf
    return Artifact.open(out), Extraction(update, left_out, error, GENERATION in differing)


def _changes(
    base: BaseModel, folder: Path, rank: int | None, energy: float | None, progress: Progress | None
) -> tuple[CombinedUpdate, dict[str, float]]:
    """Return the cut change of every linear, and the relative norms of all other changes."""
    mine, theirs = TensorSource(base.folder), TensorSource(folder)
    odd = sorted(mine.tensors.keys() ^ theirs.tensors.keys()) or [
        name for name in sorted(mine.tensors) if mine.tensors[name].shape != theirs.tensors[name].shape
    ]
    if odd:
        raise InvalidInputError(f"{folder}: not a fine-tune of {base.id}; other tensors: {few(odd, most=3)}")
    modules, left_out = [], dict[str, float]()
    for number, name in enumerate(sorted(mine.tensors), start=1):
        before, after = next(mine.whole(name)).float(), next(theirs.whole(name)).float()
        change = after - before
        norm = float(torch.linalg.vector_norm(change))
        if not math.isfinite(norm):
            raise InvalidInputError(f"{folder}: {name} has values that are not finite")
        path = name.removesuffix(".weight")
        if norm and name != path and path in base.linears:
            factors, error = nearest(change, rank=rank, energy=energy)
            if factors.rank > MAXIMUM_RANK:
                raise InvalidInputError(
                    f"{path}: energy {energy} takes rank {factors.rank}, at most {MAXIMUM_RANK} can be "
                    "loaded; give a --rank"
                )
            modules.append(CombinedModule(path, factors, error, norm))
        elif norm:
            left_out[name] = norm / max(float(torch.linalg.vector_norm(before)), 1e-12)
        if progress:
            progress(number, len(mine.tensors))
    if not modules:
        rest = f"; it differs in {few(sorted(left_out), most=3)} only" if left_out else ""
        raise InvalidInputError(f"{folder}: no linear differs from {base.id}{rest}; nothing to extract")
    return CombinedUpdate(tuple(sorted(modules, key=lambda module: module.path))), left_out
