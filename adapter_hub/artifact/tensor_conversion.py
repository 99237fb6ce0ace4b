"""A safetensors file written again with other names and in float32, without torch or numpy.

    write_converted(source, target, {"…lora_A.default.weight": "…lora_A.weight"}, "F32")

Float16 and bfloat16 become float32 exactly; float64 is rounded as PEFT rounds it when it loads.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Collection, Iterable, Iterator, Mapping
from math import prod
from pathlib import Path

from adapter_hub.artifact.safetensors_file import BYTES, TensorEntry, read_header, tensor_bytes
from adapter_hub.errors import IntegrityError
from adapter_hub.escaping import shown

CONVERTED = "F32"
AT_ONCE = 2**16  # values
_FORMATS = {"F32": "", "BF16": "upper half", "F16": "e", "F64": "d"}  # of `struct`


def write_converted(source: Path, target: Path, names: Mapping[str, str], dtype: str) -> None:
    """Write some tensors of a safetensors file under new names.

    Args:
        source: the file.
        target: a new file.
        names: new names by old ones; others are left out.
        dtype: of all of them: their own, or `F32`.

    Raises:
        IntegrityError: the file is not sound, or a value is too large for float32.
    """
    entries = read_header(source)
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    end = 0
    for old in sorted(names):
        start, end = end, end + prod(entries[old].shape) * BYTES[dtype]
        header[names[old]] = {
            "dtype": dtype,
            "shape": list(entries[old].shape),
            "data_offsets": [start, end],
        }
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # the values stay aligned
    with target.open("xb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for entry, data in tensor_bytes(source):  # by name, as above
            if entry.name in names:
                file.writelines([data] if entry.dtype == dtype else _float32(source, entry, data))


def float32_digests(paths: Iterable[Path], names: Collection[str]) -> dict[str, str]:
    """Return the sha256 of tensors' values in float32, by name: equal for equal values in any format.

    Args:
        paths: of safetensors files.
        names: of the tensors; those that are not there are left out.

    Raises:
        IntegrityError: a file is not sound, or a value is too large for float32.
    """
    found = {}
    for path in paths:
        for entry, data in tensor_bytes(path):
            if entry.name in names and entry.dtype in _FORMATS:
                digest = hashlib.sha256()
                for part in _float32(path, entry, data):
                    digest.update(part)
                found[entry.name] = digest.hexdigest()
    return found


def _float32(path: Path, entry: TensorEntry, data: memoryview) -> Iterator[bytes | memoryview]:
    """Yield the values in float32, some at a time."""
    form, width = _FORMATS[entry.dtype], BYTES[entry.dtype]
    for start in range(0, len(data), AT_ONCE * width):
        part = data[start : start + AT_ONCE * width]
        count = len(part) // width
        if not form:
            yield part
        elif entry.dtype == "BF16":  # the upper half of a float32
            wide = bytearray(4 * count)
            wide[2::4], wide[3::4] = part[::2], part[1::2]
            yield bytes(wide)
        else:
            try:
                yield struct.pack(f"<{count}f", *struct.unpack(f"<{count}{form}", part))
            except OverflowError:
                raise IntegrityError(
                    f"{path}: tensor '{shown(entry.name, 100)}' has values too large for float32"
                ) from None
