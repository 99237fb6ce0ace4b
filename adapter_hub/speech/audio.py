"""Audio files as Whisper wants them: float32, mono, 16 kHz.

    audio = read_audio(Path("clip.flac"))
    audio.samples, audio.seconds, audio.sha256

WAV, FLAC, MP3, OGG and whatever else libsndfile reads, at any rate and number of channels; no ffmpeg.
The file is read once: what is hashed is what is decoded.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import soxr
from numpy.typing import ArrayLike, NDArray

from adapter_hub.canonical import sha256_hex
from adapter_hub.errors import InvalidInputError, NotFoundError

SAMPLE_RATE = 16_000  # samples a second
MINIMUM_SECONDS = 0.1  # less holds no word; Whisper then invents one
EXTENSIONS = frozenset({".wav", ".flac", ".mp3", ".ogg", ".oga", ".opus", ".aif", ".aiff", ".au", ".caf"})


@dataclass(frozen=True, eq=False)
class Audio:
    """One channel of sound.

    Attributes:
        samples: `[n]` float32, usually within -1 to 1.
        sample_rate: samples a second, always 16 000.
        sha256: of the file's bytes (of the samples' bytes, where there was no file).
    """

    samples: NDArray[np.float32]
    sample_rate: int
    sha256: str

    @property
    def seconds(self) -> float:
        """The duration."""
        return len(self.samples) / self.sample_rate


def read_audio(path: Path) -> Audio:
    """Read an audio file, mixed to one channel and resampled to 16 kHz.

    Raises:
        NotFoundError: no such file.
        InvalidInputError: a folder, empty, no audio, no samples, NaN or infinite samples.
    """
    data = _read_bytes(path)
    try:
        samples, rate = soundfile.read(io.BytesIO(data), dtype="float32", always_2d=True)
    except (soundfile.SoundFileError, TypeError) as error:
        raise _unreadable(path, error) from None
    return audio_from_samples(samples, rate, where=str(path), sha256=sha256_hex(data))


def audio_from_samples(
    samples: ArrayLike, sample_rate: int, *, where: str = "audio", sha256: str | None = None
) -> Audio:
    """Return samples as `Audio`.

    Args:
        samples: `[n]` or `[n, channels]`, real numbers.
        sample_rate: samples a second of `samples`.
        where: what to call it in an error.
        sha256: of the file that the samples came from.

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
        raise InvalidInputError(f"{where}: sample rate {sample_rate}; expected samples a second")
    if array.shape[0] == 0:
        raise InvalidInputError(f"{where}: no samples in it; expected at least {MINIMUM_SECONDS} s of audio")
    mono = array.astype(np.float32, copy=False) if array.ndim == 1 else array.mean(axis=1, dtype=np.float32)
    if not np.isfinite(mono).all():
        bad = int(np.argmin(np.isfinite(mono)))
        raise InvalidInputError(f"{where}: sample {bad} is NaN or infinite; expected values between -1 and 1")
    if sample_rate != SAMPLE_RATE:
        mono = soxr.resample(mono, sample_rate, SAMPLE_RATE)
    mono = np.ascontiguousarray(mono, dtype=np.float32)
    return Audio(mono, SAMPLE_RATE, sha256 or sha256_hex(mono.tobytes()))


def audio_seconds(path: Path) -> float:
    """Return the duration that a file's header states, without decoding it.

    Raises:
        NotFoundError, InvalidInputError: as `read_audio`, but for the values of the samples.
    """
    if not path.is_file() or path.stat().st_size == 0:
        _read_bytes(path)
    try:
        info = soundfile.info(str(path))
    except (soundfile.SoundFileError, TypeError) as error:
        raise _unreadable(path, error) from None
    return float(info.frames / info.samplerate)


def check_seconds(seconds: float, maximum: float, where: str) -> None:
    """Refuse audio that is too short to hold speech or longer than the base model's chunk.

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
    """Return the audio files that `path` stands for: itself, or those inside a folder, sorted.

    Raises:
        NotFoundError: nothing is there, or a folder without audio files.
    """
    if not path.is_dir():
        return [path]
    found = sorted(file for file in path.rglob("*") if file.suffix.lower() in EXTENSIONS and file.is_file())
    if not found:
        raise NotFoundError(
            f"{path}: no audio files in this folder; expected {', '.join(sorted(EXTENSIONS))}"
        )
    return found


def _read_bytes(path: Path) -> bytes:
    if path.is_dir():
        raise InvalidInputError(f"{path}: a folder; expected an audio file")
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise NotFoundError(f"{path}: no such audio file") from None
    if not data:
        raise InvalidInputError(f"{path}: an empty file (0 bytes); expected audio")
    return data


def _unreadable(path: Path, error: Exception) -> InvalidInputError:
    reason = " ".join(str(error).split()).removeprefix("Error opening ")
    return InvalidInputError(
        f"{path}: cannot be read as audio ({reason}); expected WAV, FLAC, MP3 or OGG, convert other formats"
    )
