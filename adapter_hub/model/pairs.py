"""Expert pairs: a frozen parent, a trained child, and a gate that weighs them (LoRA MoE, arXiv:2406.06619).

`gate.safetensors` holds, for every linear that either half adapts, by the linear's path:

    <path>.weight   [2, inputs]   kind token
    <path>.bias     [2]           kind static; allowed for kind token

The weights of parent and child are softmax(weight·x + bias), per token and linear; a static gate has no
`weight`, so they are the same for every token. Such a pair is equal to an ordinary LoRA whose rank is the sum
of the two, and is loaded as one. For a token-gated pair see `adapter_hub.model.layout`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from adapter_hub.artifact.folder import Artifact
from adapter_hub.artifact.safetensors_file import TensorEntry
from adapter_hub.artifact.weights import GATE_FILE
from adapter_hub.errors import IntegrityError
from adapter_hub.formats.manifest import Manifest
from adapter_hub.model.base_model import BaseModel
from adapter_hub.model.layout import EXPERTS, AdapterLayout, ModuleLayout, padded_rank
from adapter_hub.model.lora_file import (
    TORCH_DTYPES,
    ExpectedFile,
    all_finite,
    named_values,
    open_weights,
    read_lora,
    read_values,
)

ALIGNED = 8  # values of 2 or 4 bytes

Half = tuple[AdapterLayout, Tensor]


def load_pair(
    base: BaseModel, artifact: Artifact, differences: Sequence[str]
) -> tuple[AdapterLayout, Tensor]:
    """Return a pair's layout and buffer, on the CPU in the base model's dtype.

    Args:
        base: that it is composed with.
        artifact: of method `expert-pair`.
        differences: already found elsewhere, to be listed too.

    Raises:
        IntegrityError: a half or the gate is missing or does not fit; every difference.
    """
    manifest = artifact.manifest
    sections = {section.role: section for section in manifest.lora}
    missing = [
        f"the manifest has no lora section of role {r}" for r in ("parent", "child") if r not in sections
    ]
    if manifest.gate is None:
        missing.append("the manifest describes no gate")
    if missing:
        raise IntegrityError(manifest.ref, [*differences, *missing])
    parent = read_lora(base, artifact, sections["parent"], differences)
    child = read_lora(base, artifact, sections["child"])
    paths = sorted({*parent[0], *child[0]})
    gate = _read_gate(base, artifact, paths)
    if f"{paths[0]}.weight" in gate:
        return _token_gated(paths, parent, child, gate)
    return _static(paths, parent, child, gate)


def _read_gate(base: BaseModel, artifact: Artifact, paths: Sequence[str]) -> dict[str, Tensor]:
    """Return the gate's tensors in float32."""
    manifest = artifact.manifest
    entry = next((entry for entry in manifest.files if entry.path == GATE_FILE), None)
    if entry is None:
        raise IntegrityError(manifest.ref, [f"the manifest lists no {GATE_FILE}"])
    expected = ExpectedFile(entry.sha256, artifact.stamps.get(GATE_FILE))
    with open_weights(artifact.path / GATE_FILE, manifest.ref) as weights:
        header = weights.header
        if differences := _gate_differences(base, manifest, paths, header):
            raise IntegrityError(manifest.ref, differences)
        data = read_values(weights, expected)
    if not all_finite(data):
        raise IntegrityError(manifest.ref, [f"{GATE_FILE}: holds NaN or infinite values"])
    return {key: values.float() for key, values in named_values(header, data).items()}


def _gate_differences(
    base: BaseModel, manifest: Manifest, paths: Iterable[str], header: Mapping[str, TensorEntry]
) -> list[str]:
    wanted = _gate_shapes(base, manifest, paths, header)
    differences = [f"{GATE_FILE}: {key}: missing" for key in sorted(set(wanted) - set(header))]
    kind = manifest.gate.kind if manifest.gate else "missing"
    differences += [
        f"{GATE_FILE}: {key}: no such tensor in a {kind} gate of these linears"
        for key in sorted(set(header) - set(wanted))
    ]
    for key in sorted(set(wanted) & set(header)):
        if list(header[key].shape) != wanted[key]:
            differences.append(f"{GATE_FILE}: {key}: shape {list(header[key].shape)}, expected {wanted[key]}")
    dtypes = {item.dtype for item in header.values()}
    if len(dtypes) != 1 or not dtypes <= set(TORCH_DTYPES):
        differences.append(f"{GATE_FILE}: dtypes {', '.join(sorted(dtypes))}, expected one float dtype")
    return differences


def _gate_shapes(
    base: BaseModel, manifest: Manifest, paths: Iterable[str], found: Iterable[str]
) -> dict[str, list[int]]:
    token = manifest.gate is not None and manifest.gate.kind == "token"
    biased = not token or any(key.endswith(".bias") for key in found)
    wanted: dict[str, list[int]] = {}
    for path in paths:
        if token:
            wanted[f"{path}.weight"] = [EXPERTS, base.linears[path].in_features]
        if biased:
            wanted[f"{path}.bias"] = [EXPERTS]
    return wanted


def _static(
    paths: Sequence[str], parent: Half, child: Half, gate: dict[str, Tensor]
) -> tuple[AdapterLayout, Tensor]:
    """Return a pair with a static gate as an ordinary LoRA: the halves concatenated, weighted."""
    modules, tensors, size = [], [], 0
    for path in paths:
        weights = gate[f"{path}.bias"].softmax(0).tolist()
        halves = [
            (module.lora_a(buffer), module.lora_b(buffer) * weight)
            for (layout, buffer), weight in zip((parent, child), weights, strict=True)
            if (module := layout.get(path)) is not None
        ]
        a, b = torch.cat([a for a, _ in halves]), torch.cat([b for _, b in halves], dim=1)
        modules.append(ModuleLayout(path, a.shape[0], a.shape[1], b.shape[0], size, size + a.numel()))
        tensors += [a.flatten(), b.flatten()]
        size += a.numel() + b.numel()
    return AdapterLayout(tuple(modules), size), torch.cat(tensors)


def _token_gated(
    paths: Sequence[str], parent: Half, child: Half, gate: dict[str, Tensor]
) -> tuple[AdapterLayout, Tensor]:
    modules, tensors, size = [], [], 0
    for path in paths:
        found = [layout.get(path) for layout, _ in (parent, child)]
        sound = [module for module in found if module is not None]
        in_features, out_features = sound[0].in_features, sound[0].out_features
        half = padded_rank(max(module.rank for module in sound))
        a = torch.zeros(EXPERTS * half + EXPERTS, in_features, dtype=parent[1].dtype)
        b = torch.zeros(out_features, EXPERTS * half, dtype=parent[1].dtype)
        for place, (module, (_, buffer)) in enumerate(zip(found, (parent, child), strict=True)):
            if module is not None:
                a[place * half : place * half + module.rank] = module.lora_a(buffer)
                b[:, place * half : place * half + module.rank] = module.lora_b(buffer)
        a[EXPERTS * half :] = gate[f"{path}.weight"]
        bias = gate.get(f"{path}.bias", torch.zeros(EXPERTS)).to(a.dtype)
        starts = (size, size + a.numel(), size + a.numel() + b.numel())
        modules.append(ModuleLayout(path, EXPERTS * half, in_features, out_features, *starts))
        # the next module starts at a multiple of 16 bytes, where matrix kernels read fastest
        tensors += [a.flatten(), b.flatten(), F.pad(bias, (0, ALIGNED - EXPERTS))]
        size = starts[2] + ALIGNED
    return AdapterLayout(tuple(modules), size), torch.cat(tensors)
