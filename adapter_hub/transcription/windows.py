"""From phrases to what the model hears at once: a recording's windows, and what becomes of them.

A phrase is routed (which adapter, which language), then phrases that go the same way are joined to
windows as long as the adapter can take. An adapter that was trained without timestamps has only heard
single utterances, and stops at the first long pause; so its windows are no longer than those utterances
were on average. The base model, and an adapter trained with timestamps, take all that fits into the chunk.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from torch import Tensor

from adapter_hub.errors import AdapterHubError
from adapter_hub.model.loading import ResidentAdapter
from adapter_hub.speech.audio import SAMPLE_RATE
from adapter_hub.speech.phrases import Phrase, Samples
from adapter_hub.transcription.routing import Route
from adapter_hub.transcription.transcript import Segment, Transcript, joined_text

DRAWN = 0.5  # temperature above which a text is too random to be a condition, as in Whisper
GAP = 1.0  # seconds of silence, at most, inside a window


@dataclass(eq=False)
class RoutedPhrase:
    """A phrase and where it goes, with what was computed on the way.

    Attributes:
        piece: its samples.
        route: which adapter, which language.
        features: `[mels, frames]`, where they are there already.
        heard: what the base model's encoder made of them, where it serves for decoding too.
    """

    piece: Phrase
    route: Route
    features: Tensor | None = None
    encoder_output: Tensor | None = None


@dataclass(eq=False)
class Window:
    """What is decoded at once: one or more phrases of a recording.

    Attributes:
        recording: that it is cut from.
        number: among the windows of the recording.
        phrases: one after another, all of one route.
        segments: what was said before the part that is still to be decoded.
        tokens: of those.
    """

    recording: Recording
    number: int
    phrases: list[RoutedPhrase]
    segments: list[Segment] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)

    @property
    def route(self) -> Route:
        """Where all its phrases go."""
        return self.phrases[0].route

    @property
    def start(self) -> float:
        """Seconds from the recording's beginning."""
        return self.phrases[0].piece.start / SAMPLE_RATE

    @property
    def seconds(self) -> float:
        """Its duration."""
        return (self.phrases[-1].piece.end - self.phrases[0].piece.start) / SAMPLE_RATE

    @property
    def samples(self) -> Samples:
        """Its samples; what was left out between two phrases was silence."""
        if len(self.phrases) == 1:
            return self.phrases[0].piece.samples
        first = self.phrases[0].piece.start
        samples = np.zeros(self.phrases[-1].piece.end - first, dtype=np.float32)
        for phrase in self.phrases:
            samples[phrase.piece.start - first : phrase.piece.end - first] = phrase.piece.samples
        return samples

    def after(self, seconds: float) -> Window:
        """Return what is left of it from a time in it on."""
        samples, first = self.samples, round(seconds * SAMPLE_RATE)
        route = replace(self.route, probability=self.probability)
        rest = Phrase(self.phrases[0].piece.start + first, samples[first:])
        return Window(self.recording, self.number, [RoutedPhrase(rest, route)], self.segments, self.tokens)

    @property
    def probability(self) -> float | None:
        """The mean probability of the language, where it was identified."""
        values = [phrase.route.probability for phrase in self.phrases]
        known = [value for value in values if value is not None]
        return sum(known) / len(known) if known else None


def longest_window(adapter: ResidentAdapter | None, chunk: float) -> float:
    """Return how many seconds an adapter takes at once, at most the base model's chunk."""
    manifest = adapter.manifest if adapter else None
    if manifest is None or manifest.timestamps:
        return chunk
    seconds = sum(data.hours * 3600 for data in manifest.data)
    utterances = sum(data.utterances for data in manifest.data)
    return min(chunk, seconds / utterances) if seconds and utterances else chunk


@dataclass(eq=False)
class Recording:
    """An audio on its way: its phrases as they are read, its windows, its segments.

    Attributes:
        place: its number among all that were given, from 0.
        source: what to call it.
        tag: its language, where that is known.
        pieces: its phrases, read as they are asked for.
        chunk: seconds of a window, at most.
        wanted: seconds of a window that the caller asked for; None is what the adapter takes.
        task: that the caller asked for; None is the adapter's.
        seconds: that were read.
        error: why it could not be read, or not any further.
        ended: there is nothing more to read.
        before: where its latest phrase went.
        told: seconds of it whose result is known.
    """

    place: int
    source: str
    tag: str | None
    pieces: Iterator[Phrase]
    chunk: float
    wanted: float | None = None
    task: str | None = None
    seconds: float = 0.0
    error: str | None = None
    ended: bool = False
    before: Route | None = None
    told: float = 0.0
    _open: list[RoutedPhrase] = field(default_factory=list)
    _previous: deque[int] = field(default_factory=lambda: deque(maxlen=512))
    _last: Route | None = None
    _windows: int = 0
    _out: dict[int, tuple[Sequence[Segment], Sequence[int]]] = field(default_factory=dict)
    _done: int = 0
    _segments: list[Segment] = field(default_factory=list)
    _tokens: list[int] = field(default_factory=list)
    _probabilities: dict[str, float] = field(default_factory=dict)
    _identified: float = 0.0

    def next_piece(self) -> Phrase | None:
        """Read the next phrase; None at the end, or where the audio cannot be read any further."""
        if self.ended:
            return None
        try:
            piece = next(self.pieces, None)
        except (AdapterHubError, OSError) as error:
            self.error, piece = " ".join(str(error).split()), None
        self.ended = piece is None
        return piece

    def fail(self, why: str) -> None:
        """Note why there is no result, or none from here on, and read no further; the first reason stays."""
        self.error, self.ended = self.error or f"{self.source}: {why}", True

    def add(self, phrase: RoutedPhrase) -> Iterator[Window]:
        """Take in a phrase; yields the window that ends before it, if one does."""
        route = phrase.route
        for language, value in route.probabilities.items():
            weighted = value * phrase.piece.seconds
            self._probabilities[language] = self._probabilities.get(language, 0.0) + weighted
        self._identified += phrase.piece.seconds if route.probabilities else 0.0
        self.before = route
        if self._open and not self._fits(phrase):
            yield self._close()
        self._open.append(phrase)

    def finish(self) -> Iterator[Window]:
        """Yield the last window."""
        if self._open:
            yield self._close()

    def _fits(self, phrase: RoutedPhrase) -> bool:
        first, last = self._open[0], self._open[-1]
        longest = self.wanted or longest_window(phrase.route.adapter, self.chunk)
        return (
            last.route.same(phrase.route)
            and phrase.piece.start - last.piece.end <= GAP * SAMPLE_RATE
            and phrase.piece.end - first.piece.start <= longest * SAMPLE_RATE
        )

    def _close(self) -> Window:
        window = Window(self, self._windows, self._open)
        self._windows, self._open = self._windows + 1, []
        return window

    @property
    def waiting(self) -> bool:
        """Whether windows of it are not decoded yet."""
        return self._done < self._windows

    @property
    def finished(self) -> bool:
        """Whether there is nothing more to come."""
        return self.ended and not self._open and not self.waiting

    def put(self, window: Window) -> list[Segment]:
        """Take in a decoded window; returns the segments that are known up to here without a hole."""
        self._out[window.number] = window.segments, window.tokens
        new: list[Segment] = []
        while self._done in self._out:
            ready, ids = self._out.pop(self._done)
            new += ready
            self._tokens += ids
            self._done += 1
        self._segments += new
        return new

    def previous_to(self, window: Window) -> list[int]:
        """Return the tokens of the text before a window, where it goes the same way."""
        follows = self._last is not None and self._last.same(window.route)
        return list(self._previous) if follows else []

    def remember(self, window: Window, tokens: Sequence[int], temperature: float) -> None:
        """Keep the text of a window for the next one; what was drawn at random is no condition."""
        if temperature > DRAWN or self._last is None or not self._last.same(window.route):
            self._previous.clear()
        if temperature <= DRAWN:
            self._previous.extend(tokens)
        self._last = window.route

    def transcript(self) -> Transcript:
        """Return the result as far as it is known."""
        segments = tuple(self._segments)
        task = self.task or (self.before.task if self.before else "transcribe")
        result = Transcript(self.source, self.seconds, task=task, error=self.error)
        if not segments:
            if self.before is None or self.error is not None:
                return result
            return replace(
                result,
                language=self.before.language,
                language_probability=self.before.probability,
                adapter=self.before.name,
            )
        language = _longest(segments, lambda segment: segment.language)
        return replace(
            result,
            text=joined_text(segments),
            language=language,
            language_probability=_probability([item for item in segments if item.language == language]),
            adapter=_longest(segments, lambda segment: segment.adapter),
            tokens=tuple(self._tokens),
            segments=segments,
            language_probabilities={
                code: value / self._identified for code, value in self._probabilities.items()
            },
        )


def _longest(segments: Sequence[Segment], kind: Callable[[Segment], str]) -> str:
    """Return the kind of segment that takes most seconds."""
    seconds: dict[str, float] = {}
    for segment in segments:
        seconds[kind(segment)] = seconds.get(kind(segment), 0.0) + segment.end - segment.start
    return max(seconds, key=lambda name: seconds[name])


def _probability(segments: Sequence[Segment]) -> float | None:
    """Return the mean probability of a language over its segments, where it was identified."""
    known = [
        (item.language_probability, max(item.end - item.start, 0.01))
        for item in segments
        if item.language_probability is not None
    ]
    return sum(p * s for p, s in known) / sum(s for _, s in known) if known else None
