"""Tensors of a model's safetensors files one after another, and a file written tensor after tensor.

    source = TensorSource(folder)
    for name, entry in source.tensors.items():
        for rows in source.slices(name): ...           # at most SLICE values at a time, float32 or float64

    with TensorWriter(path, {name: ("float32", shape)}) as writer:
        writer.write(name, values)

Neither side holds more than a slice: an average of models of any size fits in the memory of one.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

import torch
from safetensors import safe_open
from torch import Tensor

from adapter_hub.artifact.safetensors_file import TensorEntry, read_header
from adapter_hub.base_model.digest import weight_files
from adapter_hub.base_model.tensors import EMBEDDINGS, TIED
from adapter_hub.errors import IntegrityError

SLICE = 4 * 2**20  # values at a time
NAMES = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "I64": "int64",
    "I32": "int32",
    "I16": "int16",
    "I8": "int8",
    "U8": "uint8",
    "BOOL": "bool",
}
INTEGERS = ("int64", "int32", "int16", "int8", "uint8", "bool")
TAGS = {name: tag for tag, name in NAMES.items()}


class TensorSource:
    """The tensors of a model's folder, sharded or not; the tied output matrix is left out."""

    def __init__(self, folder: Path) -> None:
        """Read the headers.

        Raises:
            NotFoundError: no weights. IntegrityError: a file is damaged, or a tensor is in two files.
        """
        self.folder = folder
        self._files: dict[str, Path] = {}
        self.tensors: dict[str, TensorEntry] = {}
        for path in weight_files(folder):
            for name, entry in read_header(path).items():
                if name in self.tensors:
                    raise IntegrityError(f"{folder}: tensor {name} is in two files; expected each once")
                if entry.dtype not in NAMES:
                    raise IntegrityError(
                        f"{folder}: tensor {name} is {entry.dtype}; expected {', '.join(NAMES)}"
                    )
                self._files[name], self.tensors[name] = path, entry
        if TIED in self.tensors and EMBEDDINGS in self.tensors and self._equal(TIED, EMBEDDINGS):
            del self.tensors[TIED]

    def slices(self, name: str) -> Iterator[Tensor]:
        """Yield a tensor's values in order, flat, at most `SLICE` of them at a time, in its own dtype."""
        with safe_open(str(self._files[name]), framework="pt") as file:
            view, shape = file.get_slice(name), self.tensors[name].shape
            if not shape:
                yield file.get_tensor(name).reshape(-1)
                return
            width = max(1, self.size(name) // max(1, shape[0]))
            rows = max(1, SLICE // width)
            for start in range(0, shape[0], rows):
                yield view[start : start + rows].reshape(-1)

    def whole(self, name: str) -> Iterator[Tensor]:
        """Yield a tensor at once, for what cannot be computed in slices."""
        with safe_open(str(self._files[name]), framework="pt") as file:
            yield file.get_tensor(name)

    def size(self, name: str) -> int:
        """Return the number of a tensor's values."""
        return int(torch.Size(self.tensors[name].shape).numel())

    def dtype(self, name: str) -> str:
        """Return torch's name of a tensor's dtype."""
        return NAMES[self.tensors[name].dtype]

    def _equal(self, first: str, second: str) -> bool:
        if self.tensors[first].shape != self.tensors[second].shape:
            return False
        pairs = zip(self.slices(first), self.slices(second), strict=True)
        return all(torch.equal(one, other) for one, other in pairs)


class TensorWriter:
    """A safetensors file that is written tensor after tensor, in the order of its header."""

    def __init__(self, path: Path, tensors: Mapping[str, tuple[str, tuple[int, ...]]]) -> None:
        """Plan the file.

        Args:
            path: must not exist.
            tensors: dtype (torch's name) and shape of each, in the order in which they will be written.
        """
        self._path, self._tensors = path, tensors
        self._left = iter(tensors)
        self._name, self._missing = "", 0

    def __enter__(self) -> Self:
        """Write the header."""
        header: dict[str, object] = {"__metadata__": {"format": "pt"}}
        start = 0
        for name, (dtype, shape) in self._tensors.items():
            size = torch.Size(shape).numel() * getattr(torch, dtype).itemsize
            header[name] = {"dtype": TAGS[dtype], "shape": list(shape), "data_offsets": [start, start + size]}
            start += size
        raw = json.dumps(header, separators=(",", ":")).encode()
        raw += b" " * (-len(raw) % 8)
        self._file.write(len(raw).to_bytes(8, "little") + raw)
        return self

    @cached_property
    def _file(self) -> BinaryIO:
        return self._path.open("xb")

    def write(self, name: str, values: Tensor) -> None:
        """Write the next values of a tensor, flat; they are converted to its dtype.

        Args:
            name: of the tensor; tensors come in the order of the header.
            values: any number of them.
        """
        if not self._missing:
            self._name = next(self._left)
            self._missing = torch.Size(self._tensors[self._name][1]).numel()
        assert name == self._name, f"{name} is written where {self._name} is due"
        dtype = getattr(torch, self._tensors[name][0])
        data = values.reshape(-1).to(dtype).contiguous()
        self._missing -= data.numel()
        assert self._missing >= 0, name
        self._file.write(data.view(torch.uint8).numpy().tobytes())

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        assert kind is not None or (not self._missing and next(self._left, None) is None), "not all written"
