"""Reading safetensors without torch: headers under limits, digests, and what the values hold.

A header is untrusted input: its size, names, shapes and offsets are checked before memory is taken.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Any

from adapter_hub.errors import IntegrityError, InvalidInputError
from adapter_hub.escaping import shown
from adapter_hub.files.reading import IS_POINTER, LFS_POINTER, open_regular
from adapter_hub.formats.canonical import canonical_bytes, digest_of, read_json, sha256_hex

MAXIMUM_HEADER = 16 * 2**20  # bytes; a header of 50 000 tensors is about 6 MB
MAXIMUM_HEADER_VALUES = 1_000_000  # in it; a tensor has six to eight
LONGEST_NAME = 512  # characters of a tensor's name
MAXIMUM_DIMENSIONS = 8
SMALL = 4 * 2**20  # bytes; up to this a file is read at once
BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1}


@dataclass(frozen=True)
class TensorEntry:
    """A tensor of a file: its dtype as safetensors names it, its shape, and where its bytes are."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int  # offset in the file, in bytes
    stop: int

    @property
    def is_matrix(self) -> bool:
        """Whether it is of a linear: two sides, or three of a convolution over single positions."""
        return len(self.shape) == 2 or (len(self.shape) == 3 and self.shape[2] == 1)


def read_header(path: Path) -> dict[str, TensorEntry]:
    """Return the tensors of a safetensors file by name, without reading their values.

    Args:
        path: of the file.

    Raises:
        IntegrityError: truncated, an oversized or broken header, offsets that leave gaps or overlap.
        InvalidInputError: no ordinary file.
    """
    with open_regular(path) as file:
        return header_in(file, path)


def header_in(file: FileIO, path: Path) -> dict[str, TensorEntry]:
    """Return the tensors of an open safetensors file; messages call it `path`. See `read_header`.

    Args:
        file: open for reading; its place in it is changed.
        path: what messages call it.
    """
    file.seek(0)
    size = os.fstat(file.fileno()).st_size
    start = file.read(8)
    if len(start) < 8:
        raise IntegrityError(f"{path}: {size} bytes, too short for a safetensors file")
    if start == LFS_POINTER[:8]:
        raise IntegrityError(f"{path}: {IS_POINTER}")
    length = struct.unpack("<Q", start)[0]
    if length > MAXIMUM_HEADER:
        raise IntegrityError(f"{path}: header of {length} bytes, at most {MAXIMUM_HEADER} allowed")
    if 8 + length > size:
        raise IntegrityError(f"{path}: truncated inside its header ({size} bytes)")
    return parse_header(file.read(length), size, path)


def parse_header(raw: bytes, size: int, path: Path) -> dict[str, TensorEntry]:
    """Return the tensors that the header of a file of `size` bytes describes. See `read_header`.

    Args:
        raw: the JSON of the header alone.
        size: bytes of the whole file.
        path: what messages call it.
    """
    length = len(raw)
    try:
        header = read_json(raw, str(path), values=MAXIMUM_HEADER_VALUES)
    except InvalidInputError as error:
        raise IntegrityError(f"{error} (not a safetensors header)") from None
    if not isinstance(header, dict):
        raise IntegrityError(f"{path}: the safetensors header is not a JSON object")
    header.pop("__metadata__", None)
    entries = [_entry(path, name, item, 8 + length) for name, item in header.items()]
    end = 8 + length
    for entry in sorted(entries, key=lambda entry: entry.start):
        if entry.start != end:
            raise IntegrityError(f"{path}: tensor '{shown(entry.name, 100)}' leaves a gap or overlaps")
        end = entry.stop
    if end != size:
        raise IntegrityError(f"{path}: {size} bytes, but its header describes {end} (truncated or padded)")
    return {entry.name: entry for entry in entries}


def read_metadata(path: Path) -> dict[str, Any]:
    """Return the notes that the program which wrote a safetensors file left in its header.

    Raises:
        IntegrityError, InvalidInputError: as `read_header`.
    """
    with open_regular(path, follow=False) as file:
        header_in(file, path)  # only where it is sound
        notes = _raw_header(file, path).get("__metadata__")
    return notes if isinstance(notes, dict) else {}


def copy_without_notes(source: Path, target: Path) -> None:
    """Copy a safetensors file, its tensors byte for byte; of its notes only `format` stays.

    Programs that train write there how they were called: folders, names of files, whole command lines.

    Args:
        source: of the file.
        target: of the copy.

    Raises:
        IntegrityError, InvalidInputError: as `read_header`; a link is followed.
    """
    with open_regular(source) as file, target.open("xb") as copy:
        header_in(file, source)
        header = _raw_header(file, source)
        if header.get("__metadata__", {}).keys() - {"format"}:
            header["__metadata__"] = {"format": "pt"}
            text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
            text += b" " * (-len(text) % 8)  # the values stay aligned
            copy.write(struct.pack("<Q", len(text)) + text)
        else:
            file.seek(0)
        shutil.copyfileobj(file, copy, 2**20)


def _raw_header(file: FileIO, path: Path) -> dict[str, Any]:
    """Return the header of an open file that `header_in` found sound; the file stands at its first value."""
    file.seek(0)
    length = int.from_bytes(file.read(8), "little")
    header = read_json(file.read(length), str(path))
    assert isinstance(header, dict)
    return header


def _entry(path: Path, name: str, item: Any, base: int) -> TensorEntry:
    try:
        dtype, shape, (start, stop) = item["dtype"], tuple(item["shape"]), item["data_offsets"]
        whole = all(type(n) is int and 0 <= n < 2**53 for n in (*shape, start, stop))
        right = (
            whole
            and len(name) <= LONGEST_NAME
            and len(shape) <= MAXIMUM_DIMENSIONS
            and stop - start == math.prod(shape) * BYTES[dtype]
        )
    except (KeyError, TypeError, ValueError):
        right = False
    if not right:
        raise IntegrityError(f"{path}: the header's entry of tensor '{shown(name, 100)}' is not sound")
    return TensorEntry(name, dtype, shape, base + start, base + stop)


def tensor_bytes(path: Path) -> Iterator[tuple[TensorEntry, memoryview]]:
    """Yield every tensor of a file with its raw bytes, in order of name.

    The bytes are valid until the next tensor: those of a large file are read one by one into one buffer,
    which is faster than fresh memory, and a base model of gigabytes takes no more than its largest tensor.

    Args:
        path: of the file.
    """
    with open_regular(path) as file:  # header and values of one file, whatever takes its place meanwhile
        header = header_in(file, path)
        if os.fstat(file.fileno()).st_size <= SMALL:
            file.seek(0)
            whole = memoryview(file.read(SMALL))
            parts: Iterator[tuple[TensorEntry, memoryview]] = (
                (entry, whole[entry.start : entry.stop]) for _, entry in sorted(header.items())
            )
        else:
            parts = _one_by_one(file, header)
        for entry, data in parts:
            if len(data) != entry.stop - entry.start:
                raise IntegrityError(f"{path}: became shorter while it was read")
            yield entry, data


def _one_by_one(file: FileIO, header: Mapping[str, TensorEntry]) -> Iterator[tuple[TensorEntry, memoryview]]:
    buffer = memoryview(bytearray(max((entry.stop - entry.start for entry in header.values()), default=0)))
    for _, entry in sorted(header.items()):
        data, filled = buffer[: entry.stop - entry.start], 0
        file.seek(entry.start)
        while filled < len(data) and (count := file.readinto(data[filled:])):
            filled += count
        yield entry, data[:filled]


def tensor_rows(path: Path, label: str) -> list[list[Any]]:
    """Return `[label, tensor, dtype, shape, sha256 of the raw bytes]` for every tensor of a file.

    Args:
        path: of the file.
        label: the first item of every row: what a digest calls the file.
    """
    return [
        [label, entry.name, entry.dtype, list(entry.shape), sha256_hex(data)]
        for entry, data in tensor_bytes(path)
    ]


def weights_digest(folder: Path, paths: list[str]) -> str:
    """Return the digest of all tensors of the safetensors files `paths` of an artifact.

    It depends on names, dtypes, shapes and values alone, not on how a file orders its tensors.

    Args:
        folder: of the artifact.
        paths: relative POSIX paths, in any order.
    """
    rows = [row for path in sorted(paths) for row in tensor_rows(folder / path, path)]
    return digest_of(canonical_bytes(rows))


def all_finite(entry: TensorEntry, data: memoryview) -> bool:
    """Tell whether no value is NaN or infinite; the bit patterns suffice, no numpy needed.

    Args:
        entry: gives the dtype.
        data: the tensor's raw bytes.
    """
    check = _EXPONENT_CHECKS.get(entry.dtype)
    return check is None or check(bytes(data))


def any_nonzero(entry: TensorEntry, data: memoryview) -> bool:
    """Tell whether any value differs from zero (of either sign).

    Args:
        entry: gives the dtype.
        data: raw bytes of the tensor, or of a part of it.
    """
    width = BYTES[entry.dtype]
    raw = bytes(data)
    if entry.dtype not in _EXPONENT_CHECKS:
        return any(raw)
    low = any(raw[i::width].strip(b"\0") for i in range(width - 1))
    return low or bool(raw[width - 1 :: width].translate(None, b"\0\x80"))


def _check(width: int, top: Callable[[int], bool], second: Callable[[int], bool]) -> Callable[[bytes], bool]:
    """Build the test of one float format: exponent all ones, read from its two highest bytes."""
    not_top = bytes(b for b in range(256) if not top(b))

    def finite(raw: bytes) -> bool:
        high = raw[width - 1 :: width]
        if not high.translate(None, not_top):
            return True  # no value with these high bits: the usual case, at C speed
        below = raw[width - 2 :: width]
        return not any(top(a) and second(b) for a, b in zip(high, below, strict=True))

    return finite


_EXPONENT_CHECKS: Mapping[str, Callable[[bytes], bool]] = {
    "F16": _check(2, lambda b: b & 0x7C == 0x7C, lambda _: True),
    "BF16": _check(2, lambda b: b & 0x7F == 0x7F, lambda b: b & 0x80 == 0x80),
    "F32": _check(4, lambda b: b & 0x7F == 0x7F, lambda b: b & 0x80 == 0x80),
    "F64": _check(8, lambda b: b & 0x7F == 0x7F, lambda b: b & 0xF0 == 0xF0),
}
