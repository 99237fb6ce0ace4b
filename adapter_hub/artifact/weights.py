"""An artifact's weights against its manifest: which files each method has, and what they hold.

    weights_problems(folder, manifest, ancestors)   # [] if tensors, configuration and manifest agree

The manifest repeats what the files say (modules, ranks, scaling, dtype), so that a reader can judge an
adapter without opening its weights; here the two are held against each other.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Literal

from adapter_hub.artifact.effects import NO_EFFECT, has_effect
from adapter_hub.artifact.peft import WEIGHTS_FILE, read_peft, section_differences
from adapter_hub.artifact.peft_config import CONFIG_FILE
from adapter_hub.artifact.safetensors_file import all_finite, read_header, tensor_bytes, weights_digest
from adapter_hub.errors import AdapterHubError
from adapter_hub.formats.manifest import LoraModule, LoraSection, Manifest

Role = Literal["self", "parent", "child"]
# where the weights of each role are in the artifact's folder
ROLE_FOLDERS: dict[Role, str] = {"self": "", "parent": "experts/parent/", "child": "experts/child/"}
GATE_FILE = "gate.safetensors"


def tensor_files(manifest: Manifest) -> list[str]:
    """Return the listed safetensors files."""
    return [entry.path for entry in manifest.files if entry.path.endswith(".safetensors")]


def lora_section(folder: Path, role: Role = "self") -> LoraSection:
    """Return what the files of one LoRA hold, as the manifest records it.

    Args:
        folder: where `adapter_config.json` and `adapter_model.safetensors` are.
        role: `self`, or which half of an expert pair.

    Raises:
        NotFoundError, InvalidInputError, IntegrityError: the files are not a sound LoRA.
    """
    found = read_peft(folder)
    return LoraSection(
        role=role,
        dtype=found.dtype,
        dropout=found.dropout,
        parameters=found.parameters,
        modules=found.modules,
    )


def layout_problems(manifest: Manifest) -> list[str]:
    """Return which files the manifest's method needs and lacks, or has in a place without a meaning.

    Args:
        manifest: its method, sections, gate and files are compared.
    """
    roles = sorted(section.role for section in manifest.lora)
    expected = ["child", "parent"] if manifest.method == "expert-pair" else ["self"]
    if (manifest.gate is not None) != (manifest.method == "expert-pair"):
        found = "describes no gate" if manifest.gate is None else "describes a gate"
        return [f"gate: the manifest {found}, but its method is {manifest.method}"]
    if roles != expected:
        return [f"lora: roles {', '.join(roles)}, but method {manifest.method} has {', '.join(expected)}"]
    tensors = {f"{ROLE_FOLDERS[section.role]}{WEIGHTS_FILE}" for section in manifest.lora}
    tensors |= {GATE_FILE} if manifest.method == "expert-pair" else set()
    configs = {f"{ROLE_FOLDERS[section.role]}{CONFIG_FILE}" for section in manifest.lora}
    listed = {entry.path for entry in manifest.files}
    return [
        *(f"{path}: method {manifest.method} needs it" for path in sorted((tensors | configs) - listed)),
        *(
            f"{path}: method {manifest.method} has no place for it"
            for path in sorted(set(tensor_files(manifest)) - tensors)
        ),
    ]


def weights_problems(folder: Path, manifest: Manifest, ancestors: Mapping[str, Manifest]) -> list[str]:
    """Return how the weights differ from what the manifest says of them; [] if they do not.

    Args:
        folder: of the artifact, whose files have the listed bytes.
        manifest: its manifest.
        ancestors: their manifests by digest.
    """
    problems: list[str] = []
    for section in manifest.lora:
        problems += _section_problems(folder, section)
    try:
        if weights_digest(folder, tensor_files(manifest)) != manifest.weights_digest:
            problems.append("weights_digest is not the digest of the tensors")
        for path in tensor_files(manifest):
            problems += value_problems(folder, path)
        problems += expert_problems(folder, manifest, ancestors) + gate_problems(folder, manifest)
    except AdapterHubError as error:
        problems.append(str(error).replace(f"{folder}/", ""))
    return list(dict.fromkeys(problems))


def _section_problems(folder: Path, section: LoraSection) -> list[str]:
    place = ROLE_FOLDERS[section.role]
    try:
        found = read_peft(folder / place)
    except AdapterHubError as error:
        return [str(error).replace(f"{folder}/", "")]
    problems = section_differences(found, section)
    if found.dropout != section.dropout:
        problems.append(f"dropout {section.dropout} in the manifest, {found.dropout} in {CONFIG_FILE}")
    if found.config.is_pattern:  # what a pattern matches depends on the reader
        problems.append(f"{CONFIG_FILE}: target_modules is a pattern, expected the list of module names")
    if not has_effect(folder / place / WEIGHTS_FILE):
        problems.append(f"{WEIGHTS_FILE}: {NO_EFFECT}")
    return [f"{place}{problem}" for problem in problems]


def value_problems(folder: Path, path: str) -> list[str]:
    """Return which tensors of a safetensors file of an artifact hold NaN or infinite values.

    Args:
        folder: of the artifact.
        path: of the file in it.
    """
    return [
        f"{path}: tensor {entry.name} holds NaN or infinite values"
        for entry, data in tensor_bytes(folder / path)
        if not all_finite(entry, data)
    ]


def expert_problems(folder: Path, manifest: Manifest, ancestors: Mapping[str, Manifest]) -> list[str]:
    """Return how the frozen half of an expert pair is not its parent's very own.

    The same tensors do not suffice: with another scaling they do something else.

    Args:
        folder: of the pair.
        manifest: its.
        ancestors: their manifests by digest; that of an unknown parent is `lineage_problems`' subject.
    """
    experts = [parent for parent in manifest.parents if parent.role == "expert"]
    if manifest.method != "expert-pair" or not experts:
        return []
    carried = weights_digest(folder / ROLE_FOLDERS["parent"], [WEIGHTS_FILE])
    parent = f"{experts[0].name}@{experts[0].version}"
    if carried != experts[0].weights_digest:
        return [f"experts/parent: its weights are not those of {parent}"]
    known = ancestors.get(experts[0].digest)
    return _module_differences(manifest, known) if known else []


def _module_differences(pair: Manifest, parent: Manifest) -> list[str]:
    """Return where modules, ranks or scaling of a pair's frozen half are not the parent's."""
    half, own = _modules(pair, "parent"), _modules(parent, "self")
    paths = [path for path in sorted(half.keys() | own.keys()) if half.get(path) != own.get(path)]
    if not paths:
        return []
    here, there = half.get(paths[0]), own.get(paths[0])
    return [
        f"experts/parent: {paths[0]} is {_described(here)} here, {_described(there)} in {parent.ref}"
        + (f" ({len(paths)} modules differ)" if len(paths) > 1 else "")
    ]


def _modules(manifest: Manifest, role: Role) -> dict[str, LoraModule]:
    return {m.path: m for section in manifest.lora if section.role == role for m in section.modules}


def _described(module: LoraModule | None) -> str:
    return f"rank {module.rank}, scaling {module.scaling}" if module else "absent"


def gate_problems(folder: Path, manifest: Manifest) -> list[str]:
    """Return how an expert pair's gate differs from what the manifest and the two halves say.

    For every linear that either half adapts, kind token has `<path>.weight` [2, inputs] and, for all or
    none, `<path>.bias` [2]; kind static has the bias alone.

    Args:
        folder: of the artifact.
        manifest: its manifest.
    """
    if manifest.gate is None:
        return []
    halves = [read_peft(folder / ROLE_FOLDERS[section.role]) for section in manifest.lora]
    inputs = {path: shape[1] for half in halves for path, shape in half.shapes.items()}
    found = {name: entry.shape for name, entry in read_header(folder / GATE_FILE).items()}
    wanted: dict[str, tuple[int, ...]] = {f"{path}.weight": (2, width) for path, width in inputs.items()}
    if manifest.gate.kind == "static":
        wanted = {}
    if not wanted or any(name.endswith(".bias") for name in found):
        wanted |= {f"{path}.bias": (2,) for path in inputs}
    problems = [f"{GATE_FILE}: {name}: missing" for name in sorted(set(wanted) - set(found))]
    problems += [
        f"{GATE_FILE}: {name}: no place for it in a {manifest.gate.kind} gate of these linears"
        for name in sorted(set(found) - set(wanted))
    ]
    problems += [
        f"{GATE_FILE}: {name}: shape {list(found[name])}, expected {list(wanted[name])}"
        for name in sorted(set(found) & set(wanted))
        if tuple(found[name]) != wanted[name]
    ]
    count = sum(prod(shape) for shape in found.values())
    if count != manifest.gate.parameters:
        problems.append(f"{GATE_FILE}: {count} parameters, the manifest says {manifest.gate.parameters}")
    return problems
