"""Averages of adapters: one ordinary LoRA whose update is the combination of its components' updates.

    ref = AdapterRef.parse("me/pl-it@1.0.0")
    average(base, [Component(pl, 0.5), Component(it, 0.5)], Path("out/pl-it"), ref)

What is averaged is the updates ΔW, so that the result is the average of the merged models (Plantinga et al.,
SLT 2024, III-B); never A and B, whose products would mix. Weights that sum to less than 1 leave the rest to
the base model.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from adapter_hub.artifact.folder import Artifact, seal, write_ancestors
from adapter_hub.artifact.peft import PREFIX, WEIGHTS_FILE, canonical_config
from adapter_hub.artifact.peft_config import CONFIG_FILE
from adapter_hub.decoding.probe import measure_probe
from adapter_hub.errors import ConflictError, InvalidInputError, few
from adapter_hub.files.writing import folder_in_the_making
from adapter_hub.formats.manifest import (
    BaseModelPin,
    LoraModule,
    Parent,
    joint_license,
    longest_input,
)
from adapter_hub.formats.reference import AdapterRef
from adapter_hub.model.base_model import BaseModel, PositionwiseLinear
from adapter_hub.reporting import Progress
from adapter_hub.trainers.averaging.methods import check_weights
from adapter_hub.trainers.averaging.recomputing import average_section
from adapter_hub.trainers.averaging.updates import (
    AverageOptions,
    CombinedUpdate,
    Component,
    DType,
    combined_update,
)


def average(
    base: BaseModel,
    components: Sequence[Component],
    out: Path,
    ref: AdapterRef,
    options: AverageOptions | None = None,
    progress: Progress | None = None,
) -> tuple[Artifact, CombinedUpdate]:
    """Write the average of adapters as one LoRA.

    Args:
        base: the components' base model, in float32.
        components: at least one; with method `mean` their weights sum to at most 1.
        out: a folder that does not exist yet.
        ref: name and version of the new adapter.
        options: how; the exact mean by default.
        progress: called with the modules that are done and their number.

    Returns:
        The artifact, and the update with the error of every module.

    Raises:
        InvalidInputError: components that cannot be averaged, weights or options that make no sense.
        ConflictError: `out` exists. IntegrityError: a component is not sound.
    """
    options = options or AverageOptions()
    options.check()
    check_components(base, components, ref)
    check_weights({component.artifact.manifest.ref: component.weight for component in components})
    if out.exists():
        raise ConflictError(f"{out}: already exists; choose another --out or remove it")
    update = combined_update(base, components, options, progress)
    artifacts = [component.artifact for component in components]
    try:
        with folder_in_the_making(out) as folder:
            write_lora(folder, update, options.dtype, base, artifacts[0].manifest.base_model)
            write_ancestors(folder, artifacts)
            fields = _fields(components, ref, options, update)
            seal(folder, fields | {"probe": measure_probe(base, folder)})
    except FileExistsError:
        raise ConflictError(f"{out}: appeared meanwhile; choose another --out") from None
    return Artifact.open(out), update


def write_lora(
    folder: Path, update: CombinedUpdate, dtype: DType, base: BaseModel, pin: BaseModelPin
) -> None:
    """Write an update as PEFT's two files; the scaling is 1, B holds all of it.

    Args:
        folder: where to.
        update: of every linear.
        dtype: of the tensors.
        base: the base model: of its convolutions PEFT's tensors have one more dimension.
        pin: of it, whose id the config names.
    """
    tensors, modules = {}, []
    for module in update.modules:
        key = f"{PREFIX}{module.path}.lora_{{}}.weight"
        last = (1,) if isinstance(base.linears[module.path], PositionwiseLinear) else ()
        for name, factor in (("A", module.factors.a), ("B", module.factors.b)):
            tensors[key.format(name)] = (
                factor.to(getattr(torch, dtype)).reshape(*factor.shape, *last).contiguous()
            )
        modules.append(LoraModule(path=module.path, rank=module.factors.rank, scaling=1.0))
    odd = [name for name, tensor in tensors.items() if not bool(torch.isfinite(tensor).all())]
    if odd:
        raise InvalidInputError(f"average: values too large for {dtype} in {few(odd)}; use --dtype float32")
    save_file(dict(sorted(tensors.items())), folder / WEIGHTS_FILE, metadata={"format": "pt"})
    (folder / WEIGHTS_FILE).chmod(0o644)
    config = canonical_config(modules, 0.0, pin.id, pin.revision)
    (folder / CONFIG_FILE).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def check_components(base: BaseModel, components: Sequence[Component], ref: AdapterRef) -> None:
    """Refuse what cannot be averaged.

    Args:
        base: the loaded base model.
        components: adapters.
        ref: of the average.

    Raises:
        InvalidInputError: every reason.
    """
    if not components:
        raise InvalidInputError("average: no component; name at least one adapter")
    if ref.version is None:
        raise InvalidInputError(f"--as {ref}: expected NAME@VERSION, like {ref.name}@1.0.0")
    if problems := list(_component_problems(base, components, ref)):
        raise InvalidInputError(f"average: {few(problems)}")


def _component_problems(base: BaseModel, components: Sequence[Component], ref: AdapterRef) -> Iterator[str]:
    """Yield in one line each why adapters cannot be averaged."""
    first = components[0].artifact.manifest
    seen: dict[str, str] = {}
    for component in components:
        manifest = component.artifact.manifest
        digest = component.artifact.digest
        if digest in seen:
            yield f"{manifest.ref} is named twice; add its weights up"
        seen[digest] = manifest.ref
        if manifest.base_model.digest != base.digest:
            yield (
                f"{manifest.ref} is for base model {manifest.base_model.id}, and {base.id} is loaded; "
                "only adapters of one base model can be averaged"
            )
        if manifest.gate is not None and manifest.gate.kind == "token":
            yield (
                f"{manifest.ref} weighs its experts for every token, which no single LoRA does; average "
                "its parent and its child as adapters of their own, or a pair with a static gate"
            )
        if manifest.task != first.task:
            yield f"{manifest.ref} is for {manifest.task}, and {first.ref} for {first.task}"
        if manifest.timestamps != first.timestamps:
            yield f"of {manifest.ref} and {first.ref} only one was trained with timestamps"
        if manifest.name == ref.name and manifest.method != "average":
            yield f"{ref.name} is a component's own name, and an average is not a version of it"
    yield from _language_problems(components)


def _language_problems(components: Sequence[Component]) -> Iterator[str]:
    known: dict[str, tuple[str, str]] = {}
    for component in components:
        manifest = component.artifact.manifest
        for language in manifest.languages:
            before, whose = known.setdefault(language.tag, (language.decode_language, manifest.ref))
            if before != language.decode_language:
                yield (
                    f"{language.tag} is decoded as {before} by {whose} and as {language.decode_language} "
                    f"by {manifest.ref}"
                )


def _fields(
    components: Sequence[Component],
    ref: AdapterRef,
    options: AverageOptions,
    update: CombinedUpdate,
) -> dict[str, Any]:
    """Return what the manifest says of an average, apart from its files and probe."""
    manifests = [component.artifact.manifest for component in components]
    parents = [
        Parent(
            role="component",
            name=component.artifact.manifest.name,
            version=component.artifact.manifest.version,
            digest=component.artifact.digest,
            weights_digest=component.artifact.manifest.weights_digest,
            function_digest=component.artifact.manifest.function_digest,
            weight=component.weight,
        )
        for component in components
    ]
    languages = {language.tag: language for manifest in manifests for language in manifest.languages}
    return {
        "name": ref.name,
        "version": ref.version,
        "authors": list(dict.fromkeys(author for manifest in manifests for author in manifest.authors)),
        "license": joint_license(manifest.license for manifest in manifests),
        "method": "average",
        "task": manifests[0].task,
        "timestamps": manifests[0].timestamps,
        "input_seconds": longest_input(manifest.input_seconds for manifest in manifests),
        "languages": [languages[tag] for tag in sorted(languages)],
        "base_model": manifests[0].base_model,
        "parents": parents,
        "average": average_section(options, update),
    }
