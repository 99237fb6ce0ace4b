"""What may be given as a recording: paths, bytes, file objects, arrays, tensors, and rows of data sets.

    check_input(row["audio"])                  # raises at once for what is no recording
    source = opened_input(row["audio"], None, "audio 1")     # a path, or decoded `Audio`

An array alone is taken at the sample rate that the caller names, 16 kHz by default; `(array, 8000)`,
`(8000, array)` and the data sets' `{"array": …, "sampling_rate": 8000}` bring their own.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from adapter_hub.errors import InvalidInputError
from adapter_hub.speech.audio import SAMPLE_RATE, Audio, audio_from_samples, decode_audio
from adapter_hub.speech.limits import FILE_BYTES

AudioInput = (
    str
    | os.PathLike[str]
    | Audio
    | bytes
    | bytearray
    | NDArray[Any]
    | BinaryIO
    | Mapping[str, Any]
    | tuple[Any, Any]
)

EXPECTED = (
    "expected a path, bytes, a file object, an array or tensor of samples, (samples, sample rate), "
    '{"array": …, "sampling_rate": …}, or several of these'
)


def is_input(item: Any) -> bool:
    """Tell whether something is one recording, and not several or something else.

    Args:
        item: anything.
    """
    return (
        isinstance(item, str | os.PathLike | Audio | bytes | bytearray | memoryview | np.ndarray | Mapping)
        or _is_tensor(item)
        or callable(getattr(item, "read", None))
        or _pair(item) is not None
    )


def check_input(item: Any) -> None:
    """Refuse what is no recording.

    Args:
        item: anything.

    Raises:
        InvalidInputError: with what is expected.
    """
    if not is_input(item):
        raise InvalidInputError(f"{type(item).__name__} as a recording; {EXPECTED}")


def opened_input(item: Any, sample_rate: int | None, where: str) -> Path | Audio:
    """Return a path as it is, and anything else as `Audio`.

    Args:
        item: a recording, see `is_input`.
        sample_rate: of an array that brings none, in samples per second; None is 16 000.
        where: its name in errors.

    Raises:
        InvalidInputError: it cannot be decoded, or is not samples.
    """
    if isinstance(item, str | os.PathLike):
        return Path(item)
    if isinstance(item, Audio):
        return item
    if isinstance(item, bytes | bytearray | memoryview):
        return decode_audio(bytes(item), Path(where))
    if isinstance(item, Mapping):
        return _of_mapping(item, sample_rate, where)
    if (pair := _pair(item)) is not None:
        return _of_array(pair[0], pair[1], where)
    if callable(getattr(item, "read", None)):
        data = item.read(FILE_BYTES + 1)
        if not isinstance(data, bytes) or len(data) > FILE_BYTES:
            raise InvalidInputError(f"{where}: a file of text, or of more than {FILE_BYTES} bytes")
        return decode_audio(data, Path(where))
    return _of_array(item, sample_rate, where)


def _of_mapping(item: Mapping[str, Any], sample_rate: int | None, where: str) -> Path | Audio:
    """Return the audio of a data set's row, decoded or not."""
    if item.get("array") is not None:
        return _of_array(item["array"], item.get("sampling_rate", sample_rate), where)
    for name in ("bytes", "path"):  # a row that was not decoded
        if item.get(name):
            return opened_input(item[name], sample_rate, where)
    raise InvalidInputError(f"{where}: a mapping of {', '.join(map(str, list(item)[:5]))}; {EXPECTED}")


def _of_array(samples: Any, sample_rate: Any, where: str) -> Audio:
    """Return samples as audio; whole numbers are taken in the range of their type."""
    if _is_tensor(samples):
        array = (
            samples.detach().cpu().float().numpy() if samples.is_floating_point() else samples.cpu().numpy()
        )
        array = array.T if array.ndim == 2 else array  # torch's audio is [channels, n]
    else:
        array = np.asarray(samples)
    if array.dtype.kind in "iu" and array.dtype.itemsize > 1:
        array = (array / float(np.iinfo(array.dtype).max + 1)).astype(np.float32)
    return audio_from_samples(array, SAMPLE_RATE if sample_rate is None else int(sample_rate), where=where)


def _is_tensor(item: Any) -> bool:
    """Tell a torch tensor, without importing torch."""
    return type(item).__module__.partition(".")[0] == "torch" and hasattr(item, "detach")


def _pair(item: Any) -> tuple[Any, int] | None:
    """Return samples and their rate where the two were given together, in either order."""
    if not isinstance(item, tuple) or len(item) != 2:
        return None
    for samples, rate in (item, item[::-1]):
        is_rate = isinstance(rate, int | np.integer) and not isinstance(rate, bool)
        if is_rate and (isinstance(samples, np.ndarray) or _is_tensor(samples)):
            return samples, int(rate)
    return None
