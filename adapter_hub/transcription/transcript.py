"""The result of transcribing: text, segments, words, the adapter that was used, or why it failed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from adapter_hub.speech.languages import has_word_spaces

LISTED = 0.01  # a less probable language is not listed in JSON


@dataclass(frozen=True)
class Word:
    """A word with its punctuation.

    Attributes:
        start: seconds from the beginning of the recording.
        end: seconds from the beginning of the recording.
        word: its text, without spaces around it.
    """

    start: float
    end: float
    word: str

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {"word": self.word, "start": round(self.start, 3), "end": round(self.end, 3)}


@dataclass(frozen=True)
class Segment:
    """A stretch of speech and its text.

    Attributes:
        start: seconds from the beginning of the recording.
        end: seconds from the beginning of the recording.
        text: the transcript.
        tokens: ids of the text, without timestamps.
        language: BCP 47 tag.
        language_probability: where the language was identified.
        adapter: ref of the adapter that transcribed it, or `base-model`.
        words: with their times, where they were asked for.
        seek: the first frame, of 10 ms, of the window that it was decoded in.
        temperature: at which the window's text was found.
        log_probability: average per token of the window's text.
        compression_ratio: of the window's text: its bytes by those of its zlib form.
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
        """Return plain data with the field names of OpenAI's `verbose_json`.

        Args:
            number: its place in the transcript, from 0; it becomes the `id`.
        """
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
    """The transcript of one recording.

    Attributes:
        source: the file's path, or `audio 3` for the third array of a call.
        seconds: duration of the recording.
        text: all of it.
        language: BCP 47 tag of most of it, or Whisper's language where no adapter applies.
        language_probability: of that language, where it was identified, averaged over the speech as
            `language_probabilities` are; None where it was given.
        adapter: ref of the adapter of most of it, or `base-model`.
        tokens: ids of text and timestamps, without prompt and end.
        segments: cut at timestamps where they were asked for, otherwise one for each window.
        task: transcribe, or translate into English.
        language_probabilities: of every language by Whisper's code, averaged over the speech.
        error: one line, where the recording could not be transcribed, or not to its end; otherwise None.
        truncated: one line, where the file is damaged or ends early, and what is there was transcribed.
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
    truncated: str | None = None

    @property
    def words(self) -> tuple[Word, ...]:
        """The words of all segments, where they were asked for."""
        return tuple(word for segment in self.segments for word in segment.words)

    def to_json(self) -> dict[str, Any]:
        """Return plain data: the fields of OpenAI's `verbose_json`, the source and the adapter.

        A recording that failed before its first segment has only `source` and `error`.
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
            ranked = sorted(self.language_probabilities.items(), key=lambda item: (-item[1], item[0]))
            out["language_probability"] = round(self.language_probability, 4)
            out["language_probabilities"] = {code: round(p, 4) for code, p in ranked if p >= LISTED}
        out["segments"] = [segment.to_json(number) for number, segment in enumerate(self.segments)]
        if self.words:
            out["words"] = [word.to_json() for word in self.words]
        return out | {key: said for key in ("error", "truncated") if (said := getattr(self, key)) is not None}


def joined_text(segments: Sequence[Segment]) -> str:
    """Return the text of consecutive segments, with spaces between them where the language has spaces.

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
