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
import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field

import torch
from torch import Tensor

from adapter_hub.decoding.alignment import align, alignment_heads
from adapter_hub.decoding.decode import decode, prompt_tokens
from adapter_hub.decoding.language import encode, language_probabilities
from adapter_hub.decoding.options import Task
from adapter_hub.errors import OutOfMemoryError
from adapter_hub.model.base_model import BaseModel
from adapter_hub.model.cuda_graphs import empty_cache
from adapter_hub.model.loading import ResidentAdapter
from adapter_hub.model.memory import FEWER_BEAMS, SMALLER_BATCHES, memory_guard
from adapter_hub.model.session import Session
from adapter_hub.model.session_pool import SessionPool
from adapter_hub.reporting import Tell
from adapter_hub.speech.audio import SAMPLE_RATE, Audio
from adapter_hub.speech.features import log_mel
from adapter_hub.speech.phrases import Phrase, Samples
from adapter_hub.transcription.options import TranscriptionOptions
from adapter_hub.transcription.recordings import Reader
from adapter_hub.transcription.routing import FixedRoute, LanguageRouter
from adapter_hub.transcription.stitching import resume_at, segments_of, text_tokens, with_words
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
    """The stages from recordings to segments, for one thread.

    Attributes:
        session_pool: of the base model.
        router: which adapter for which speech.
        options: how to transcribe.
        tell: called with what the user should know.
        low_latency: read no more windows ahead than one batch needs, so that results come early.
    """

    session_pool: SessionPool
    router: FixedRoute | LanguageRouter
    options: TranscriptionOptions
    tell: Tell
    low_latency: bool = False
    base: BaseModel = field(init=False)
    _session: Session = field(init=False)
    _size: int = field(init=False)
    _remaining: list[Window] = field(init=False, default_factory=list)

    def __post_init__(self) -> None:
        self.base, self._size = self.session_pool.base, self.options.batch_size

    def run(self, recordings: Iterable[Recording]) -> Iterator[BatchResult]:
        """Transcribe recordings; yields a result after every batch.

        Args:
            recordings: opened when they are needed.

        Raises:
            OutOfMemoryError: a single window is too much.
            InvalidInputError: a language that cannot be decoded, or is not known.
        """
        if self.options.words and not alignment_heads(self.base)[1]:
            self.tell(
                f"{self.base.id} names no alignment heads: word times come from all heads of the later half "
                "of its layers, and are less exact"
            )
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
            if not self.router.identifies(recording.tag):
                recording.before = self.router.route(recording.tag)
            yield recording

    def _windows(self, reader: Reader) -> list[Window]:
        """Return windows that can be decoded now."""
        windows: list[Window] = []
        seconds, ahead = 0.0, self._ahead()
        while len(windows) < ahead and seconds < max(AHEAD_SECONDS, self._size * self.base.chunk_seconds):
            phrases = reader.read(self._size)
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
        return self._size * (IDENTIFIED_AHEAD if isinstance(self.router, LanguageRouter) else READ_AHEAD)

    def _routed(self, phrases: Sequence[tuple[Recording, Phrase]]) -> list[RoutedPhrase]:
        """Give every phrase its route; those whose language is not known are identified together."""
        unknown = [i for i, (recording, _) in enumerate(phrases) if self.router.identifies(recording.tag)]
        features, encoder_output, languages = Tensor(), Tensor(), Tensor()
        if unknown:
            with self._memory(len(unknown)):
                features = self._features([phrases[i][1].samples for i in unknown])
                encoder_output = encode(self.base, features)
                languages = language_probabilities(self.base, encoder_output=encoder_output)
        routed = []
        latest = {id(recording): recording.before for recording, _ in phrases}
        for i, (recording, phrase) in enumerate(phrases):
            before = latest[id(recording)]
            if i not in unknown:
                route = self.router.route(recording.tag, None, before)
                routed.append(RoutedPhrase(phrase, route))
            else:
                row = unknown.index(i)
                if not torch.isfinite(languages[row]).all():
                    recording.fail(self._overflow(self.base.id))
                    languages[row] = 0.0
                values = dict(zip(self.base.decode_languages, languages[row].tolist(), strict=True))
                route = self.router.route(recording.tag, values, before)
                ours = None if adapts_encoder(route.adapter) else encoder_output[row]
                routed.append(RoutedPhrase(phrase, route, features[row], ours))
            latest[id(recording)] = route
        return routed

    def _features(self, samples: Sequence[Samples]) -> Tensor:
        recordings = [Audio(item, SAMPLE_RATE, "") for item in samples]
        return torch.from_numpy(log_mel(self.base.processor.feature_extractor, recordings))

    def _within_memory(self, batch: Sequence[Window]) -> list[tuple[Recording, Segment]]:
        """Decode windows; where memory runs out, in smaller batches from now on."""
        result: list[tuple[Recording, Segment]] = []
        waiting = list(batch)
        while waiting:
            kind = self._kind(waiting[0])
            some = [window for window in waiting if self._kind(window) == kind][: self._size]
            try:
                with self._memory(len(some)):
                    result += self._decode(some, *kind)
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

    def _kind(self, window: Window) -> tuple[bool, Task]:
        """Return whether a window is decoded with timestamps, and its task: a batch has one of each."""
        return self._with_timestamps(window), self.options.task or window.route.task

    def _decode(
        self, windows: Sequence[Window], timestamps: bool, task: Task
    ) -> list[tuple[Recording, Segment]]:
        """Decode windows together; the rest of one whose last segment is cut off goes to `_remaining`."""
        options = self.options.decoding(timestamps=timestamps, task=task)
        known = any(phrase.encoder_output is not None for window in windows for phrase in window.phrases[:1])
        # where nothing is encoded yet, `decode` sets the adapters once for encoder and decoder
        encoder_output = self._encoder_output(windows) if known or self.options.words else None
        previous = [window.recording.previous_to(window) for window in windows]
        decoded = decode(
            self._session,
            self._features_of(windows) if encoder_output is None else encoder_output,
            rows=[window.route.adapter for window in windows],
            languages=[window.route.decode_language for window in windows],
            options=options,
            previous=previous if self.options.previous_text else None,
            encoder_output=encoder_output,
        )
        for window, text in zip(windows, decoded, strict=True):
            if text.overflowed:
                window.recording.fail(self._overflow(window.route.name, window.start))
        found = [
            [] if text.overflowed else segments_of(window, text, options.timestamps, self.options)
            for window, text in zip(windows, decoded, strict=True)
        ]
        if encoder_output is not None and self.options.words:
            found = self._with_words(windows, encoder_output, found)
        result: list[tuple[Recording, Segment]] = []
        for window, text, segments in zip(windows, decoded, found, strict=True):
            window.segments += segments
            window.tokens += text.tokens if segments else ()
            if segments:
                window.recording.remember(window, text_tokens(self.base, text.tokens), text.temperature)
            stamped = options.timestamps and not text.overflowed
            resume = resume_at(self.base, text.tokens, window.seconds) if stamped else None
            if resume is not None:
                self._remaining.append(window.after(resume))
                continue
            result += [(window.recording, item) for item in window.recording.add_decoded(window)]
        return result

    def _with_words(
        self, windows: Sequence[Window], encoder_output: Tensor, found: Sequence[list[Segment]]
    ) -> list[list[Segment]]:
        """Return the segments of every window with the times of their words."""
        texts = [
            text_tokens(self.base, [token for segment in segments for token in segment.tokens])
            for segments in found
        ]
        plain = self.options.decoding()
        times = align(
            self._session,
            encoder_output,
            rows=[window.route.adapter for window in windows],
            prompts=[prompt_tokens(self.base, window.route.decode_language, plain) for window in windows],
            tokens=texts,
            seconds=[window.seconds for window in windows],
        )
        for window, row in zip(windows, times, strict=True):
            if any(math.isnan(start) for start, _ in row):
                window.recording.fail(self._overflow(window.route.name, window.start))
        rows = zip(windows, found, times, strict=True)
        return [
            segments if window.recording.error else with_words(self.base, window, segments, row)
            for window, segments, row in rows
        ]

    def _overflow(self, name: str, start: float = 0.0) -> str:
        """Return the error of an adapter or base model whose scores overflow its dtype."""
        kind = str(self.base.dtype).removeprefix("torch.")
        more = "use another adapter" if kind == "float32" else "use --dtype float32, or another adapter"
        return f"{name} overflows in {kind} at {start:.1f} s: its scores are not finite; {more}"

    def _encoder_output(self, windows: Sequence[Window]) -> Tensor:
        """Return the encoder's output for every window, `[windows, time, width]`, with their adapters."""
        known = [window.phrases[0].encoder_output if len(window.phrases) == 1 else None for window in windows]
        new = [i for i, rows in enumerate(known) if rows is None]
        if new:
            self._session.set_adapters([windows[i].route.adapter for i in new])
            features = self._features_of([windows[i] for i in new])
            with torch.inference_mode():
                encoder = self._session.model.get_encoder()
                made = encoder(features.to(self.base.device, self.base.dtype)).last_hidden_state
            if len(new) == len(windows):
                return made
            for place, i in enumerate(new):
                known[i] = made[place]
        return torch.stack([rows for rows in known if rows is not None])

    def _features_of(self, windows: Sequence[Window]) -> Tensor:
        known = [window.phrases[0].features if len(window.phrases) == 1 else None for window in windows]
        new = [i for i, rows in enumerate(known) if rows is None]
        if new:
            made = self._features([windows[i].samples for i in new])
            for place, i in enumerate(new):
                known[i] = made[place]
        return torch.stack([rows for rows in known if rows is not None])

    def _memory(self, windows: int) -> AbstractContextManager[None]:
        beams = f"{windows} windows with {self.options.beams} beams on {self.base.device}"
        return memory_guard(beams, FEWER_BEAMS if windows == 1 else SMALLER_BATCHES)

    def _with_timestamps(self, window: Window) -> bool:
        if self.options.timestamps != "trained":
            return self.options.timestamps
        adapter = window.route.adapter
        return adapter is None or (adapter.manifest is not None and adapter.manifest.timestamps)


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
