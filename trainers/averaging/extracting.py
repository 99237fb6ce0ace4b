"""Adapters out of full fine-tunes: the nearest LoRA to what training changed, and what no LoRA can hold.

    options = ExtractionOptions(rank=32)
    artifact, found = extract("openai/whisper-small", Path("whisper-da"), Path("out/da"), identity, options)

The change of every linear is cut to its largest singular values (Eckart and Young, 1936). Norms, biases,
embeddings and convolutions have no place in a LoRA: their change is measured and lost.

The full model answers the probe first and is gone before the base model is loaded; after that its tensors
are read one by one. So what is in memory at once is one model and the largest tensor.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from adapter_hub.artifact.folder import Artifact, seal
from adapter_hub.base_model.finding import find_base_model
from adapter_hub.decoding.probe import measure_probe, probe_logits
from adapter_hub.errors import ConflictError, InvalidInputError, few
from adapter_hub.exchange.importing import Identity, imported_fields
from adapter_hub.files.writing import folder_in_the_making
from adapter_hub.formats.full_fine_tune import FullFineTune
from adapter_hub.formats.manifest import MAXIMUM_RANK, ExtractionSection, Probe
from adapter_hub.model.base_model import BaseModel, load_base_model
from adapter_hub.model.loading import load_adapter
from adapter_hub.reporting import Progress
from adapter_hub.trainers.averaging.adapters import write_lora
from adapter_hub.trainers.averaging.factors import check_truncation, nearest
from adapter_hub.trainers.averaging.full_models import GENERATION, differing_settings
from adapter_hub.trainers.averaging.model_record import record_of
from adapter_hub.trainers.averaging.tensor_streams import TensorSource
from adapter_hub.trainers.averaging.updates import CombinedModule, CombinedUpdate, factors_of

LARGEST_RATIO = 1e15  # that is recorded; a base model's tensor of zeros makes any change infinite
NOTHING = 1e-6  # of the logits' norm: less is rounding
ROUNDING = 1e-3  # between two measurements of one error, on different machines


@dataclass(frozen=True)
class ExtractionOptions:
    """How far a change is truncated, and where models are.

    Attributes:
        rank: of every module at most.
        energy: the share of each module's squared singular values to keep; one of the two.
        device: torch's name of it; None takes a GPU if there is one.
        cache: folder in which base models are found; by default the user's.
    """

    rank: int | None = None
    energy: float | None = None
    device: str | None = None
    cache: Path | None = None

    def check(self) -> None:
        """Refuse what cannot be truncated to.

        Raises:
            InvalidInputError: one line.
        """
        check_truncation(self.rank, self.energy)
        if self.rank is not None and self.rank > MAXIMUM_RANK:
            raise InvalidInputError(f"rank {self.rank}: expected at most {MAXIMUM_RANK}")


@dataclass(frozen=True)
class Extraction:
    """What an adapter holds of a full model.

    Attributes:
        update: of every linear that changed, with its relative error.
        section: what the manifest records.
        other_generation: the full model generates by other settings; the adapter runs by the base model's.
    """

    update: CombinedUpdate
    section: ExtractionSection
    other_generation: bool


@dataclass(frozen=True)
class _FullModel:
    """What is kept of a full model that was loaded: its digest, its record and its answer to the probe."""

    digest: str
    record: FullFineTune | None
    logits: Tensor


def extract(
    base_model: str | Path,
    folder: Path,
    out: Path,
    identity: Identity,
    options: ExtractionOptions,
    progress: Progress | None = None,
) -> tuple[Artifact, Extraction]:
    """Write the nearest adapter to a full fine-tune of a base model; `out` appears whole or not at all.

    Args:
        base_model: what it was fine-tuned from, as `load_base_model` finds it.
        folder: of the fine-tune.
        out: a folder that does not exist yet.
        identity: of the adapter.
        options: how far to truncate.
        progress: called with the tensors that are done and their number.

    Raises:
        InvalidInputError: not a fine-tune of this base model, one without any change, or no such rank.
        ConflictError: `out` exists. NotFoundError, IntegrityError: a folder is not a sound model.
    """
    options.check()
    if out.exists():
        raise ConflictError(f"{out}: already exists; choose another --out or remove it")
    place, _ = find_base_model(base_model, cache=options.cache)
    differing = differing_settings(place, folder)
    if alien := [name for name in differing if name != GENERATION]:
        raise InvalidInputError(
            f"{folder}: not a fine-tune of {base_model}; it differs in its {' and '.join(alien)}"
        )
    _check_tensors(place, folder, base_model)
    full = _full_model(folder, identity, options)
    base = load_base_model(base_model, device=options.device, cache=options.cache)
    base.check_languages([language.decode_language for language in identity.languages])
    update, left_out = _changes(base, folder, options, progress)
    try:
        with folder_in_the_making(out) as scratch:
            write_lora(scratch, update, "float32", base, base.pin)
            probe = measure_probe(base, scratch)
            section = _section(full, update, left_out, probe, options)
            fields: dict[str, Any] = {"probe": probe, "extraction": section}
            seal(scratch, imported_fields(identity, base.pin) | fields)
    except FileExistsError:
        raise ConflictError(f"{out}: appeared meanwhile; choose another --out") from None
    return Artifact.open(out), Extraction(update, section, GENERATION in differing)


def _full_model(folder: Path, identity: Identity, options: ExtractionOptions) -> _FullModel:
    """Load the full model, let it answer the probe, and drop it."""
    model = load_base_model(folder.resolve(), device=options.device, cache=options.cache)
    model.check_languages([language.decode_language for language in identity.languages])
    return _FullModel(model.digest, record_of(folder, model.digest), probe_logits(model))


def _check_tensors(base: Path, folder: Path, name: str | Path) -> None:
    mine, theirs = TensorSource(base).tensors, TensorSource(folder).tensors
    odd = sorted(mine.keys() ^ theirs.keys()) or [
        key for key in sorted(mine) if mine[key].shape != theirs[key].shape
    ]
    if odd:
        raise InvalidInputError(f"{folder}: not a fine-tune of {name}; other tensors: {few(odd, most=3)}")


@dataclass(frozen=True)
class _Change:
    """The change of one tensor: `path` is its linear's, None where no LoRA holds it."""

    name: str
    path: str | None
    values: Tensor
    norm: float
    base_norm: float

    @property
    def ratio(self) -> float:
        return min(self.norm / max(self.base_norm, 1e-12), LARGEST_RATIO)


def _tensor_changes(base: BaseModel, folder: Path, progress: Progress | None = None) -> Iterator[_Change]:
    """Yield what changed, one tensor in memory at a time."""
    mine, theirs = TensorSource(base.folder), TensorSource(folder)
    for number, name in enumerate(sorted(mine.tensors), start=1):
        before = next(mine.whole(name)).float()
        change = next(theirs.whole(name)).float() - before
        norm = float(torch.linalg.vector_norm(change))
        if not math.isfinite(norm):
            raise InvalidInputError(f"{folder}: {name} has values that are not finite")
        if norm:
            path = name.removesuffix(".weight")
            linear = path if path != name and path in base.linears else None
            if linear:  # a Parakeet's pointwise convolutions have one more dimension
                change = change.flatten(1)
            yield _Change(name, linear, change, norm, float(torch.linalg.vector_norm(before)))
        if progress:
            progress(number, len(mine.tensors))


def _changes(
    base: BaseModel, folder: Path, options: ExtractionOptions, progress: Progress | None
) -> tuple[CombinedUpdate, dict[str, float]]:
    """Return the cut change of every linear, and the relative norms of all other changes."""
    modules, left_out = [], dict[str, float]()
    for change in _tensor_changes(base, folder, progress):
        if change.path is None:
            left_out[change.name] = change.ratio
            continue
        factors, error = nearest(change.values, rank=options.rank, energy=options.energy)
        if factors.rank > MAXIMUM_RANK:
            raise InvalidInputError(
                f"{change.path}: energy {options.energy} takes rank {factors.rank}, at most {MAXIMUM_RANK} "
                "can be loaded; give a --rank"
            )
        modules.append(CombinedModule(change.path, factors, min(error, 1.0), change.norm))
    if not modules:
        rest = f"; it differs in {few(sorted(left_out), most=3)} only" if left_out else ""
        raise InvalidInputError(f"{folder}: no linear differs from {base.id}{rest}; nothing to extract")
    return CombinedUpdate(tuple(sorted(modules, key=lambda module: module.path))), left_out


def _section(
    full: _FullModel,
    update: CombinedUpdate,
    left_out: dict[str, float],
    probe: Probe,
    options: ExtractionOptions,
) -> ExtractionSection:
    adapter, plain = torch.tensor(probe.adapter_logits), torch.tensor(probe.base_model_logits)
    whole = float((plain - full.logits).norm())
    differ = whole > NOTHING * float(plain.norm())
    return ExtractionSection(
        digest=full.digest,
        name=full.record.name if full.record else None,
        version=full.record.version if full.record else None,
        rank=options.rank,
        energy=options.energy,
        error=update.error,
        largest_error=update.largest_error,
        errors={module.path: module.error for module in update.modules if module.error > 0.0} or None,
        left_out=left_out or None,
        logits_error=min(float((adapter - full.logits).norm()) / whole, LARGEST_RATIO) if differ else None,
    )


def extraction_differences(base: BaseModel, published: Artifact, folder: Path) -> Iterator[str]:
    """Yield how an extracted adapter is farther from its full model than its manifest says.

    Every error is measured again, from both models' tensors and the adapter's, without any decomposition.

    Args:
        base: its base model, in float32.
        published: an adapter with a section `extraction`.
        folder: of the full model with the recorded digest.
    """
    section = published.manifest.extraction
    assert section is not None, published.ref
    adapter = load_adapter(base, published)
    errors, left_out = section.errors or {}, section.left_out or {}
    found: dict[str, float] = {}
    held = set()
    for change in _tensor_changes(base, folder):
        if change.path is None or change.path not in adapter.layout:
            found[change.name] = change.ratio
            continue
        held.add(change.path)
        rest = change.values - factors_of(adapter, change.path).dense().cpu()
        error, told = float(torch.linalg.vector_norm(rest)) / change.norm, errors.get(change.path, 0.0)
        if abs(error - told) > ROUNDING:
            yield f"{change.path}: {error:.4f} of the full model's change is missing; {told:.4f} is recorded"
    for path in sorted(set(adapter.layout) - held):
        yield f"{path}: adapted, and not changed in the full model"
    for name in sorted(found.keys() | left_out.keys()):
        here, told = found.get(name, 0.0), left_out.get(name, 0.0)
        if abs(here - told) > ROUNDING * max(here, told):
            yield f"{name}: a change of {here:.3g} is left out; {told:.3g} is recorded"
