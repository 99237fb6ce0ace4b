"""Audio files as Whisper wants them: float32, mono, 16 kHz.

    audio = read_audio(Path("clip.flac"))
    audio.samples, audio.seconds, audio.sha256
    for samples in audio_blocks(Path("three_hours.flac")):      # memory of one block

WAV, FLAC, MP3, OGG and the other formats of libsndfile, at any sample rate and number of channels; with the
extra `media` M4A, WebM and all else that ffmpeg reads. `read_audio` reads the file once: the bytes that are
hashed are the bytes that are decoded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soxr
from numpy.typing import ArrayLike, NDArray

from adapter_hub.errors import InvalidInputError, NotFoundError
from adapter_hub.files.reading import read_bounded
from adapter_hub.formats.canonical import sha256_hex
from adapter_hub.speech.decoders import Decoder, open_decoder
from adapter_hub.speech.limits import FILE_BYTES, check_duration

SAMPLE_RATE = 16_000  # samples per second
MINIMUM_SECONDS = 0.1  # shorter audio holds no word, and Whisper would invent one
ROUNDING = 0.1  # seconds beyond a limit that are still decoded, so that an error can state the true length
BLOCK_SECONDS = 10
LOUDEST = 100.0  # no recording is a hundred times too loud: its samples have another scale
CANCELLED = 0.01  # share of the channels' power below which their mean is no mix
LARGE = 2**24  # bytes; the header of a larger file is checked before the rest is read
BLOCK_VALUES = 2**23  # samples of all channels in a block, at most: 32 MB
SNDFILE = {".wav", ".flac", ".mp3", ".ogg", ".oga", ".opus", ".aif", ".aiff", ".au", ".caf", ".w64", ".rf64"}
MEDIA = {".m4a", ".mp4", ".m4b", ".aac", ".webm", ".weba", ".mka", ".mkv", ".mov", ".3gp", ".ac3", ".amr",
         ".wma", ".mp2", ".avi"}  # fmt: skip
EXTENSIONS = frozenset(SNDFILE | MEDIA)  # of the files in a folder


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
    check_file(path)
    if path.stat().st_size > LARGE:
        with open_decoder(path) as decoder:
            check_duration(str(path), decoder.seconds or 0.0, longest)  # before it is read into memory
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
    with open_decoder(path, data) as decoder:
        limit = check_duration(str(path), decoder.seconds or 0.0, longest)
        blocks: list[NDArray[np.float32]] = []
        place = 0
        for block in decoder.blocks(_block_size(decoder)):
            blocks.append(_mono(block, str(path), place))
            place += len(block)
            check_duration(str(path), place / decoder.rate, limit)
        _check_whole(path, decoder)
        samples = np.concatenate(blocks) if blocks else np.zeros(0, dtype=np.float32)
        return audio_from_samples(samples, decoder.rate, where=str(path), sha256=sha256_hex(data))


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
    check_file(path)
    check_duration(f"{path} from {offset:g} s", duration, None)
    with open_decoder(path) as decoder:
        rate, wanted = decoder.rate, round(duration * decoder.rate)
        blocks, held = [], 0
        for block in decoder.blocks(_block_size(decoder), round(offset * rate)):
            blocks.append(block[: wanted - held])
            held += len(blocks[-1])
            if held == wanted:
                break
        if held < wanted and decoder.flaw:
            raise InvalidInputError(
                f"{path}: ends {held / rate:.1f} s after {offset:g} s; "
                "the file is truncated or damaged, get it again"
            )
        samples = np.concatenate(blocks) if blocks else np.zeros((0, 1), dtype=np.float32)
        return audio_from_samples(samples, rate, where=f"{path} from {offset:g} s", sha256=sha256)


def audio_blocks(path: Path, flawed: Callable[[str], None] | None = None) -> Iterator[NDArray[np.float32]]:
    """Yield the samples of an audio file as `read_audio` returns them, a few seconds at a time.

    Args:
        path: the file, of any duration.
        flawed: told at the end why the file is not whole; None raises that.

    Yields:
        `[n]` float32 at 16 kHz, about `BLOCK_SECONDS` each.

    Raises:
        NotFoundError, InvalidInputError: as `read_audio`, once the damaged part is reached.
    """
    check_file(path)
    with open_decoder(path) as decoder:
        rate, place = decoder.rate, 0
        stream = soxr.ResampleStream(rate, SAMPLE_RATE, 1, dtype="float32") if rate != SAMPLE_RATE else None
        for block in decoder.blocks(_block_size(decoder)):
            mono = _mono(block, str(path), place)
            place += len(block)
            yield mono if stream is None else stream.resample_chunk(mono)
        if decoder.flaw and flawed is not None and place:
            flawed(decoder.flaw)
        else:
            _check_whole(path, decoder)
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
    """Return the duration in seconds, as a file's header states or its frames count, without decoding it.

    Only where neither is possible, all of it is decoded.

    Raises:
        NotFoundError, InvalidInputError: as `read_audio`, except for errors in the samples.
    """
    check_file(path)
    with open_decoder(path) as decoder:
        if decoder.seconds is None:
            return sum(map(len, decoder.blocks(_block_size(decoder)))) / decoder.rate
        return decoder.seconds


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


def check_file(path: Path) -> None:
    """Refuse what is no file with something in it; nothing of it is read.

    Args:
        path: of a recording.

    Raises:
        NotFoundError: there is none. InvalidInputError: a folder, or an empty file.
    """
    if path.is_dir():
        raise InvalidInputError(f"{path}: a folder; expected an audio file")
    if not path.exists():
        raise NotFoundError(f"{path}: no such audio file")
    if path.is_file() and path.stat().st_size == 0:
        raise InvalidInputError(f"{path}: an empty file (0 bytes); expected audio")


def _block_size(decoder: Decoder) -> int:
    """Return how many frames are decoded at once."""
    return min(BLOCK_SECONDS * decoder.rate, BLOCK_VALUES // decoder.channels)


def _check_whole(path: Path, decoder: Decoder) -> None:
    if decoder.flaw:
        raise InvalidInputError(f"{path}: {decoder.flaw}")


def _mono(samples: NDArray[np.floating], where: str, first: int = 0) -> NDArray[np.float32]:
    """Return samples mixed to one channel, all finite; `first` is the index of the first one."""
    mono = samples.astype(np.float32, copy=False) if samples.ndim == 1 else _mixed(samples)
    peak = float(np.abs(mono).max(initial=0.0))
    if np.isfinite(peak) and peak > LOUDEST:
        raise InvalidInputError(
            f"{where}: samples up to {peak:g}; expected values between -1 and 1: "
            "divide 16-bit numbers by 32768"
        )
    if not np.isfinite(mono).all():
        bad = first + int(np.argmin(np.isfinite(mono)))
        raise InvalidInputError(f"{where}: sample {bad} is NaN or infinite; expected values between -1 and 1")
    return mono


def _mixed(samples: NDArray[np.floating]) -> NDArray[np.float32]:
    """Return the mean of the channels, or the louder one where they cancel each other out."""
    mono: NDArray[np.float32] = samples.mean(axis=1, dtype=np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        powers = np.square(samples, dtype=np.float64).mean(axis=0)
        if np.square(mono, dtype=np.float64).mean() < CANCELLED * powers.mean():
            return samples[:, int(powers.argmax())].astype(np.float32, copy=False)
    return mono


def _no_samples(where: str) -> InvalidInputError:
    return InvalidInputError(f"{where}: it holds no samples; expected at least {MINIMUM_SECONDS} s of audio")
