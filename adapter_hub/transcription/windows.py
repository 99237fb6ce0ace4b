"""From phrases to windows, which the model transcribes at once, and from their segments to a transcript.

A phrase is routed (which adapter, which language), then phrases with the same route are joined to windows as
long as the adapter can take. An adapter that was trained without timestamps has only seen single utterances,
and stops at the first long pause; so its windows are no longer than those utterances were on average. The
base model, and an adapter trained with timestamps, take all that fits into the chunk (30 s for Whisper,
arXiv:2212.04356).
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
from adapter_hub.transcription.evidence import Evidence
from adapter_hub.transcription.options import TranscriptionOptions
from adapter_hub.transcription.routing import Route, Router
from adapter_hub.transcription.transcript import Segment, Transcript, joined_text

MOST_RANDOM = 0.5  # temperature above which a text is too random to be a condition, as in Whisper
GAP = 1.0  # seconds of silence, at most, inside a window


@dataclass(eq=False)
class RoutedPhrase:
    """A phrase and its route, with what was computed to find the route.

    Attributes:
        phrase: its samples.
        route: which adapter, which language.
        features: `[mels, frames]` float32, where they were computed already.
        encoder_output: of the base model, `[time, width]`, where it serves for decoding too.
    """

    phrase: Phrase
    route: Route
    features: Tensor | None = None
    encoder_output: Tensor | None = None


@dataclass(eq=False)
class Window:
    """What is decoded at once: one or more consecutive phrases of a recording.

    Attributes:
        recording: that it is cut from.
        number: among the windows of the recording, from 0.
        phrases: one after another, all of one route.
        segments: of the part that is decoded already, before the part that this window still holds.
        tokens: of those segments.
        resumed: whether it is the rest of a window.
    """

    recording: Recording
    number: int
    phrases: list[RoutedPhrase]
    segments: list[Segment] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)
    resumed: bool = False

    @property
    def route(self) -> Route:
        """The route of all its phrases."""
        return self.phrases[0].route

    @property
    def start(self) -> float:
        """Seconds from the recording's beginning."""
        return self.phrases[0].phrase.start / SAMPLE_RATE

    @property
    def seconds(self) -> float:
        """Its duration."""
        return (self.phrases[-1].phrase.end - self.phrases[0].phrase.start) / SAMPLE_RATE

    @property
    def samples(self) -> Samples:
        """Its samples, `[n]` float32 at 16 kHz; what was left out between two phrases was silence."""
        if len(self.phrases) == 1:
            return self.phrases[0].phrase.samples
        first = self.phrases[0].phrase.start
        samples = np.zeros(self.phrases[-1].phrase.end - first, dtype=np.float32)
        for phrase in (routed.phrase for routed in self.phrases):
            samples[phrase.start - first : phrase.end - first] = phrase.samples
        return samples

    def after(self, seconds: float) -> Window:
        """Return the rest of it, from `seconds` after its start."""
        samples, first = self.samples, round(seconds * SAMPLE_RATE)
        route = replace(self.route, probability=self.probability)
        rest = Phrase(self.phrases[0].phrase.start + first, samples[first:])
        phrases = [RoutedPhrase(rest, route)]
        return Window(self.recording, self.number, phrases, self.segments, self.tokens, resumed=True)

    @property
    def probability(self) -> float | None:
        """The mean probability of the language, where it was identified."""
        values = [routed.route.probability for routed in self.phrases]
        known = [value for value in values if value is not None]
        return sum(known) / len(known) if known else None


def longest_window(adapter: ResidentAdapter | None, chunk: float) -> float:
    """Return how many seconds an adapter takes at once, at most the base model's chunk.

    Args:
        adapter: None is the base model.
        chunk: seconds of audio that the base model takes at once.
    """
    manifest = adapter.manifest if adapter else None
    if manifest is None or manifest.timestamps:
        return chunk
    seconds = sum(data.hours * 3600 for data in manifest.data)
    utterances = sum(data.utterances for data in manifest.data)
    return min(chunk, seconds / utterances) if seconds and utterances else chunk


@dataclass(eq=False)
class Recording:
    """A recording while it is transcribed: its phrases as they are read, its windows, its segments.

    Attributes:
        index: its number among all that were given, from 0.
        source: its path, or what to call it.
        tag: BCP 47 tag of its language, where that is known.
        phrases: read as they are asked for.
        chunk: seconds of a window, at most.
        router: chooses its adapters.
        options: how to transcribe it.
        prompt: tokens of the text that the caller put before it.
        seconds: that were read so far.
        error: why it could not be read, or not to its end.
        truncated: why what was read is not all of it, where the file itself is not whole.
        ended: nothing is left to read.
        before: the route of its latest phrase.
        counted_seconds: seconds that were reported to the caller as done.
        evidence: of its languages, where they are identified.
    """

    index: int
    source: str
    tag: str | None
    phrases: Iterator[Phrase]
    chunk: float
    router: Router
    options: TranscriptionOptions = TranscriptionOptions()
    prompt: Sequence[int] = ()
    seconds: float = 0.0
    error: str | None = None
    truncated: str | None = None
    ended: bool = False
    before: Route | None = None
    counted_seconds: float = 0.0
    evidence: Evidence = field(default_factory=Evidence)
    _open: list[RoutedPhrase] = field(default_factory=list)
    _previous: deque[int] = field(default_factory=lambda: deque(maxlen=512))
    _last: Route | None = None
    _codes: dict[str, str] = field(default_factory=dict)  # decode languages by the tags of transcripts
    _windows: int = 0
    _out: dict[int, tuple[Sequence[Segment], Sequence[int]]] = field(default_factory=dict)
    _done: int = 0
    _segments: list[Segment] = field(default_factory=list)
    _tokens: list[int] = field(default_factory=list)
    _probabilities: dict[str, float] = field(default_factory=dict)
    _identified: float = 0.0

    def cut_off(self, flaw: str) -> None:
        """Note that the file is not whole; what could be read of it is transcribed.

        Args:
            flaw: what is wrong.
        """
        self.truncated = f"{self.source}: {flaw}"

    def next_phrase(self) -> Phrase | None:
        """Read the next phrase; None at the end, and where reading fails, which sets `error`."""
        if self.ended:
            return None
        try:
            phrase = next(self.phrases, None)
        except (AdapterHubError, OSError) as error:
            self.error, phrase = " ".join(str(error).split()), None
        if phrase is None:
            self.ended = True
        return phrase

    def fail(self, why: str) -> None:
        """Set the reason why there is no result, or none from here on; the first reason stays."""
        self.error, self.ended = self.error or f"{self.source}: {why}", True

    def add(self, routed: RoutedPhrase) -> Iterator[Window]:
        """Add the next phrase; yields the window that ends before it, if one does."""
        route, seconds = routed.route, routed.phrase.seconds
        for language, value in route.probabilities.items():
            weighted = value * seconds
            self._probabilities[language] = self._probabilities.get(language, 0.0) + weighted
        self._identified += seconds if route.probabilities else 0.0
        self.before = route
        if self._open and not self._fits(routed):
            yield self._close()
        self._open.append(routed)

    def finish(self) -> Iterator[Window]:
        """Yield the last window."""
        if self._open:
            yield self._close()

    def _fits(self, routed: RoutedPhrase) -> bool:
        first, last = self._open[0], self._open[-1]
        wanted = self.options.window_seconds
        longest = min(wanted, self.chunk) if wanted else longest_window(routed.route.adapter, self.chunk)
        return (
            last.route.same(routed.route)
            and routed.phrase.start - last.phrase.end <= GAP * SAMPLE_RATE
            and routed.phrase.end - first.phrase.start <= longest * SAMPLE_RATE
        )

    def _close(self) -> Window:
        window = Window(self, self._windows, self._open)
        self._windows, self._open = self._windows + 1, []
        return window

    @property
    def waiting(self) -> bool:
        """Whether some of its windows are not decoded yet."""
        return self._done < self._windows

    @property
    def finished(self) -> bool:
        """Whether there is nothing more to come."""
        return self.ended and not self._open and not self.waiting

    def add_decoded(self, window: Window) -> list[Segment]:
        """Add a decoded window; returns the segments that now follow those returned before without a gap."""
        self._out[window.number] = window.segments, window.tokens
        self._codes[window.route.language] = window.route.decode_language
        new: list[Segment] = []
        while self._done in self._out:
            ready, ids = self._out.pop(self._done)
            new += ready
            self._tokens += ids
            self._done += 1
        self._segments += new
        return new

    def condition_of(self, window: Window) -> list[int]:
        """Return the tokens of the text that a window is decoded after: the prompt, or what was said before.

        Without `previous_text` only the first window has one. With it, text of another route is left out.
        """
        if not self.options.previous_text:
            return list(self.prompt) if window.number == 0 and not window.resumed else []
        if self._last is None:
            return list(self.prompt)
        return list(self._previous) if self._last.same(window.route) else []

    def remember(self, window: Window, tokens: Sequence[int], *, doubtful: bool) -> None:
        """Keep the text of a window as a condition for the next; after a doubtful one there is none.

        Args:
            window: that was decoded.
            tokens: of its text.
            doubtful: whether the text looks wrong, or was sampled too randomly.
        """
        if self._last is None:
            self._previous.extend(self.prompt)
        if doubtful or not (self._last is None or self._last.same(window.route)):
            self._previous.clear()
        if not doubtful:
            self._previous.extend(tokens)
        self._last = window.route

    def transcript(self) -> Transcript:
        """Return the transcript of all that is decoded."""
        segments = tuple(self._segments)
        task = self.options.task or (self.before.task if self.before else "transcribe")
        result = Transcript(self.source, self.seconds, task=task, error=self.error, truncated=self.truncated)
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
        shares = {code: value / self._identified for code, value in self._probabilities.items()}
        return replace(
            result,
            text=joined_text(segments),
            language=language,
            language_probability=shares.get(self._codes.get(language, language)),
            adapter=_longest(segments, lambda segment: segment.adapter),
            tokens=tuple(self._tokens),
            segments=segments,
            language_probabilities=shares,
        )


def _longest(segments: Sequence[Segment], kind: Callable[[Segment], str]) -> str:
    """Return the value of `kind` that most seconds of the segments have."""
    seconds: dict[str, float] = {}
    for segment in segments:
        seconds[kind(segment)] = seconds.get(kind(segment), 0.0) + segment.end - segment.start
    return max(seconds, key=lambda name: seconds[name])
