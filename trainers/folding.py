"""Fold a static expert pair into one ordinary LoRA.

    folded = fold(base, pair, Path("out/da-folded"), AdapterRef.parse("mini/da-folded@1.0.0"))

A static gate gives every token the same two shares, so the pair equals the LoRA

    A = [A_p; A_c],   B = [g₀·s_p·B_p, g₁·s_c·B_c]

of rank r_p + r_c, exactly; plain PEFT and vLLM load it. It is a composition without training: method
`average` with the pair as its only component, so that the pair's whole lineage is kept.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from adapter_hub.artifact.folder import Artifact
from adapter_hub.errors import InvalidInputError
from adapter_hub.formats.manifest import MAXIMUM_RANK
from adapter_hub.formats.reference import AdapterRef
from adapter_hub.model.base_model import BaseModel
from adapter_hub.trainers.averaging.adapters import average
from adapter_hub.trainers.averaging.updates import Component


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
    made, _ = average(base, [Component(pair, 1.0)], out, AdapterRef(name, version))
    return made


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
