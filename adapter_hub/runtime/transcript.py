"""What transcribing gives back: text, segments, which adapter heard it, or why it failed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Segment:
    """A stretch of speech; `start` and `end` in seconds from the beginning of the audio."""

    start: float
    end: float
    text: str


@dataclass(frozen=True)
class Transcript:
    """The outcome for one audio; either `text` or `error` means something.

    Attributes:
        source: the file's path, or `audio 3` for the third array of a call.
        seconds: duration of the audio.
        text: what was said.
        language: BCP 47 tag, or Whisper's language where no adapter applies.
        language_probability: of the detected language; None where the language was given.
        adapter: ref of the adapter that was used, or `base-model`.
        tokens: ids of text and timestamps, without prompt and end.
        segments: where timestamps were asked for.
        error: one line, where this audio could not be transcribed.
    """

    source: str
    seconds: float = 0.0
    text: str = ""
    language: str = ""
    language_probability: float | None = None
    adapter: str = ""
    tokens: tuple[int, ...] = ()
    segments: tuple[Segment, ...] = ()
    error: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return plain data; the fields of a failed transcript are its source and the error."""
        if self.error is not None:
            return {"source": self.source, "error": self.error}
        out: dict[str, Any] = {
            "source": self.source,
            "text": self.text,
            "language": self.language,
            "adapter": self.adapter,
            "duration": round(self.seconds, 3),
        }
        if self.language_probability is not None:
            out["language_probability"] = round(self.language_probability, 4)
        if self.segments:
            out["segments"] = [{"start": s.start, "end": s.end, "text": s.text} for s in self.segments]
        return out


def to_srt(segments: Sequence[Segment]) -> str:
    """Return segments as SubRip text.

    >>> print(to_srt([Segment(0.0, 1.5, "to")]))
    1
    00:00:00,000 --> 00:00:01,500
    to
    """
    blocks = [
        f"{i}\n{_clock(segment.start)} --> {_clock(segment.end)}\n{segment.text}"
        for i, segment in enumerate(segments, 1)
    ]
    return "\n\n".join(blocks)


def _clock(seconds: float) -> str:
    milliseconds = round(seconds * 1000)
    minutes, milliseconds = divmod(milliseconds, 60_000)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}:{minutes:02}:{milliseconds // 1000:02},{milliseconds % 1000:03}"
