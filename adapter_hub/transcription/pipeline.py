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

import gc
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field

import torch
from torch import Tensor

from adapter_hub.base_model.families import FAMILIES
from adapter_hub.errors import OutOfMemoryError
from adapter_hub.model.base_model import BaseModel
from adapter_hub.model.cuda_graphs import empty_cache
from adapter_hub.model.loading import ResidentAdapter
from adapter_hub.model.memory import FEWER_BEAMS, SMALLER_BATCHES, memory_guard
from adapter_hub.model.session import Session
from adapter_hub.model.session_pool import SessionPool
from adapter_hub.reporting import Tell
from adapter_hub.speech.phrases import Phrase
from adapter_hub.transcription.options import TranscriptionOptions
from adapter_hub.transcription.recordings import Reader
from adapter_hub.transcription.routing import Probabilities, Router
from adapter_hub.transcription.transcript import Segment
from adapter_hub.transcription.window_decoding import DECODERS, WindowDecoder, overflow
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
class _Heard:
    """What was computed to identify the language of a phrase."""

    probabilities: Probabilities
    features: Tensor
    encoder_output: Tensor


@dataclass
class Pipeline:
    """The stages from recordings to segments, for one thread.

    Attributes:
        session_pool: of the base model.
        router: which adapter for which speech, of recordings that bring no router of their own.
        options: how to transcribe.
        tell: called with what the user should know.
        low_latency: read no more windows ahead than one batch needs, so that results come early.
    """

    session_pool: SessionPool
    router: Router
    options: TranscriptionOptions
    tell: Tell
    low_latency: bool = False
    base: BaseModel = field(init=False)
    _decoder: WindowDecoder = field(init=False)
    _session: Session = field(init=False)
    _size: int = field(init=False)
    _remaining: list[Window] = field(init=False, default_factory=list)

    def __post_init__(self) -> None:
        self.base, self._size = self.session_pool.base, self.options.batch_size
        self._decoder = DECODERS[self.base.family](self.base, self.options)

    def run(self, recordings: Iterable[Recording]) -> Iterator[BatchResult]:
        """Transcribe recordings; yields a result after every batch.

        Args:
            recordings: opened when they are needed.

        Raises:
            OutOfMemoryError: a single window is too much.
            InvalidInputError: a language that cannot be decoded, or is not known.
        """
        for line in self._decoder.warnings():
            self.tell(line)
        self._session = self.session_pool.acquire()
        with suppress(GeneratorExit):  # the caller does not want the rest
            yield from self._run(Reader(self._known(recordings), self._size, self.options.previous_text))
        self.session_pool.release(self._session)  # not after an error: its state is unknown

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
                batch, windows = windows[: self._size], windows[self._size :]
                segments = self._within_memory(batch)
                yield _batch_result(segments, batch, reader.take_finished())

    def _known(self, recordings: Iterable[Recording]) -> Iterator[Recording]:
        """Give a recording its route where that needs no language identification."""
        for recording in recordings:
            router = self._router_of(recording)
            if not router.identifies(recording.tag):
                recording.before = router.route(recording.tag)
            yield recording

    def _router_of(self, recording: Recording) -> Router:
        return recording.router or self.router

    def _windows(self, reader: Reader) -> list[Window]:
        """Return windows that can be decoded now."""
        windows: list[Window] = []
        seconds, ahead = 0.0, self._ahead()
        while len(windows) < ahead and seconds < max(AHEAD_SECONDS, self._size * self.base.chunk_seconds):
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
            return self._size
        return self._size * (IDENTIFIED_AHEAD if self.router.identifies(None) else READ_AHEAD)

    def _together(self) -> int:
        """Return how many phrases are read at once; where languages are identified, several batches."""
        return self._ahead() if self.router.identifies(None) else self._size

    def _routed(self, phrases: Sequence[tuple[Recording, Phrase]]) -> list[RoutedPhrase]:
        """Give every phrase its route; those whose language is not known are identified first."""
        heard = self._heard(phrases)
        routed = []
        latest = {id(recording): recording.before for recording, _ in phrases}
        for (recording, phrase), told in zip(phrases, heard, strict=True):
            before, router = latest[id(recording)], self._router_of(recording)
            if told is None:
                route = router.route(recording.tag, None, before)
                routed.append(RoutedPhrase(phrase, route))
            else:
                route = router.route(recording.tag, told.probabilities, before)
                ours = None if adapts_encoder(route.adapter) else told.encoder_output
                routed.append(RoutedPhrase(phrase, route, told.features, ours))
            latest[id(recording)] = route
        return routed

    def _heard(self, phrases: Sequence[tuple[Recording, Phrase]]) -> list[_Heard | None]:
        """Identify the languages of phrases, together with what was heard in their recordings before."""
        heard: list[_Heard | None] = [None] * len(phrases)
        unknown = [i for i, (item, _) in enumerate(phrases) if self._router_of(item).identifies(item.tag)]
        for start in range(0, len(unknown), self._size):
            some = unknown[start : start + self._size]
            with self._memory(len(some)):
                found = self._decoder.identify([phrases[i][1].samples for i in some])
            for row, i in enumerate(some):
                recording, probabilities = phrases[i][0], found.probabilities[row]
                if not torch.isfinite(probabilities).all():
                    recording.fail(overflow(self.base, self.base.id))
                    probabilities[:] = 0.0
                values = dict(zip(self.base.decode_languages, probabilities.tolist(), strict=True))
                heard[i] = _Heard(values, found.features[row], found.encoder_output[row])
        for recording in {id(phrases[i][0]): phrases[i][0] for i in unknown}.values():
            told = [
                (phrase.seconds, item)
                for (other, phrase), item in zip(phrases, heard, strict=True)
                if item and other is recording
            ]
            among = self._router_of(recording).choices
            pooled = recording.evidence.pool([(seconds, item.probabilities) for seconds, item in told], among)
            for (_, item), weighed in zip(told, pooled, strict=True):
                item.probabilities = weighed
        return heard

    def _within_memory(self, batch: Sequence[Window]) -> list[tuple[Recording, Segment]]:
        """Decode windows; where memory runs out, in smaller batches from now on."""
        result: list[tuple[Recording, Segment]] = []
        waiting = list(batch)
        while waiting:
            kind = self._decoder.kind(waiting[0])
            some = [window for window in waiting if self._decoder.kind(window) == kind][: self._size]
            try:
                with self._memory(len(some)):
                    result += self._decode(some)
                waiting = [window for window in waiting if window not in some] + self._remaining
                self._remaining = []
                continue
            except OutOfMemoryError:
                if len(some) == 1:
                    raise
            gc.collect()  # what the traceback of the error held
            self._size, self._session = (len(some) + 1) // 2, self.session_pool.replace()
            self.tell(
                f"out of memory with {len(some)} windows at once; going on with {self._size} "
                f"(--batch-size {self._size} does so from the start)"
            )
            if self.base.device.type == "cuda":
                empty_cache()
        return result

    def _decode(self, windows: Sequence[Window]) -> list[tuple[Recording, Segment]]:
        """Decode windows together; the rest of one whose last segment is cut off goes to `_remaining`."""
        result: list[tuple[Recording, Segment]] = []
        for window, found in zip(windows, self._decoder.decode(self._session, windows), strict=True):
            if found.error is not None:
                window.recording.fail(found.error)
            window.segments += found.segments
            if found.segments:
                window.tokens += found.tokens
                window.recording.remember(window, found.text_tokens, doubtful=found.doubtful)
            if found.resume is not None:
                self._remaining.append(window.after(found.resume))
                continue
            result += [(window.recording, item) for item in window.recording.add_decoded(window)]
        return result

    def _memory(self, windows: int) -> AbstractContextManager[None]:
        count = self.options.beams or FAMILIES[self.base.family].beams
        beams = f"{windows} windows with {count} beams on {self.base.device}"
        return memory_guard(beams, FEWER_BEAMS if windows == 1 else SMALLER_BATCHES)


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


def adapts_encoder(adapter: ResidentAdapter | None) -> bool:
    """Tell whether an adapter changes the encoder's output."""
    return adapter is not None and any(".encoder." in path for path in adapter.layout)
