"""The audio of one utterance, wherever it is stored: a file, a part of a file, or a row of a data set.

clip = FileClip(Path("clip.flac"))
clip.seconds(), clip.sha256(), clip.read().samples

Data sets of any kind look the same to training, evaluation and similarity.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Protocol

from adapter_hub.errors import IntegrityError, InvalidInputError
from adapter_hub.files.reading import file_sha256, open_regular
from adapter_hub.formats.canonical import canonical_bytes, sha256_hex
from adapter_hub.speech.audio import Audio, audio_seconds, decode_audio, read_audio, read_audio_part
from adapter_hub.speech.limits import FILE_BYTES, RECORDING_BYTES, check_duration

END_SECONDS = 0.05  # by which a part may exceed the end of its file: offsets are rounded


class Clip(Protocol):
    """The audio of one utterance."""

    @property
    def path(self) -> Path:
        """The file that holds it, alone or with other clips."""

    def seconds(self) -> float:
        """Return the duration in seconds that the header states, without decoding.

        Raises:
            NotFoundError, InvalidInputError: as `adapter_hub.speech.audio.audio_seconds`.
        """

    def sha256(self) -> str:
        """Return a sha256 that identifies the content: for a file, that of its bytes.

        Raises:
            OSError: it cannot be read. InvalidInputError: it is not an ordinary file, or too large.
        """

    def read(self, longest: float | None = None) -> Audio:
        """Return the decoded audio; its `sha256` is `sha256()` of the bytes that were decoded.

        Args:
            longest: the longest duration in seconds that the caller accepts; None for
                `limits.longest_seconds()`.

        Raises:
            NotFoundError, InvalidInputError: as `adapter_hub.speech.audio.read_audio`.
        """


@dataclass(frozen=True)
class FileClip:
    """A whole audio file."""

    path: Path

    def seconds(self) -> float:
        """Return the duration in seconds that the header states."""
        return audio_seconds(self.path)

    def sha256(self) -> str:
        """Return the sha256 of the file's bytes."""
        return file_sha256(self.path, RECORDING_BYTES)

    def read(self, longest: float | None = None) -> Audio:
        """Read and decode the file."""
        return read_audio(self.path, longest=longest)


@dataclass(frozen=True)
class SegmentClip:
    """A part of a longer recording: `duration` seconds from `offset` on."""

    path: Path
    offset: float
    duration: float

    def seconds(self) -> float:
        """Return the duration in seconds; the recording must be long enough according to its header."""
        whole = audio_seconds(self.path)
        if self.offset + self.duration > whole + END_SECONDS:
            raise InvalidInputError(
                f"{self.path}: {self.duration:g} s from {self.offset:g} s on, but it ends after {whole:.2f} s"
            )
        return self.duration

    def sha256(self) -> str:
        """Return the sha256 of what identifies the part: the file's content, offset and duration."""
        status = self.path.stat()
        whole = _recording_sha256(self.path, status.st_size, status.st_mtime_ns)
        part = {"file": whole, "offset": self.offset, "duration": self.duration}
        return sha256_hex(canonical_bytes(part))

    def read(self, longest: float | None = None) -> Audio:
        """Decode the part."""
        check_duration(f"{self.path} from {self.offset:g} s", self.seconds(), longest)
        return read_audio_part(self.path, self.offset, self.duration, sha256=self.sha256())


@dataclass(frozen=True)
class PackedClip:
    """An audio file inside a large file that holds the bytes of many, one after another.

    Attributes:
        path: the large file.
        start: offset of its first byte.
        size: in bytes.
        content: sha256 of the bytes when they were written.
        stated_seconds: the duration that its header stated then; None if that could not be read.
    """

    path: Path
    start: int
    size: int
    content: str
    stated_seconds: float | None

    def seconds(self) -> float:
        """Return the duration in seconds that the header states."""
        return self.stated_seconds if self.stated_seconds is not None else self.read().seconds

    def sha256(self) -> str:
        """Return the sha256 of the bytes."""
        return self.content

    def read(self, longest: float | None = None) -> Audio:
        """Decode the bytes.

        Raises:
            IntegrityError: the bytes have changed since they were written. InvalidInputError: not audio.
        """
        if self.size > FILE_BYTES:
            raise InvalidInputError(f"{self.path}: {self.size} bytes of audio; expected up to {FILE_BYTES}")
        with open_regular(self.path) as raw, io.BufferedReader(raw) as file:
            file.seek(self.start)
            data = file.read(self.size)
        audio_sha256 = sha256_hex(data)
        if audio_sha256 != self.content:
            raise IntegrityError(
                f"{self.path}: damaged at byte {self.start}",
                (),
                f"remove {self.path.parent} to download it again",
            )
        return decode_audio(data, self.path, longest=longest)


@lru_cache(maxsize=1024)
def _recording_sha256(path: Path, size: int, modified: int) -> str:
    """Hash a recording once for all of its parts, as long as size and modification time stay the same."""
    return file_sha256(path, RECORDING_BYTES)
