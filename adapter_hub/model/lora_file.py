"""One file of LoRA weights: compared with what is expected, then read once into memory of its own.

    layout, buffer = read_lora(base, artifact, section)

Sizes, ranks and keys are checked in the header, before memory is allocated; then digest and values. All
differences are listed at once. The memory that the file is read into is the adapter's buffer.

A file of the cache was hashed when it landed. As long as its stamp is the same (size, times of modification
and of change, inode; taken from the opened file, before and after it is read), it is not hashed again, which
would take as long as everything else. Any other file is hashed as it is read.
"""

from __future__ import annotations

import hashlib
import logging
import math
import mmap
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from adapter_hub.artifact.effects import NO_EFFECT, idle_text
from adapter_hub.artifact.folder import Artifact
from adapter_hub.artifact.peft import PREFIX, WEIGHTS_FILE
from adapter_hub.artifact.safetensors_file import TensorEntry, header_in, parse_header
from adapter_hub.artifact.weights import ROLE_FOLDERS
from adapter_hub.errors import IntegrityError
from adapter_hub.files.reading import open_regular
from adapter_hub.files.writing import Stamp
from adapter_hub.formats.manifest import MAXIMUM_RANK, LoraSection
from adapter_hub.model.base_model import BaseModel, PositionwiseLinear
from adapter_hub.model.layout import AdapterLayout, ModuleLayout

LOGGER = logging.getLogger(__name__)
BLOCK = 2**20  # bytes read at once: they are hashed while they are in the processor's cache
TORCH_DTYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
SAFETENSORS_DTYPES = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}


@dataclass(frozen=True)
class ExpectedFile:
    """What a file's bytes are expected to be.

    Attributes:
        sha256: hex digest in the manifest.
        stamp: of the file when it was last verified; None if it never was.
    """

    sha256: str
    stamp: Stamp | None = None


def read_lora(
    base: BaseModel, artifact: Artifact, section: LoraSection, differences: Sequence[str] = ()
) -> tuple[AdapterLayout, Tensor]:
    """Return one LoRA of an artifact, on the CPU in the base model's dtype.

    Args:
        base: that it is composed with.
        artifact: with the manifest and the file.
        section: of the manifest: role, dtype, modules.
        differences: already found elsewhere, to be listed too.

    Raises:
        IntegrityError: every difference.
    """
    manifest, place = artifact.manifest, f"{ROLE_FOLDERS[section.role]}{WEIGHTS_FILE}"
    entry = next((entry for entry in manifest.files if entry.path == place), None)
    if entry is None:
        raise IntegrityError(manifest.ref, [*differences, f"the manifest lists no {place}"])
    expected = ExpectedFile(entry.sha256, artifact.stamps.get(place))
    return read_file(base, artifact.path / place, section, manifest.ref, differences, expected)


def read_file(
    base: BaseModel,
    path: Path,
    section: LoraSection,
    name: str,
    differences: Sequence[str] = (),
    expected: ExpectedFile | None = None,
) -> tuple[AdapterLayout, Tensor]:
    """Return the weights of one file after every check, on the CPU in the base model's dtype.

    Args:
        base: that they are composed with.
        path: of the safetensors file.
        section: what the file has to hold.
        name: of the adapter, for messages.
        differences: already found elsewhere, to be listed too.
        expected: digest and stamp of the file; None accepts any bytes.

    Raises:
        IntegrityError: every difference.
    """
    with open_weights(path, name, differences) as weights:
        modules, complaints = _module_layouts(base, section, weights.header)
        differences = [*differences, *complaints, *_header_differences(base, weights.header, section)]
        if differences:
            raise IntegrityError(name, differences)
        data = read_values(weights, expected)
    layout = AdapterLayout(tuple(modules), data.numel())
    buffer, wrong = _checked(data, layout, {m.path: m.scaling for m in section.modules}, base.dtype)
    if wrong:
        raise IntegrityError(name, wrong)
    return layout, buffer


@dataclass(frozen=True)
class WeightsFile:
    """A safetensors file that was opened once, so that header and values are of the same file.

    Attributes:
        file: opened.
        path: of it.
        name: of the adapter, for messages.
        stamp: of the opened file, before anything of it was read.
        header: its tensors.
    """

    file: FileIO
    path: Path
    name: str
    stamp: Stamp
    header: dict[str, TensorEntry]


@contextmanager
def open_weights(path: Path, name: str, differences: Sequence[str] = ()) -> Iterator[WeightsFile]:
    """Open a safetensors file and read its header.

    Args:
        path: of the file.
        name: of the adapter, for messages.
        differences: already found elsewhere, to be listed too.

    Raises:
        IntegrityError: no such file, or its header is not sound.
    """
    if not path.is_file():
        raise IntegrityError(name, [*differences, f"{path.name} is missing"])
    with open_regular(path) as file:
        stamp = Stamp.of(os.fstat(file.fileno()))
        try:
            header = header_in(file, path)
        except IntegrityError as error:
            raise IntegrityError(name, [*differences, str(error)]) from None
        yield WeightsFile(file, path, name, stamp, header)


def read_values(weights: WeightsFile, expected: ExpectedFile | None) -> Tensor:
    """Read a file of tensors of one dtype once, into memory of its own.

    Args:
        weights: opened.
        expected: digest and stamp; None accepts any bytes.

    Returns:
        `[n]`: all values one after another, in the file's dtype.

    Raises:
        IntegrityError: it is not what was expected, or changed while it was read.
    """
    file, header, place = weights.file, weights.header, weights.path.name
    start = min(entry.start for entry in header.values())
    stop = max(entry.stop for entry in header.values())
    data = fresh_memory(stop - start)
    verified = expected is None or expected.stamp == weights.stamp
    file.seek(0 if not verified else start)
    first = b"" if verified else file.read(start)
    changed = not verified and parse_header(first[8:], weights.stamp.size, weights.path) != header
    digest = hashlib.sha256(first)
    array: Any = data.numpy()
    view = memoryview(array)
    while len(view) and (count := file.readinto(view[:BLOCK])):
        if not verified:
            digest.update(view[:count])
        view = view[count:]
    if changed or len(view) > 0 or Stamp.of(os.fstat(file.fileno())) != weights.stamp:
        raise IntegrityError(weights.name, [f"{place}: changed while it was read"])
    if expected is not None and not verified and (found := digest.hexdigest()) != expected.sha256:
        raise IntegrityError(
            weights.name, [f"{place}: sha256 {found[:12]}…, expected {expected.sha256[:12]}…"]
        )
    return data.view(TORCH_DTYPES[next(iter(header.values())).dtype])


def named_values(header: Mapping[str, TensorEntry], data: Tensor) -> dict[str, Tensor]:
    """Return the tensors of a file by name, views of its values.

    Args:
        header: of the file.
        data: `[n]`, of `read_values`.
    """
    start, size = min(item.start for item in header.values()), data.element_size()
    found = {}
    for name, item in header.items():
        first = (item.start - start) // size
        found[name] = data[first : first + (item.stop - item.start) // size].view(item.shape)
    return found


def fresh_memory(size: int) -> Tensor:
    """Return `size` bytes whose pages are mapped already: reading into them takes a quarter less time."""
    populate = getattr(mmap, "MAP_POPULATE", None)  # Linux
    if populate is not None and size:
        with suppress(OSError):
            pages = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | populate)
            return torch.frombuffer(pages, dtype=torch.uint8)  # keeps the pages alive
    return torch.empty(size, dtype=torch.uint8)


def _keys(path: str) -> tuple[str, str]:
    return f"{PREFIX}{path}.lora_A.weight", f"{PREFIX}{path}.lora_B.weight"


def _module_layouts(
    base: BaseModel, section: LoraSection, header: dict[str, TensorEntry]
) -> tuple[list[ModuleLayout], list[str]]:
    """Return the modules that the base model has, and the reasons why it cannot take the others."""
    start = min((entry.start for entry in header.values()), default=0)
    size = 4 if section.dtype == "float32" else 2
    modules, differences = [], []
    for module in section.modules:
        linear = base.linears.get(module.path)
        if linear is None:
            differences.append(f"{module.path}: the base model has no such linear layer")
        elif module.rank > MAXIMUM_RANK:
            differences.append(f"{module.path}: rank {module.rank}, at most {MAXIMUM_RANK} allowed")
        elif all(key in header for key in _keys(module.path)):
            a, b = ((header[key].start - start) // size for key in _keys(module.path))
            modules.append(
                ModuleLayout(module.path, module.rank, linear.in_features, linear.out_features, a, b)
            )
    return modules, differences


def _header_differences(base: BaseModel, header: dict[str, TensorEntry], section: LoraSection) -> list[str]:
    wanted: dict[str, list[int] | None] = {}
    for module in section.modules:
        linear, (a, b) = base.linears.get(module.path), _keys(module.path)
        if linear is None:
            wanted[a] = wanted[b] = None
            continue
        last = [1] if isinstance(linear, PositionwiseLinear) else []  # PEFT writes them as convolutions
        wanted[a], wanted[b] = (
            [module.rank, linear.in_features, *last],
            [linear.out_features, module.rank, *last],
        )
    differences = [f"{key}: missing" for key in sorted(set(wanted) - set(header))]
    differences += [f"{key}: not in the manifest" for key in sorted(set(header) - set(wanted))]
    dtype = SAFETENSORS_DTYPES[section.dtype]
    for key in sorted(set(wanted) & set(header)):
        found, shape = header[key], wanted[key]
        if shape is not None and list(found.shape) != shape:
            differences.append(f"{key}: shape {list(found.shape)}, expected {shape}")
        if found.dtype != dtype:
            differences.append(f"{key}: dtype {found.dtype}, expected {dtype}")
    return differences


def _checked(
    data: Tensor, layout: AdapterLayout, scalings: dict[str, float], dtype: torch.dtype
) -> tuple[Tensor, list[str]]:
    """Return the buffer with the scalings applied to `B`, and what is wrong with the values."""
    values = data.float()  # the same memory where it is float32 already
    differences: list[str] = []
    most = largest(values)
    if not math.isfinite(most):
        for module in layout.modules:
            for key, matrix in zip(
                _keys(module.path), (module.lora_a(values), module.lora_b(values)), strict=True
            ):
                if not all_finite(matrix):
                    differences.append(f"{key}: holds NaN or infinite values")
    idle = _idle(values, layout)
    if len(idle) == len(layout.modules):
        differences.append(NO_EFFECT)
    elif idle:
        LOGGER.info("%s", idle_text(idle, len(layout.modules)))
    for module in layout.modules:
        if scalings[module.path] != 1.0:
            module.lora_b(values).mul_(scalings[module.path])
    buffer = values.to(dtype)
    most *= max(1.0, *scalings.values())
    if not differences and most > torch.finfo(dtype).max:  # perhaps: now every value is checked
        differences += [
            f"{module.path}: too large for {dtype}; load in float32"
            for module in layout.modules
            if not (all_finite(module.lora_a(buffer)) and all_finite(module.lora_b(buffer)))
        ]
    return buffer, differences


def _idle(values: Tensor, layout: AdapterLayout) -> list[str]:
    """Return the modules whose update is zero, as defined in `adapter_hub.artifact.effects`."""
    starts = torch.tensor([[module.a_start, module.b_start] for module in layout.modules])
    plain = (values[starts] != 0).all(1)  # its first summand is not zero: the rest need not be checked
    return [
        module.path
        for module, moves in zip(layout.modules, plain.tolist(), strict=True)
        if not moves and not (module.lora_a(values).ne(0).any(1) & module.lora_b(values).ne(0).any(0)).any()
    ]


def largest(values: Tensor) -> float:
    """Return the largest magnitude; NaN or infinite if any value is. One pass without a copy."""
    low, high = torch.aminmax(values)
    return max(-low.item(), high.item()) if not math.isnan(low.item()) else math.nan


def all_finite(values: Tensor) -> bool:
    """Tell whether no value is NaN or infinite."""
    return math.isfinite(largest(values))
