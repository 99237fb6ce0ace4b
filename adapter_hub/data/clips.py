"""Where an utterance's audio lies, behind the same three questions whatever it lies in.

clip = FileClip(Path("clip.flac"))
clip.seconds(), clip.sha256(), clip.read().samples

So that data sets of any kind look alike to training, evaluation and similarity.
"""

from __future__ import annotations

import hashlib
import io
import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Protocol

from adapter_hub.errors import IntegrityError, InvalidInputError
from adapter_hub.files.reading import open_regular
from adapter_hub.formats.canonical import canonical_bytes, sha256_hex
from adapter_hub.speech.audio import Audio, audio_seconds, decode_audio, read_audio, read_audio_part
from adapter_hub.speech.limits import FILE_BYTES, RECORDING_BYTES, check_duration

END_SECONDS = 0.05  # that a part may reach beyond the end: offsets are rounded


class Clip(Protocol):
    """The audio of one utterance."""

    @property
    def path(self) -> Path:
        """The file that holds it, alone or among others."""

    def seconds(self) -> float:
        """Return the duration that the header states, without decoding.

        Raises:
            NotFoundError, InvalidInputError: as `adapter_hub.speech.audio.audio_seconds`.
        """

    def sha256(self) -> str:
        """Return what identifies the content: for a file, the sha256 of its bytes.

        Raises:
            NotFoundError: it is not there.
        """

    def read(self, longest: float | None = None) -> Audio:
        """Return it decoded; `Audio.sha256` is `sha256()` of the very bytes that were decoded.

        Args:
            longest: seconds that the caller has a use for; None for `limits.longest_seconds()`.

        Raises:
            NotFoundError, InvalidInputError: as `adapter_hub.speech.audio.read_audio`.
        """


@dataclass(frozen=True)
class FileClip:
    """A whole audio file."""

    path: Path

    def seconds(self) -> float:
        """Return what the header states."""
        return audio_seconds(self.path)

    def sha256(self) -> str:
        """Return the sha256 of the file's bytes."""
        return _hashed(self.path)

    def read(self, longest: float | None = None) -> Audio:
        """Read and decode the file, once."""
        return read_audio(self.path, longest=longest)


@dataclass(frozen=True)
class SegmentClip:
    """A part of a longer recording: `duration` seconds from `offset` on."""

    path: Path
    offset: float
    duration: float

    def seconds(self) -> float:
        """Return the duration, after a look at the header: the recording has to be long enough."""
        whole = audio_seconds(self.path)
        if self.offset + self.duration > whole + END_SECONDS:
            raise InvalidInputError(
                f"{self.path}: {self.duration:g} s from {self.offset:g} s on, but it ends after {whole:.2f} s"
            )
        return self.duration

    def sha256(self) -> str:
        """Return the sha256 of what names the part: the file's content, offset and duration."""
        status = self.path.stat()
        whole = _file_sha256(self.path, status.st_size, status.st_mtime_ns)
        part = {"file": whole, "offset": self.offset, "duration": self.duration}
        return sha256_hex(canonical_bytes(part))

    def read(self, longest: float | None = None) -> Audio:
        """Decode the part."""
        check_duration(f"{self.path} from {self.offset:g} s", self.seconds(), longest)
        return read_audio_part(self.path, self.offset, self.duration, sha256=self.sha256())


@dataclass(frozen=True)
class PackedClip:
    """An audio file among others in one large file, which holds their bytes one after another.

    Attributes:
        path: the large file.
        start: where its bytes begin.
        size: how many there are.
        content: their sha256 when they were written.
        stated_seconds: the duration that its header stated then; None if it could not be read.
    """

    path: Path
    start: int
    size: int
    content: str
    stated_seconds: float | None

    def seconds(self) -> float:
        """Return what the header states."""
        return self.stated_seconds if self.stated_seconds is not None else self.read().seconds

    def sha256(self) -> str:
        """Return the sha256 of the bytes."""
        return self.content

    def read(self, longest: float | None = None) -> Audio:
        """Decode the bytes.

        Raises:
            IntegrityError: they are not what was written. InvalidInputError: no audio.
        """
        if self.size > FILE_BYTES:
            raise InvalidInputError(f"{self.path}: {self.size} bytes of audio; expected up to {FILE_BYTES}")
        with open_regular(self.path) as raw, io.BufferedReader(raw) as file:
            file.seek(self.start)
            data = file.read(self.size)
        audio_sha256 = sha256_hex(data)
        if audio_sha256 != self.content:
            raise IntegrityError(
                f"{self.path}: damaged at byte {self.start}", (), f"remove {self.path.parent} to get it anew"
            )
        return decode_audio(data, self.path, longest=longest)


@lru_cache(maxsize=1024)
def _file_sha256(path: Path, size: int, modified: int) -> str:
    """Hash a recording once for all of its parts, as long as it stays as it is."""
    return _hashed(path)


def _hashed(path: Path) -> str:
    """Return the sha256 of an ordinary file that no header could fill with sound.

    Raises:
        InvalidInputError: something else is in its place, or it is larger. OSError: it cannot be read.
    """
    digest, left = hashlib.sha256(), RECORDING_BYTES
    with open_regular(path) as file:
        left -= os.fstat(file.fileno()).st_size
        while left >= 0 and (block := file.read(2**20)):
            digest.update(block)
    if left < 0:
        raise InvalidInputError(f"{path}: larger than {RECORDING_BYTES} bytes; expected an audio file")
    return digest.hexdigest()
