"""Transcribes the recordings of many callers in common batches, on one thread.

engine = Engine(base, batch_size=8)
job = engine.submit(Path("clip.flac"), router=router, tag=None, options=TranscriptionOptions())
job.result(timeout=60).text
engine.close(drain=True)
"""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Hashable, Mapping
from dataclasses import asdict, dataclass, field

from adapter_hub.errors import AdapterHubError, InvalidInputError
from adapter_hub.isolation import isolated
from adapter_hub.model.base_model import BaseModel
from adapter_hub.speech.inputs import AudioInput, check_input
from adapter_hub.transcription.options import TranscriptionOptions
from adapter_hub.transcription.routing import Router
from adapter_hub.transcription.transcriber import Transcriber
from adapter_hub.transcription.transcript import Segment, Transcript

OnSegment = Callable[[Segment], object]


class BusyError(AdapterHubError):
    """More requests wait than the engine takes, or it is closed; `seconds` is when to try again."""

    def __init__(self, message: str, seconds: float) -> None:
        """Write the message.

        Args:
            message: one line.
            seconds: after which there is probably room.
        """
        super().__init__(message)
        self.seconds = seconds


class CancelledError(AdapterHubError):
    """The caller went away before the transcript was complete."""


@dataclass(frozen=True)
class Statistics:
    """What an engine is doing, and what it has done since it was made.

    Attributes:
        jobs: that are accepted and not done.
        windows: that wait to be decoded.
        batches: that were decoded.
        batch_fill: mean share of a batch's places that were taken.
        audio_seconds: of recordings that were transcribed, by the name of the adapter of their route.
        compute_seconds: of the decoding thread, by the name of the adapter; windows share those of a batch.
        finished: how many jobs ended with a transcript.
        failed: how many ended with an error.
        cancelled: how many were cancelled.
    """

    jobs: int = 0
    windows: int = 0
    batches: int = 0
    batch_fill: float = 0.0
    audio_seconds: Mapping[str, float] = field(default_factory=dict)
    compute_seconds: Mapping[str, float] = field(default_factory=dict)
    finished: int = 0
    failed: int = 0
    cancelled: int = 0


@dataclass(eq=False)
class Job:
    """A recording that an engine transcribes.

    Attributes:
        audio: the recording.
        router: chooses its adapters.
        tag: BCP 47 tag of its language, where that is known.
        options: how to transcribe it.
        on_segment: called with every segment in order, on a thread of the engine.
        on_done: called once with the job, when it has a transcript or an error, on a thread of the engine.
        client: whose it is; clients take turns.
        transcript: the result; one that was cut short has its `error` set.
        error: why there is no transcript.
    """

    audio: AudioInput
    router: Router
    tag: str | None
    options: TranscriptionOptions
    on_segment: OnSegment | None = None
    on_done: Callable[[Job], object] | None = None
    client: Hashable = None
    transcript: Transcript | None = None
    error: AdapterHubError | None = None
    _cancelled: bool = False
    _done: threading.Event = field(default_factory=threading.Event)

    @property
    def done(self) -> bool:
        """Whether there is a transcript or an error."""
        return self._done.is_set()

    def cancel(self) -> None:
        """Give it up: its windows leave the queue and its file is closed."""
        self._cancelled = True

    def result(self, timeout: float | None = None) -> Transcript:
        """Wait for the transcript.

        Args:
            timeout: seconds; None waits as long as it takes.

        Raises:
            TimeoutError: it is not done by then.
            AdapterHubError: why there is no transcript.
        """
        if not self._done.wait(timeout):
            raise TimeoutError(f"no transcript after {timeout} s")
        if self.error is not None:
            raise self.error
        assert self.transcript is not None
        return self.transcript


class Engine:
    """The one thread that computes with a base model, and the jobs that wait for it."""

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
        self.base, self.batch_size, self.max_wait, self.most_waiting = (
            base,
            batch_size,
            max_wait,
            most_waiting,
        )
        self._waiting: deque[Job] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._current: Job | None = None
        self._counts: Counter[str] = Counter()
        self._audio: Counter[str] = Counter()
        self._compute: Counter[str] = Counter()
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
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
            options: how to transcribe it; `batch_size` is the engine's own.
            on_segment: called with every segment in order, on a thread of the engine.
            on_done: called once with the job, when it has a transcript or an error.
            client: whose it is; clients take turns.

        Raises:
            BusyError: too many wait, or the engine is closed.
            InvalidInputError: something that is no recording, or options that no recording can have.
        """
        check_input(audio)
        job = Job(audio, router, tag, options or TranscriptionOptions(), on_segment, on_done, client)
        job.options.check()
        with self._changed:
            if self._closed:
                raise BusyError("this server is stopping; try again when it is up again", 5.0)
            if len(self._waiting) >= self.most_waiting:
                raise BusyError(f"{len(self._waiting)} requests wait already; try again", 1.0)
            self._waiting.append(job)
            self._changed.notify_all()
        return job

    def close(self, drain: bool = True) -> None:
        """Refuse new jobs and stop.

        Args:
            drain: finish what was accepted; otherwise it is cancelled.
        """
        with self._changed:
            self._closed = True
            for job in [] if drain else self._waiting:
                job.cancel()
            self._changed.notify_all()
        self._thread.join()

    def statistics(self) -> Statistics:
        """Return what the engine is doing and has done."""
        with self._changed:
            return Statistics(
                jobs=len(self._waiting) + (self._current is not None),
                audio_seconds=dict(self._audio),
                compute_seconds=dict(self._compute),
                finished=self._counts["finished"],
                failed=self._counts["failed"],
                cancelled=self._counts["cancelled"],
            )

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._waiting:
                    if self._closed:
                        return
                    self._changed.wait()
                job = self._current = self._waiting.popleft()
            self._transcribe(job)
            self._current = None

    def _transcribe(self, job: Job) -> None:
        def failed(error: AdapterHubError) -> None:
            job.error = error

        started = time.monotonic()
        with isolated(str(job.audio), failed):
            if job._cancelled:
                raise CancelledError("cancelled")
            words = asdict(job.options) | {"batch_size": self.batch_size}
            (found,) = Transcriber(self.base, job.router).transcribe(job.audio, languages=[job.tag], **words)
            if found.error is not None and not found.segments:
                raise InvalidInputError(found.error)
            for segment in found.segments if job.on_segment else ():
                job.on_segment(segment)  # type: ignore[misc]
            job.transcript = found
            self._audio[found.adapter] += found.seconds
            self._compute[found.adapter] += time.monotonic() - started
        outcome = "finished" if job.error is None else "failed"
        self._counts["cancelled" if job._cancelled and job.error else outcome] += 1
        job._done.set()
        if job.on_done:
            with isolated("on_done", lambda error: None):
                job.on_done(job)
