"""Transcribes the recordings of many callers in common batches, whatever their adapters, on one thread.

    engine = Engine(base, batch_size=8)
    job = engine.submit(Path("clip.flac"), router=router, tag=None, options=TranscriptionOptions())
    job.result(timeout=60).text
    engine.close(drain=True)

Each recording has a thread that reads it (`preparing`), the windows of all wait in one queue (`queue`), and
the decoding thread takes batches of them (`batching`) through the same stages as `Transcriber.transcribe`. So
an answer is the one that a recording gets alone.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field

from adapter_hub.errors import AdapterHubError, InvalidInputError
from adapter_hub.escaping import shown
from adapter_hub.isolation import isolated
from adapter_hub.model.base_model import BaseModel
from adapter_hub.model.session_pool import SessionPool
from adapter_hub.serving.accepted import BusyError, CancelledError, Job, OnSegment, Statistics, Work
from adapter_hub.serving.preparing import prepare
from adapter_hub.serving.queue import Turn, WorkQueue
from adapter_hub.speech.inputs import AudioInput, check_input
from adapter_hub.speech.languages import language_tag
from adapter_hub.speech.phrases import Phrase
from adapter_hub.transcription.options import TranscriptionOptions
from adapter_hub.transcription.pipeline import IDENTIFIED_AHEAD
from adapter_hub.transcription.recordings import check_options
from adapter_hub.transcription.routing import Router
from adapter_hub.transcription.stages import Heard, Stages
from adapter_hub.transcription.transcript import Segment
from adapter_hub.transcription.windows import Window

__all__ = ["BusyError", "CancelledError", "Engine", "Job", "OnSegment", "Statistics"]

LOGGER = logging.getLogger(__name__)
READERS = 2  # recordings that are read at the same time
LONG = 3.0  # seconds of the windows of a batch that shorter recordings need not wait for
LENT = 2.0  # seconds that a batch lends to shorter recordings for each of its own
AHEAD = 2  # batches of windows of one recording that are kept ready


@dataclass
class LongBatch:
    """A batch that is decoded, and lets shorter recordings by.

    Attributes:
        works: of each window.
        seconds: of the shortest window.
        started: when, in seconds of the monotonic clock.
        lent: seconds that shorter recordings have had since.
        seen: arrivals among which there was no shorter recording.
    """

    works: Sequence[Work]
    seconds: float
    started: float = field(default_factory=time.monotonic)
    lent: float = 0.0
    seen: int = -1


class Engine:
    """The one thread that computes with a base model, and the recordings that wait for it."""

    def __init__(
        self, base: BaseModel, *, batch_size: int = 8, max_wait: float = 0.02, most_waiting: int = 128
    ) -> None:
        """Start.

        Args:
            base: the base model of all jobs.
            batch_size: windows decoded together.
            max_wait: seconds that a window may wait for others to fill its batch.
            most_waiting: jobs that are accepted and not done, at most.
        """
        self.base, self.batch_size = base, batch_size
        self._queue = WorkQueue(max_wait, most_waiting)
        pool = SessionPool(base)
        self._stages = Stages(pool, batch_size, LOGGER.warning)
        self._between = Stages(pool, batch_size, LOGGER.warning)  # for short recordings between its steps
        self._reading = threading.Semaphore(READERS)
        self._counts: Counter[str] = Counter()
        self._audio: defaultdict[str, float] = defaultdict(float)
        self._compute: defaultdict[str, float] = defaultdict(float)
        self._thread = threading.Thread(target=self._run, name="decoding", daemon=True)
        self._thread.start()

    def submit(
        self,
        audio: AudioInput,
        *,
        router: Router,
        tag: str | None = None,
        options: TranscriptionOptions | None = None,
        on_segment: OnSegment | None = None,
        on_done: Callable[[Job], object] | None = None,
        client: Hashable = None,
    ) -> Job:
        """Accept a recording.

        Args:
            audio: as in `Transcriber.transcribe`; errors call a path by its `str`.
            router: chooses its adapters, which are of the engine's base model.
            tag: BCP 47 tag of its language, where that is known.
            options: how to transcribe it; windows share batches of the engine's size, whatever `batch_size`.
            on_segment: called with every segment in order, on a thread of the engine.
            on_done: called once with the job, when it has a transcript or an error.
            client: whose it is; clients take turns. None takes turns with all others.

        Raises:
            BusyError: too many wait, or the engine is closed.
            InvalidInputError: something that is no recording, or options that no recording can have.
        """
        check_input(audio)
        options = options or TranscriptionOptions()
        check_options(self.base, options)
        job = Job(audio, router, tag and language_tag(tag), options, on_segment, on_done, client)
        work = self._queue.accept(job)
        job._given_up = lambda: self._cancelled(work)
        try:
            threading.Thread(target=self._prepare, args=[work], name="reading", daemon=True).start()
        except RuntimeError:  # the system has no more
            busy = BusyError("no thread is free to read this recording; try again later", 2.0)
            self._queue.prepared(work, busy)
            raise busy from None
        return job

    def close(self, drain: bool = True) -> None:
        """Refuse new jobs and stop.

        Args:
            drain: finish what was accepted; otherwise it is cancelled.
        """
        for job in self._queue.close():
            if not drain:
                job.cancel()
        self._thread.join()

    def statistics(self) -> Statistics:
        """Return what the engine is doing and has done."""
        jobs, windows = self._queue.counts()
        batches = self._counts["batches"]
        return Statistics(
            jobs=jobs,
            windows=windows,
            batches=batches,
            batch_fill=self._counts["windows"] / (batches * self.batch_size) if batches else 0.0,
            audio_seconds=dict(self._audio),
            compute_seconds=dict(self._compute),
            finished=self._counts["finished"],
            failed=self._counts["failed"],
            cancelled=self._counts["cancelled"],
        )

    def _cancelled(self, work: Work) -> None:
        if self._queue.cancelled(work):
            self._finish(work)

    def _prepare(self, work: Work) -> None:
        errors: list[AdapterHubError] = []
        with isolated(_name(work), errors.append):
            prepare(self.base, work, self._queue, AHEAD * self.batch_size, self._reading)
        if self._queue.prepared(work, errors[0] if errors else None):
            self._finish(work)

    def _run(self) -> None:
        for stages in (self._stages, self._between):
            stages.begin()
        while (turn := self._queue.take(self._stages.size, self._kind)) is not None:
            errors: list[AdapterHubError] = []
            with isolated("a batch", errors.append):
                self._do(turn, self._stages)
            for error in errors:  # not of the model, which each recording answers for by itself
                LOGGER.error("%s", error)
                works = [work for work, _ in (*turn.phrases, *turn.windows)]
                for work in self._queue.give_up(works, error):
                    self._finish(work)
        for stages in (self._stages, self._between):
            stages.end()

    def _do(self, turn: Turn, stages: Stages) -> None:
        if turn.phrases:
            self._identify(turn.phrases, stages)
        else:
            self._decode(turn.windows, stages)

    def _let_short_ones_by(self, batch: LongBatch) -> None:
        """Between the steps of a batch, serve shorter recordings, as long as the batch gets on as well."""
        own = time.monotonic() - batch.started - batch.lent
        if batch.seen == self._queue.arrivals or batch.lent > LENT * own:
            return
        seen, started = self._queue.arrivals, time.monotonic()
        turn = self._queue.take_short(self._between.size, self._kind, batch.works, batch.seconds / 2)
        if turn is None:
            batch.seen = seen
            return
        self._do(turn, self._between)
        batch.lent += time.monotonic() - started

    def _kind(self, window: Window) -> Hashable:
        """Return what windows of a batch have in common; the longest condition leaves the least room."""
        with isolated("a window", lambda _: None):
            return self._stages.kind(window), len(window.recording.condition_of(window))
        return window  # alone: decoding it will say why

    def _identify(self, phrases: Sequence[tuple[Work, Phrase]], stages: Stages) -> None:
        """Identify phrases together; if that fails, each for itself."""
        started = time.monotonic()
        errors: list[AdapterHubError] = []
        found: Sequence[Heard] = ()
        with isolated(_name(phrases[0][0]), errors.append):
            pairs = [(work.recording, phrase) for work, phrase in phrases if work.recording is not None]
            found = stages.identify(pairs)
        if not errors:
            self._forget(found)
            self._queue.heard(
                [(work, item) for (work, _), item in zip(phrases, found, strict=True)],
                (time.monotonic() - started) / len(phrases),
            )
            return
        stages.renew()
        if len(phrases) == 1:
            self._queue.fail(phrases[0][0], errors[0])
        else:
            for one in phrases:
                self._identify([one], stages)

    def _forget(self, found: Sequence[Heard]) -> None:
        """Let go of what is only kept to save computing, where much of it waits already."""
        if self._queue.kept() + len(found) > IDENTIFIED_AHEAD * self.batch_size:
            for item in found:
                item.features = item.encoder_output = None

    def _decode(self, windows: Sequence[tuple[Work, Window]], stages: Stages) -> None:
        """Decode windows together; if that fails, each for itself."""
        batch = LongBatch([work for work, _ in windows], min(window.seconds for _, window in windows))
        if stages is self._stages:
            lends = batch.seconds >= LONG
            stages.between_steps = (lambda: self._let_short_ones_by(batch)) if lends else None
        owners = {id(window.recording): work for work, window in windows}
        errors: list[AdapterHubError] = []
        with isolated(_name(windows[0][0]), errors.append):
            segments, rest = stages.decode([window for _, window in windows])
        if errors:
            stages.renew()
            if len(windows) > 1:
                for one in windows:
                    self._decode([one], stages)
                return
            segments, rest = [], []
            self._queue.fail(windows[0][0], errors[0])
        seconds = (time.monotonic() - batch.started - batch.lent) / len(windows)
        self._counts["batches"] += 1
        self._counts["windows"] += len(windows)
        for _, window in windows:
            self._compute[window.route.name] += seconds
        for recording, segment in segments:
            self._tell(owners[id(recording)], segment)
        for window in rest:
            self._queue.put_back(owners[id(window.recording)], [window])
        for work in self._queue.decoded(batch.works, seconds):
            self._finish(work)

    def _tell(self, work: Work, segment: Segment) -> None:
        if work.job.on_segment is not None and not work.over:
            with isolated(_name(work), lambda error: self._queue.fail(work, error)):
                work.job.on_segment(segment)

    def _finish(self, work: Work) -> None:
        """Give a job its transcript or its error, and tell its caller."""
        job, recording = work.job, work.recording
        errors = [] if work.failed is None else [work.failed]
        if job.cancelled:
            errors = [CancelledError(f"{_name(work)}: cancelled")]
        if not errors and recording is not None:
            with isolated(_name(work), errors.append):
                found = recording.transcript()
                if found.error is not None and not found.segments:
                    raise InvalidInputError(found.error)
                job.transcript = found
        job.error = errors[0] if errors else None
        with self._queue.lock:  # several threads finish jobs
            self._counts["cancelled" if job.cancelled else "failed" if errors else "finished"] += 1
            if job.transcript is not None:
                self._audio[job.transcript.adapter] += job.transcript.seconds
        job._done.set()
        if job.on_done is not None:
            with isolated(_name(work), lambda error: LOGGER.warning("%s", error)):
                job.on_done(job)


def _name(work: Work) -> str:
    audio = work.job.audio
    return shown(audio, 200) if isinstance(audio, str | os.PathLike) else "audio 1"
