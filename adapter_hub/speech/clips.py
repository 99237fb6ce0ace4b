"""Where an utterance's audio lies, behind the same three questions whatever it lies in.

clip = FileClip(Path("clip.flac"))
clip.seconds(), clip.sha256(), clip.read().samples

So that data sets of any kind look alike to training, evaluation and similarity.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from adapter_hub.speech.audio import Audio, audio_seconds, read_audio
from adapter_hub.tensors import file_sha256


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

    def read(self) -> Audio:
        """Return it decoded; `Audio.sha256` is `sha256()` of the very bytes that were decoded.

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
        return file_sha256(self.path)

    def read(self) -> Audio:
        """Read and decode the file, once."""
        return read_audio(self.path)
