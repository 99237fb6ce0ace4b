"""How to transcribe: the options that `Transcriber` and the command line share."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, TypedDict

from adapter_hub.decoding.options import DecodingOptions, Task
from adapter_hub.errors import InvalidInputError

NO_SPEECH = 0.6  # Whisper's own thresholds and temperatures
LOG_PROBABILITY = -1.0
COMPRESSION_RATIO = 2.4
TEMPERATURES = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)


class OptionWords(TypedDict, total=False):
    """The keyword arguments of `Transcriber.transcribe`; their meanings are in `TranscriptionOptions`."""

    beams: int | None
    timestamps: bool | Literal["trained"]
    words: bool
    task: Task | None
    batch_size: int
    window_seconds: float | None
    skip_silence: bool
    previous_text: bool
    prompt: str | None
    temperatures: tuple[float, ...]
    no_speech: float | None


def _option(default: Any, meaning: str, *, at_least: int | None = None, above: float | None = None) -> Any:
    """Declare an option: its default, what it means, and the limits of its values."""
    return field(default=default, metadata={"meaning": meaning, "at_least": at_least, "above": above})


@dataclass(frozen=True)
class TranscriptionOptions:
    """How to transcribe: the one declaration of the options of `Transcriber`, `transcribe` and `evaluate`.

    Each field carries its meaning, which is also the help of the command line's option of that name.
    """

    beams: int | None = _option(
        None, "Beam width; 1 is greedy search. Default: 5 for a Whisper, greedy for a Parakeet.", at_least=1
    )
    temperatures: tuple[float, ...] = _option(
        TEMPERATURES,
        "Sampling temperatures, tried in order while a text repeats itself or is improbable; 0 alone is the "
        "search alone.",
    )
    batch_size: int = _option(8, "Windows decoded together, from any recordings and languages.", at_least=1)
    # "trained": only where the base model alone, or an adapter that was trained with timestamps, is used
    timestamps: bool | Literal["trained"] = _option(False, "Find the start and end of every segment.")
    words: bool = _option(False, "Find the start and end of every word (in JSON).")
    task: Task | None = _option(
        None, "What to do; translate is into English. Default: what the adapter was trained for."
    )
    window_seconds: float | None = _option(
        None, "Longest window that phrases are joined to. Default: what the adapter was trained on.", above=0
    )
    skip_silence: bool = _option(
        False, "Transcribe only what a voice activity detector takes for speech (needs the extra `vad`)."
    )
    previous_text: bool = _option(
        False, "Condition each window on the text before it; a batch then has one window of each recording."
    )
    prompt: str | None = _option(
        None,
        "Text before the first window, like names and spellings to expect; with previous text also before "
        "the next ones, as long as there is room.",
    )
    no_speech: float | None = _option(
        NO_SPEECH, "An improbable text is dropped where silence is more probable than this; None keeps it."
    )

    def decoding(self, *, timestamps: bool = False, task: Task = "transcribe") -> DecodingOptions:
        """Return the options to decode a window with.

        Args:
            timestamps: whether the window is decoded with timestamp tokens.
            task: of the window.
        """
        several = len(self.temperatures) > 1
        return DecodingOptions(
            beams=DecodingOptions.beams if self.beams is None else self.beams,
            timestamps=timestamps,
            task=task,
            temperatures=self.temperatures,
            compression_ratio=COMPRESSION_RATIO if several else None,
            log_probability=LOG_PROBABILITY if several else None,
            no_speech=self.no_speech if several else None,
        )

    def asked(self) -> tuple[str, ...]:
        """Return the words for what is asked for that a base model's family may lack."""
        words = {
            "beams": self.beams is not None and self.beams > 1,
            "no_speech": self.no_speech not in (None, NO_SPEECH),
            "previous_text": self.previous_text,
            "prompt": bool(self.prompt),
            "temperatures": self.temperatures not in (TEMPERATURES, DecodingOptions.temperatures),
            "translate": self.task == "translate",
        }
        return tuple(word for word, asked in words.items() if asked)

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
