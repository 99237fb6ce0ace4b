"""What transcribing gives back: text, segments, words, which adapter heard them, or why it failed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from adapter_hub.speech.languages import has_word_spaces

HEARD = 0.01  # a language less probable than this is not listed in JSON


@dataclass(frozen=True)
class Word:
    """A word with the punctuation at it; seconds from the beginning of the audio."""

    start: float
    end: float
    word: str

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {"word": self.word, "start": round(self.start, 3), "end": round(self.end, 3)}


@dataclass(frozen=True)
class Segment:
    """A stretch of speech; `start` and `end` in seconds from the beginning of the audio.

    Attributes:
        start: when it starts.
        end: when it ends.
        text: what was said.
        tokens: its ids, without timestamps.
        language: BCP 47 tag.
        language_probability: where the language was identified.
        adapter: what transcribed it, or `base-model`.
        words: where they were asked for.
        seek: the first frame, of 10 ms, of the window that it was heard in.
        temperature: at which the window's text was found.
        log_probability: average of a token of that text.
        compression_ratio: of that text.
        no_speech: probability that there is no speech in the window.
    """

    start: float
    end: float
    text: str
    tokens: tuple[int, ...] = ()
    language: str = ""
    language_probability: float | None = None
    adapter: str = ""
    words: tuple[Word, ...] = ()
    seek: int = 0
    temperature: float = 0.0
    log_probability: float = 0.0
    compression_ratio: float = 0.0
    no_speech: float = 0.0

    def to_json(self, number: int) -> dict[str, Any]:
        """Return plain data, with the names of OpenAI's `verbose_json`; `number` becomes its `id`."""
        out: dict[str, Any] = {
            "id": number,
            "seek": self.seek,
            "start": round(self.start, 3),
            "end": round(self.end, 3),
            "text": self.text,
            "tokens": list(self.tokens),
            "temperature": self.temperature,
            "avg_logprob": round(self.log_probability, 4),
            "compression_ratio": round(self.compression_ratio, 4),
            "no_speech_prob": round(self.no_speech, 4),
            "language": self.language,
            "adapter": self.adapter,
        }
        if self.language_probability is not None:
            out["language_probability"] = round(self.language_probability, 4)
        return out


@dataclass(frozen=True)
class Transcript:
    """The outcome for one audio.

    Attributes:
        source: the file's path, or `audio 3` for the third array of a call.
        seconds: duration of the audio.
        text: what was said.
        language: BCP 47 tag of most of it, or Whisper's language where no adapter applies.
        language_probability: of that language, where it was identified; None where it was given.
        adapter: ref of the adapter of most of it, or `base-model`.
        tokens: ids of text and timestamps, without prompt and end.
        segments: by the timestamps where they were asked for, else one for each window.
        task: transcribe, or translate into English.
        language_probabilities: of every language by Whisper's code, the mean over what was heard.
        error: one line, where this audio could not be transcribed, or only up to a place in it.
    """

    source: str
    seconds: float = 0.0
    text: str = ""
    language: str = ""
    language_probability: float | None = None
    adapter: str = ""
    tokens: tuple[int, ...] = ()
    segments: tuple[Segment, ...] = ()
    task: str = "transcribe"
    language_probabilities: Mapping[str, float] = field(default_factory=dict, repr=False)
    error: str | None = None

    @property
    def words(self) -> tuple[Word, ...]:
        """The words of all segments, where they were asked for."""
        return tuple(word for segment in self.segments for word in segment.words)

    def to_json(self) -> dict[str, Any]:
        """Return plain data: the fields of OpenAI's `verbose_json`, and where they come from.

        What failed before anything was heard has its source and the error alone.
        """
        if self.error is not None and not self.segments:
            return {"source": self.source, "error": self.error}
        out: dict[str, Any] = {
            "source": self.source,
            "task": self.task,
            "language": self.language,
            "duration": round(self.seconds, 3),
            "text": self.text,
            "adapter": self.adapter,
        }
        if self.language_probability is not None:
            heard = sorted(self.language_probabilities.items(), key=lambda item: (-item[1], item[0]))
            out["language_probability"] = round(self.language_probability, 4)
            out["language_probabilities"] = {code: round(p, 4) for code, p in heard if p >= HEARD}
        out["segments"] = [segment.to_json(number) for number, segment in enumerate(self.segments)]
        if self.words:
            out["words"] = [word.to_json() for word in self.words]
        if self.error is not None:
            out["error"] = self.error
        return out


def joined_text(segments: Sequence[Segment]) -> str:
    """Return the text of segments in a row; spaces between them where the language has spaces.

    >>> joined_text([Segment(0.0, 1.0, "en", language="da"), Segment(1.0, 2.0, "to", language="da")])
    'en to'
    """
    text, before = "", None
    for segment in segments:
        spaced = before is not None and (
            has_word_spaces(before.language) or has_word_spaces(segment.language)
        )
        text += f" {segment.text}" if spaced else segment.text
        before = segment
    return text
