"""How to transcribe: the options that `Transcriber` and the command line share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypedDict

from adapter_hub.decoding.decode import DecodingOptions
from adapter_hub.errors import InvalidInputError

Task = Literal["transcribe", "translate"]
NO_SPEECH = 0.6  # Whisper's own thresholds
LOG_PROBABILITY = -1.0
COMPRESSION_RATIO = 2.4


class OptionWords(TypedDict, total=False):
    """The keyword arguments of `Transcriber.transcribe`; their meanings are in `TranscriptionOptions`."""

    beams: int
    timestamps: bool | Literal["trained"]
    words: bool
    task: Task | None
    batch_size: int
    window_seconds: float | None
    skip_silence: bool
    previous_text: bool
    temperatures: tuple[float, ...]
    no_speech: float | None


@dataclass(frozen=True)
class TranscriptionOptions:
    """How to transcribe.

    Attributes:
        beams: width of the search; 1 is greedy.
        timestamps: cut segments at timestamp tokens: True always, "trained" where the base model alone or
            an adapter that was trained with them is used; False gives one segment for each window.
        words: find the start and end of every word.
        task: transcribe, or translate into English (for base models trained to); None is what the adapter
            was trained for.
        batch_size: windows decoded together, of whichever recordings and languages.
        window_seconds: join phrases up to this length; None is what the adapter takes.
        skip_silence: transcribe only what a voice activity detector (the extra `vad`) finds to be speech.
        previous_text: condition every window on the text before it; a batch then holds one window of each
            recording.
        temperatures: tried one after another while a text repeats itself or is improbable.
        no_speech: an improbable text is dropped where silence is more probable than this; None keeps it.
    """

    beams: int = 5
    timestamps: bool | Literal["trained"] = False
    words: bool = False
    task: Task | None = None
    batch_size: int = 8
    window_seconds: float | None = None
    skip_silence: bool = False
    previous_text: bool = False
    temperatures: tuple[float, ...] = (0.0,)
    no_speech: float | None = NO_SPEECH

    def decoding(self, *, timestamps: bool = False, task: Task = "transcribe") -> DecodingOptions:
        """Return the options to decode a window with.

        Args:
            timestamps: whether the window is decoded with timestamp tokens.
            task: of the window.
        """
        several = len(self.temperatures) > 1
        return DecodingOptions(
            beams=self.beams,
            timestamps=timestamps,
            task=task,
            temperatures=self.temperatures,
            compression_ratio=COMPRESSION_RATIO if several else None,
            log_probability=LOG_PROBABILITY if several else None,
            no_speech=self.no_speech if several else None,
        )

    def check(self) -> None:
        """Refuse options that no recording can be transcribed with.

        Raises:
            InvalidInputError: one line.
        """
        self.decoding().check()
        if self.batch_size < 1:
            raise InvalidInputError(f"batch size {self.batch_size}: expected 1 or more")
        if self.window_seconds is not None and not self.window_seconds > 0:  # NaN is no length either
            raise InvalidInputError(f"windows of {self.window_seconds} s: expected more than 0")
        if self.no_speech is not None and not 0.0 <= self.no_speech <= 1.0:
            raise InvalidInputError(f"no speech {self.no_speech}: expected a probability from 0 to 1")
