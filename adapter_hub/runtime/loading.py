"""Loading an adapter: one verified read into one contiguous buffer (invariant 5).

    adapter = load_adapter(base, artifact)

PEFT loads an adapter with missing tensors, NaN or another base model in silence; here everything is
compared with the manifest and the base model first, and every difference is listed at once. Sizes and
ranks are checked before memory is taken.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from adapter_hub.artifact import Artifact
from adapter_hub.canonical import sha256_hex
from adapter_hub.errors import IntegrityError, InvalidInputError
from adapter_hub.manifest import LoraSection, Manifest
from adapter_hub.peft_format import WEIGHTS_FILE
from adapter_hub.runtime.base_model import BaseModel
from adapter_hub.tensors import TensorEntry, read_header
from adapter_hub.weights import lora_section

MAXIMUM_RANK = 512  # of a single module: a rank that approaches the width is no adapter any more
PREFIX = "base_model.model."
TORCH_DTYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
SAFETENSORS_DTYPES = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}


@dataclass(frozen=True)
class Shape:
    """The shape of one adapted linear's update."""

    path: str
    rank: int
    inputs: int
    outputs: int


@dataclass(frozen=True)
class Part:
    """Where the two matrices of one adapted linear are in the buffer.

    `A` is `[rank, inputs]` at `a`; `B` is stored transposed and scaled, `[rank, outputs]`, at `b`.
    """

    shape: Shape
    a: int
    b: int

    def matrices(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return views of `A` and `B` of several adapters: `rows` is `[n, layout.size]`."""
        shape = self.shape
        a = rows[:, self.a : self.a + shape.rank * shape.inputs]
        b = rows[:, self.b : self.b + shape.rank * shape.outputs]
        return a.unflatten(1, (shape.rank, shape.inputs)), b.unflatten(1, (shape.rank, shape.outputs))


@dataclass(frozen=True)
class Layout:
    """The shape of an adapter: adapters with equal layouts are gathered by copying whole buffers.

    All `A` come first, then all `B`: from `middle` on, scaling the buffer scales the update.
    """

    parts: tuple[Part, ...]
    middle: int
    size: int

    @classmethod
    def of(cls, shapes: Sequence[Shape]) -> Layout:
        """Lay out modules one after another."""
        a, b = 0, sum(shape.rank * shape.inputs for shape in shapes)
        middle, parts = b, []
        for shape in shapes:
            parts.append(Part(shape, a, b))
            a, b = a + shape.rank * shape.inputs, b + shape.rank * shape.outputs
        return cls(tuple(parts), middle, b)


@dataclass(frozen=True, eq=False)
class ResidentAdapter:
    """An adapter in memory: its weights in one buffer, on the base model's device and in its dtype.

    Attributes:
        name: what to call it in results: the ref, or the folder of weights without a manifest.
        layout: where each module's matrices are.
        buffer: `[layout.size]`.
        manifest: the record, None for bare weights (during training).
        digest: the version's identity, None for bare weights.
    """

    name: str
    layout: Layout
    buffer: Tensor
    manifest: Manifest | None = None
    digest: str | None = None


def load_adapter(base: BaseModel, artifact: Artifact) -> ResidentAdapter:
    """Load an artifact's weights after checking them against its manifest and the base model.

    Raises:
        InvalidInputError: an expert pair, which cannot be composed yet.
        IntegrityError: every difference: base model, file, keys, shapes, dtype, values, no effect.
    """
    manifest = artifact.manifest
    if manifest.method == "expert-pair":
        raise InvalidInputError(
            f"{manifest.ref}: expert pairs cannot be composed by this version; "
            "load its expert or an adapter of another method"
        )
    differences = []
    if manifest.base_model.digest != base.digest:
        differences.append(
            f"made for base model {manifest.base_model.id} ({_short(manifest.base_model.digest)}), "
            f"but {base.id} ({_short(base.digest)}) is loaded"
        )
    entry = next((entry for entry in manifest.files if entry.path == WEIGHTS_FILE), None)
    if entry is None:
        differences.append(f"the manifest lists no {WEIGHTS_FILE}")
    section = next((section for section in manifest.lora if section.role == "self"), None)
    if section is None:
        differences.append("the manifest has no lora section of role self")
    if entry is None or section is None:
        raise IntegrityError(manifest.ref, differences)
    path = artifact.path / WEIGHTS_FILE
    layout, buffer = _read(base, path, section, manifest.ref, differences, entry.sha256)
    return ResidentAdapter(manifest.ref, layout, buffer, manifest, artifact.digest)


def load_weights(base: BaseModel, folder: Path, section: LoraSection | None = None) -> ResidentAdapter:
    """Load a folder in PEFT's format that has no manifest yet, as strictly.

    Args:
        base: the base model that it was trained on.
        folder: with `adapter_config.json` and `adapter_model.safetensors`.
        section: what it holds; None reads it from the folder.

    Raises:
        IntegrityError: as `load_adapter`.
    """
    layout, buffer = _read(base, folder / WEIGHTS_FILE, section or lora_section(folder), str(folder))
    return ResidentAdapter(str(folder), layout, buffer)


def _read(
    base: BaseModel,
    path: Path,
    section: LoraSection,
    name: str,
    differences: Sequence[str] = (),
    sha256: str | None = None,
) -> tuple[Layout, Tensor]:
    """Return the weights after every check; `differences` were found before."""
    if not path.is_file():
        raise IntegrityError(name, [*differences, f"{path.name} is missing"])
    try:
        header = read_header(path)
    except IntegrityError as error:
        raise IntegrityError(name, [*differences, str(error)]) from None
    shapes, complaints = _expected(base, section)
    differences = [*differences, *complaints, *_header_differences(header, shapes, section)]
    if differences:
        raise IntegrityError(name, differences)
    data = path.read_bytes()
    if sha256 is not None and (found := sha256_hex(data)) != sha256:
        raise IntegrityError(name, [f"{path.name}: sha256 {found[:12]}…, expected {sha256[:12]}…"])
    layout = Layout.of(shapes)
    scalings = {module.path: module.scaling for module in section.modules}
    buffer, wrong = _fill(layout, header, data, scalings, base)
    if wrong:
        raise IntegrityError(name, wrong)
    return layout, buffer


def _keys(section: LoraSection) -> list[str]:
    return [f"{PREFIX}{module.path}.lora_{half}.weight" for module in section.modules for half in "AB"]


def _expected(base: BaseModel, section: LoraSection) -> tuple[list[Shape], list[str]]:
    """Return the shape of every module that the base model can take, and why it cannot take the others."""
    shapes, differences = [], []
    for module in section.modules:
        linear = base.linears.get(module.path)
        if linear is None:
            differences.append(f"{module.path}: the base model has no such linear layer")
        elif module.rank > MAXIMUM_RANK:
            differences.append(f"{module.path}: rank {module.rank}, at most {MAXIMUM_RANK} allowed")
        else:
            shapes.append(Shape(module.path, module.rank, linear.in_features, linear.out_features))
    return shapes, differences


def _header_differences(
    header: dict[str, TensorEntry], shapes: Sequence[Shape], section: LoraSection
) -> list[str]:
    listed = {f"{PREFIX}{m.path}.lora_{half}.weight" for m in section.modules for half in "AB"}
    differences = [f"{key}: missing" for key in sorted(listed - set(header))]
    differences += [f"{key}: not in the manifest" for key in sorted(set(header) - listed)]
    wanted: dict[str, list[int]] = {}
    for shape in shapes:
        wanted[f"{PREFIX}{shape.path}.lora_A.weight"] = [shape.rank, shape.inputs]
        wanted[f"{PREFIX}{shape.path}.lora_B.weight"] = [shape.outputs, shape.rank]
    dtype = SAFETENSORS_DTYPES[section.dtype]
    for key in sorted(listed & set(header)):
        found = header[key]
        if key in wanted and list(found.shape) != wanted[key]:
            differences.append(f"{key}: shape {list(found.shape)}, expected {wanted[key]}")
        if found.dtype != dtype:
            differences.append(f"{key}: dtype {found.dtype}, expected {dtype}")
    return differences


def _fill(
    layout: Layout,
    header: dict[str, TensorEntry],
    data: bytes,
    scalings: dict[str, float],
    base: BaseModel,
) -> tuple[Tensor, list[str]]:
    """Return the buffer on the base model's device, and what is wrong with the values."""
    raw = bytearray(data)  # torch wants memory that it may write to
    buffer = torch.empty(layout.size, dtype=base.dtype)
    differences: list[str] = []
    for part in layout.parts:
        path = part.shape.path
        keys = [f"{PREFIX}{path}.lora_{half}.weight" for half in "AB"]
        a, b = (_tensor(raw, header[key]).float() for key in keys)
        bad = [key for key, value in zip(keys, (a, b), strict=True) if not torch.isfinite(value).all()]
        differences += [f"{key}: holds NaN or infinite values" for key in bad]
        if not bad and not (a.abs().amax(1) * b.abs().amax(0)).any():
            differences.append(f"{path}: its update is zero, so the adapter would do nothing there")
        b = b.t() * scalings[path]
        for values, start in ((a, part.a), (b, part.b)):
            wanted = values.to(base.dtype).reshape(-1)
            buffer[start : start + wanted.numel()] = wanted
            if not bad and not torch.isfinite(wanted).all():
                differences.append(f"{path}: too large for {base.dtype}; load in float32")
    placed = buffer.to(base.device)
    if not differences and not torch.equal(placed.cpu(), buffer):
        differences.append("read back from the device, the weights are not what was written")
    return placed, differences


def _tensor(raw: bytearray, entry: TensorEntry) -> Tensor:
    count = math.prod(entry.shape)  # at least 1: ranks and widths are checked
    return torch.frombuffer(raw, dtype=TORCH_DTYPES[entry.dtype], count=count, offset=entry.start).reshape(
        entry.shape
    )


def _short(digest: str) -> str:
    return digest[: len("sha256:") + 12] + "…"
