"""Audio files as Whisper wants them: float32, mono, 16 kHz.

    audio = read_audio(Path("clip.flac"))
    audio.samples, audio.seconds, audio.sha256
    for samples in audio_blocks(Path("three_hours.flac")):      # memory of one block

WAV, FLAC, MP3, OGG and the other formats of libsndfile, at any sample rate and number of channels, without
ffmpeg. `read_audio` reads the file once: the bytes that are hashed are the bytes that are decoded.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import soxr
from numpy.typing import ArrayLike, NDArray

from adapter_hub.errors import InvalidInputError, NotFoundError
from adapter_hub.escaping import shown
from adapter_hub.files.reading import open_regular, read_bounded
from adapter_hub.formats.canonical import sha256_hex
from adapter_hub.speech.limits import FILE_BYTES, check_duration, check_header

SAMPLE_RATE = 16_000  # samples per second
MINIMUM_SECONDS = 0.1  # shorter audio holds no word, and Whisper would invent one
ROUNDING = 0.1  # seconds beyond a limit that are still decoded, so that an error can state the true length
BLOCK_SECONDS = 10
LARGE = 2**24  # bytes; the header of a larger file is checked before the rest is read
BLOCK_VALUES = 2**23  # samples of all channels in a block, at most: 32 MB
UNKNOWN_SIZE = 0x7FFF_F000  # programs that write to a pipe put this size or more into a header
DECLARED = re.compile(r":\s*(\d+) \(should be (\d+)\)")  # what libsndfile says of a header and the file
EXTENSIONS = frozenset({".wav", ".flac", ".mp3", ".ogg", ".oga", ".opus", ".aif", ".aiff", ".au", ".caf"})


@dataclass(frozen=True, eq=False)
class Audio:
    """One channel of sound.

    Attributes:
        samples: `[n]` float32, usually within -1 to 1.
        sample_rate: samples per second, always 16 000.
        sha256: of the file's bytes, or of the samples' bytes if there was no file.
    """

    samples: NDArray[np.float32]
    sample_rate: int
    sha256: str

    @property
    def seconds(self) -> float:
        """The duration in seconds."""
        return len(self.samples) / self.sample_rate


def read_audio(path: Path, *, longest: float | None = None) -> Audio:
    """Read an audio file, mixed to one channel and resampled to 16 kHz.

    Args:
        path: the file.
        longest: the longest duration in seconds that the caller accepts; None for
            `limits.longest_seconds()`. Longer audio is refused because of its header or, if that is wrong,
            during decoding.

    Raises:
        NotFoundError: no such file.
        InvalidInputError: a folder or a pipe; an empty or truncated file, or not audio; no samples, NaN or
            infinite ones; longer than `longest`; an implausible sample rate or number of channels.
    """
    _check_file(path)
    if path.stat().st_size > LARGE:
        with _opened(path) as file:
            check_duration(str(path), _stated_seconds(file), longest)  # before it is read into memory
    return decode_audio(read_bounded(path, FILE_BYTES), path, longest=longest)


def decode_audio(data: bytes, path: Path, *, longest: float | None = None) -> Audio:
    """Decode the bytes of an audio file as `read_audio` does.

    Args:
        data: the whole file.
        path: its name in errors.
        longest: as in `read_audio`.

    Raises:
        InvalidInputError: as `read_audio`.
    """
    with _opened(path, _Bytes(data)) as file:
        limit = check_duration(str(path), _stated_seconds(file), longest)
        blocks: list[NDArray[np.float32]] = []
        place = 0
        for block in _decoded(path, file):
            blocks.append(_mono(block, str(path), place))
            place += len(block)
            check_duration(str(path), place / file.samplerate, limit)
        samples = np.concatenate(blocks) if blocks else np.zeros(0, dtype=np.float32)
        return audio_from_samples(samples, file.samplerate, where=str(path), sha256=sha256_hex(data))


def read_audio_part(path: Path, offset: float, duration: float, *, sha256: str) -> Audio:
    """Read a part of an audio file as `read_audio` reads a whole one, without decoding what is before it.

    Args:
        path: the file.
        offset: where the part begins, in seconds.
        duration: of the part in seconds; it may end with the file.
        sha256: of what identifies the part.

    Raises:
        NotFoundError, InvalidInputError: as `read_audio`, or the file ends before the part begins.
    """
    _check_file(path)
    check_duration(f"{path} from {offset:g} s", duration, None)
    with _opened(path) as file:
        rate = file.samplerate
        start = min(round(offset * rate), file.frames)
        try:
            file.seek(start)
            samples = file.read(round(duration * rate), dtype="float32", always_2d=True)
        except (soundfile.SoundFileError, TypeError) as error:
            raise _unreadable(path, error) from None
        if len(samples) < min(round(duration * rate), file.frames - start):
            raise InvalidInputError(
                f"{path}: ends {len(samples) / rate:.1f} s after {offset:g} s; "
                "the file is truncated or damaged, get it again"
            )
        return audio_from_samples(samples, rate, where=f"{path} from {offset:g} s", sha256=sha256)


def audio_blocks(path: Path) -> Iterator[NDArray[np.float32]]:
    """Yield the samples of an audio file as `read_audio` returns them, a few seconds at a time.

    Args:
        path: the file, of any duration.

    Yields:
        `[n]` float32 at 16 kHz, about `BLOCK_SECONDS` each.

    Raises:
        NotFoundError, InvalidInputError: as `read_audio`, once the damaged part is reached.
    """
    _check_file(path)
    with _opened(path) as file:
        rate, place = file.samplerate, 0
        stream = soxr.ResampleStream(rate, SAMPLE_RATE, 1, dtype="float32") if rate != SAMPLE_RATE else None
        for block in _decoded(path, file):
            mono = _mono(block, str(path), place)
            place += len(block)
            yield mono if stream is None else stream.resample_chunk(mono)
        if place == 0:
            raise _no_samples(str(path))
        if stream is not None:
            yield stream.resample_chunk(np.zeros(0, dtype=np.float32), last=True)


def audio_from_samples(
    samples: ArrayLike, sample_rate: int, *, where: str = "audio", sha256: str | None = None
) -> Audio:
    """Return samples as `Audio`.

    Args:
        samples: `[n]` or `[n, channels]`, real numbers.
        sample_rate: of `samples`, in samples per second.
        where: their name in errors.
        sha256: of the file that the samples came from; None for that of the samples.

    Raises:
        InvalidInputError: no samples, a wrong shape or rate, NaN or infinite samples.
    """
    array = np.asarray(samples)
    if array.ndim not in (1, 2) or array.dtype.kind != "f":
        raise InvalidInputError(
            f"{where}: {array.dtype} samples of shape {list(array.shape)}; "
            "expected floats of shape [n] or [n, channels]"
        )
    if sample_rate < 1:
        raise InvalidInputError(
            f"{where}: sample rate {sample_rate}; expected samples per second, at least 1"
        )
    if array.shape[0] == 0:
        raise _no_samples(where)
    mono = _mono(array, where)
    if sample_rate != SAMPLE_RATE:
        mono = soxr.resample(mono, sample_rate, SAMPLE_RATE)
    mono = np.ascontiguousarray(mono, dtype=np.float32)
    return Audio(mono, SAMPLE_RATE, sha256 or sha256_hex(mono.tobytes()))


def audio_seconds(path: Path) -> float:
    """Return the duration in seconds that a file's header states, without decoding it.

    Raises:
        NotFoundError, InvalidInputError: as `read_audio`, except for errors in the samples.
    """
    _check_file(path)
    with _opened(path) as file:
        return _stated_seconds(file)


def check_seconds(seconds: float, maximum: float, where: str) -> None:
    """Refuse audio that is too short to hold speech or longer than the base model's chunk.

    Args:
        seconds: its duration.
        maximum: of the base model, in seconds.
        where: its name in errors.

    Raises:
        InvalidInputError: with the limit.
    """
    if seconds < MINIMUM_SECONDS:
        raise InvalidInputError(f"{where}: {seconds:.3f} s of audio; expected at least {MINIMUM_SECONDS} s")
    if seconds > maximum:
        raise InvalidInputError(
            f"{where}: {seconds:.1f} s of audio, but the base model takes at most {maximum:g} s; "
            f"cut it into pieces of up to {maximum:g} s"
        )


def find_audio(path: Path) -> list[Path]:
    """Return `path` itself, or the audio files anywhere inside a folder, sorted.

    Raises:
        NotFoundError: a folder without audio files.
    """
    if not path.is_dir():
        return [path]
    found = sorted(file for file in path.rglob("*") if file.suffix.lower() in EXTENSIONS and file.is_file())
    if not found:
        raise NotFoundError(
            f"{path}: no audio files in this folder; expected {', '.join(sorted(EXTENSIONS))}"
        )
    return found


def _check_file(path: Path) -> None:
    if path.is_dir():
        raise InvalidInputError(f"{path}: a folder; expected an audio file")
    if not path.exists():
        raise NotFoundError(f"{path}: no such audio file")
    if path.is_file() and path.stat().st_size == 0:
        raise InvalidInputError(f"{path}: an empty file (0 bytes); expected audio")


class _Bytes(io.BytesIO):
    """Bytes as a file; seeking before their beginning raises nothing, since the caller is C code."""

    def seek(self, offset: int, whence: int = 0, /) -> int:
        try:
            return super().seek(offset, whence)
        except (ValueError, OverflowError):
            return super().seek(0)  # as soundfile answers where seeking fails


@contextmanager
def _opened(path: Path, data: io.BytesIO | None = None) -> Iterator[Any]:
    """Open an audio file, or its bytes, and check its header against its size and the limits.

    It is opened by its descriptor: never a pipe or device, and its name need not be UTF-8.
    """
    source = open_regular(path) if data is None else data
    with source:
        try:
            file = soundfile.SoundFile(source.fileno() if data is None else data, closefd=False)
        except (soundfile.SoundFileError, TypeError) as error:
            raise _unreadable(path, error) from None
        with file:
            for declared, found in DECLARED.findall(file.extra_info):
                if int(found) < int(declared) < UNKNOWN_SIZE:
                    raise InvalidInputError(
                        f"{path}: {found} of the {declared} bytes that its header states are there; "
                        "the file is truncated, get it again"
                    )
            check_header(str(path), file.samplerate, file.channels, file.frames)
            yield file


def _stated_seconds(file: Any) -> float:
    return float(file.frames / file.samplerate)


def _decoded(path: Path, file: Any) -> Iterator[NDArray[np.float32]]:
    """Yield blocks of samples, `[n, channels]` float32, until the end that the header states."""
    size = min(BLOCK_SECONDS * file.samplerate, BLOCK_VALUES // file.channels)
    done = 0
    while True:
        try:
            block = file.read(size, dtype="float32", always_2d=True)
        except (soundfile.SoundFileError, TypeError):
            block = np.zeros((0, 1), dtype=np.float32)  # treated as the end, which is checked below
        if not len(block):
            break
        done += len(block)
        yield block
    if done < file.frames:
        rate = file.samplerate
        raise InvalidInputError(
            f"{path}: ends after {done / rate:.1f} s of the {file.frames / rate:.1f} s that its header "
            "states; the file is truncated or damaged, get it again"
        )


def _mono(samples: NDArray[np.floating], where: str, first: int = 0) -> NDArray[np.float32]:
    """Return samples mixed to one channel, all finite; `first` is the index of the first one."""
    mono = (
        samples.astype(np.float32, copy=False)
        if samples.ndim == 1
        else samples.mean(axis=1, dtype=np.float32)
    )
    if not np.isfinite(mono).all():
        bad = first + int(np.argmin(np.isfinite(mono)))
        raise InvalidInputError(f"{where}: sample {bad} is NaN or infinite; expected values between -1 and 1")
    return mono


def _no_samples(where: str) -> InvalidInputError:
    return InvalidInputError(f"{where}: it holds no samples; expected at least {MINIMUM_SECONDS} s of audio")


def _unreadable(path: Path, error: Exception) -> InvalidInputError:
    # libsndfile's reason, without the way in which it was given the file
    reason = shown(" ".join(str(getattr(error, "error_string", error)).split()).rstrip("."))
    return InvalidInputError(
        f"{path}: cannot be read as audio ({reason}); expected WAV, FLAC, MP3 or OGG, convert other formats"
    )
