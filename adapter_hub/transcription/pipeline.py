"""Transcribing recordings of any length, in batches of windows from whichever recordings.

    pipeline = Pipeline(session_pool, router, options, tell)
    for result in pipeline.run(recordings):               # after every batch
        result.segments, result.seconds, result.finished

Recordings are read as they are needed, a few windows ahead, so that memory does not grow with their number
or length. The stages: phrases are read; the languages of a batch of them are identified, where needed; each
is routed and joined to its neighbours; windows of like lengths are decoded together; a recording's segments
come out in order.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from adapter_hub.model.session_pool import SessionPool
from adapter_hub.reporting import Tell
from adapter_hub.speech.phrases import Phrase
from adapter_hub.transcription.options import TranscriptionOptions
from adapter_hub.transcription.recordings import Reader
from adapter_hub.transcription.routing import Router
from adapter_hub.transcription.stages import Stages, routes
from adapter_hub.transcription.transcript import Segment
from adapter_hub.transcription.windows import Recording, RoutedPhrase, Window

READ_AHEAD = 32  # batches that are read ahead and sorted by length together
IDENTIFIED_AHEAD = 4  # the same where languages are identified: encoder outputs take memory
AHEAD_SECONDS = 600.0  # of audio that is read ahead, at most


@dataclass(frozen=True)
class BatchResult:
    """The result of a batch.

    Attributes:
        segments: that are new, with their recordings; those of a recording are in order.
        seconds: of audio that were transcribed.
        finished: recordings whose transcript is complete.
    """

    segments: Sequence[tuple[Recording, Segment]]
    seconds: float
    finished: Sequence[Recording]


@dataclass
class Pipeline:
    """The way from recordings to segments, for one thread.

    Attributes:
        session_pool: of the base model.
        router: of recordings for which no adapter is named.
        options: of all recordings.
        tell: called with what the user should know.
        low_latency: read no more windows ahead than one batch needs, so that results come early.
    """

    session_pool: SessionPool
    router: Router
    options: TranscriptionOptions
    tell: Tell
    low_latency: bool = False
    _stages: Stages = field(init=False)

    def __post_init__(self) -> None:
        self._stages = Stages(self.session_pool, self.options.batch_size, self.tell)

    def run(self, recordings: Iterable[Recording]) -> Iterator[BatchResult]:
        """Transcribe recordings; yields a result after every batch.

        Args:
            recordings: opened when they are needed.

        Raises:
            OutOfMemoryError: a single window is too much.
            InvalidInputError: a language that cannot be decoded, or is not known.
        """
        for line in self._stages.warnings(self.options):
            self.tell(line)
        self._stages.begin()
        with suppress(GeneratorExit):  # the caller does not want the rest
            yield from self._run(
                Reader(self._known(recordings), self._stages.size, self.options.previous_text)
            )
        self._stages.end()

    def _run(self, reader: Reader) -> Iterator[BatchResult]:
        while True:
            windows = self._windows(reader)
            if done := reader.take_finished():
                yield _batch_result((), (), done)
            if not windows and reader.exhausted and not reader.open:
                return
            if not self.low_latency:  # a batch is as slow as its longest text
                windows.sort(key=lambda window: window.seconds)
            while windows:
                size = self._stages.size
                batch, windows = windows[:size], windows[size:]
                segments = self._decoded(batch)
                yield _batch_result(segments, batch, reader.take_finished())

    def _known(self, recordings: Iterable[Recording]) -> Iterator[Recording]:
        """Give a recording its route where that needs no language identification."""
        for recording in recordings:
            if not recording.router.identifies(recording.tag):
                recording.before = recording.router.route(recording.tag)
            yield recording

    def _windows(self, reader: Reader) -> list[Window]:
        """Return windows that can be decoded now."""
        windows: list[Window] = []
        seconds, ahead = 0.0, self._ahead()
        most = max(AHEAD_SECONDS, self._stages.size * self.session_pool.base.chunk_seconds)
        while len(windows) < ahead and seconds < most:
            phrases = reader.read(self._together())
            new: list[Window] = []
            for (recording, phrase), routed in zip(phrases, self._routed(phrases), strict=True):
                seconds += phrase.seconds
                new += recording.add(routed)
            for recording in reader.open:
                if recording.ended:
                    new += recording.finish()
            windows += new
            if not phrases and not new:
                break
        return windows

    def _ahead(self) -> int:
        if self.low_latency or self.options.previous_text:
            return self._stages.size
        return self._stages.size * (IDENTIFIED_AHEAD if self.router.identifies(None) else READ_AHEAD)

    def _together(self) -> int:
        """Return how many phrases are read at once; where languages are identified, several batches."""
        return self._ahead() if self.router.identifies(None) else self._stages.size

    def _routed(self, phrases: Sequence[tuple[Recording, Phrase]]) -> list[RoutedPhrase]:
        """Give every phrase its route; those whose language is not known are identified first."""
        unknown = [i for i, (item, _) in enumerate(phrases) if item.router.identifies(item.tag)]
        found = self._stages.identify([phrases[i] for i in unknown])
        heard = dict(zip(unknown, found, strict=True))
        by_recording: dict[int, list[int]] = {}
        for i, (recording, _) in enumerate(phrases):
            by_recording.setdefault(id(recording), []).append(i)
        routed: dict[int, RoutedPhrase] = {}
        for own in by_recording.values():
            told = [heard[i] for i in own] if own[0] in heard else None
            new = routes(phrases[own[0]][0], [phrases[i][1] for i in own], told)
            routed |= zip(own, new, strict=True)
        return [routed[i] for i in range(len(phrases))]

    def _decoded(self, batch: Sequence[Window]) -> list[tuple[Recording, Segment]]:
        """Decode windows of any kinds, to their ends."""
        result: list[tuple[Recording, Segment]] = []
        waiting = list(batch)
        while waiting:
            kind = self._stages.kind(waiting[0])
            some = [window for window in waiting if self._stages.kind(window) == kind][: self._stages.size]
            segments, rest = self._stages.decode(some)
            result += segments
            waiting = [window for window in waiting if window not in some] + rest
        return result


def _batch_result(
    segments: Sequence[tuple[Recording, Segment]], batch: Sequence[Window], finished: Sequence[Recording]
) -> BatchResult:
    """Count the seconds of windows, and at a recording's end those that were in none of its windows."""
    seconds = sum(window.seconds for window in batch)
    for window in batch:
        window.recording.counted_seconds += window.seconds
    return BatchResult(
        segments, seconds + sum(max(0.0, item.seconds - item.counted_seconds) for item in finished), finished
    )
