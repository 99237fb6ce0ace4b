"""A recording that was accepted: what its caller sees of it, and what the engine knows of it."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field

from adapter_hub.errors import AdapterHubError
from adapter_hub.speech.inputs import AudioInput
from adapter_hub.speech.phrases import Phrase
from adapter_hub.transcription.options import TranscriptionOptions
from adapter_hub.transcription.routing import Router
from adapter_hub.transcription.stages import Heard
from adapter_hub.transcription.transcript import Segment, Transcript
from adapter_hub.transcription.windows import Recording, Window

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
        audio_seconds: of recordings that were transcribed, by the name of the adapter of most of each.
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
        on_done: called once with the job, when it has a transcript or an error, on any thread.
        client: whose it is; clients take turns.
        transcript: the result; one that was cut short has its `error` set.
        error: why there is no transcript.
        cancelled: whether it was given up.
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
    cancelled: bool = False
    _given_up: Callable[[], object] | None = None
    _done: threading.Event = field(default_factory=threading.Event)

    @property
    def done(self) -> bool:
        """Whether there is a transcript or an error."""
        return self._done.is_set()

    def cancel(self) -> None:
        """Give it up: its windows leave the queue and its file is closed."""
        self.cancelled = True
        if self._given_up is not None:
            self._given_up()

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


@dataclass(eq=False)
class Work:
    """What is left to do for a job, and what is known of it; guarded by the lock of the queue.

    Attributes:
        job: of the caller.
        changed: notified when windows are decoded, phrases are heard, or the job is cancelled.
        client: whose turn it is when it is this job's.
        recording: once it is open.
        unheard: phrases whose languages are to be identified.
        heard: what was identified of them, in order.
        windows: to decode, in order.
        since: when the first of the phrases or windows came, in seconds of the monotonic clock.
        count: windows that it had so far.
        in_batch: how many of its windows are being decoded.
        prepared: nothing more comes from its thread.
        failed: why it ends without a transcript.
        served: seconds of the decoding thread that it has had.
    """

    job: Job
    changed: threading.Condition
    client: Hashable
    recording: Recording | None = None
    unheard: deque[Phrase] = field(default_factory=deque)
    heard: list[Heard] = field(default_factory=list)
    windows: deque[Window] = field(default_factory=deque)
    since: float = 0.0
    count: int = 0
    in_batch: int = 0
    prepared: bool = False
    failed: AdapterHubError | None = None
    served: float = 0.0

    @property
    def over(self) -> bool:
        """Whether nothing more needs to be done for it, as it was given up or has failed."""
        return self.job.cancelled or self.failed is not None

    @property
    def complete(self) -> bool:
        """Whether nothing is left to do."""
        waiting = not self.over and self.recording is not None and self.recording.waiting
        return self.prepared and not self.in_batch and not waiting
