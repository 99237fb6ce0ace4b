"""What waits for the decoding thread, and the turns in which it is taken.

The threads that read recordings put phrases and windows here; the decoding thread takes batches of them. A
window waits for others to share its batch only while some may come: recordings that are still being read, and
callers whose last answer went out a moment ago and who may ask again. Short recordings need not wait for the
batch of a long one: they are taken between its steps.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass

from adapter_hub.errors import AdapterHubError
from adapter_hub.serving.accepted import BusyError, Job, Work
from adapter_hub.serving.batching import in_turn, next_batch, next_phrases
from adapter_hub.speech.phrases import Phrase
from adapter_hub.transcription.stages import Heard
from adapter_hub.transcription.windows import Window

BRISK = 1.0  # seconds for which a long recording leaves room after a short one has come and gone
FEW = 2  # windows of a recording that counts as short, and of a long one in a batch meanwhile
RETURNING = 5.0  # times the longest wait: who has not asked again by then is not expected any more


@dataclass(frozen=True)
class Turn:
    """What the decoding thread does next: one of the two.

    Attributes:
        phrases: to identify.
        windows: to decode together.
    """

    phrases: Sequence[tuple[Work, Phrase]] = ()
    windows: Sequence[tuple[Work, Window]] = ()


class WorkQueue:
    """Recordings that are accepted and not done; every method may be called from any thread."""

    def __init__(self, max_wait: float, most_waiting: int) -> None:
        """Start empty.

        Args:
            max_wait: seconds that a window may wait for others to fill its batch.
            most_waiting: works, at most.
        """
        self.max_wait, self.most_waiting = max_wait, most_waiting
        self.lock = threading.Lock()
        self.closed = False
        self.arrivals = 0  # of phrases and windows
        self._came = threading.Condition(self.lock)
        self._works: list[Work] = []
        self._served: dict[Hashable, float] = {}
        self._returning = 0
        self._latest = self._short_until = 0.0
        self._decoded_last = True

    def accept(self, job: Job) -> Work:
        """Add a job.

        Raises:
            BusyError: too many wait, or the queue is closed.
        """
        with self.lock:
            if self.closed:
                raise BusyError("this server is stopping; try again when it is up again", 5.0)
            if len(self._works) >= self.most_waiting:
                raise BusyError(f"{len(self._works)} recordings wait already; try again later", 2.0)
            work = Work(job, threading.Condition(self.lock), job.client)
            work.client = work if job.client is None else job.client
            self._served.setdefault(work.client, min(self._served.values(), default=0.0))
            self._works.append(work)
            self._returning = max(0, self._returning - 1)
            return work

    def cancelled(self, work: Work) -> bool:
        """Note that a work was given up; returns whether it is complete with that."""
        with self.lock:
            work.changed.notify_all()
            self._came.notify_all()
            return self._leaves(work)

    def close(self) -> list[Job]:
        """Accept nothing from now on; returns the jobs that are not done."""
        with self.lock:
            self.closed = True
            self._came.notify_all()
            return [work.job for work in self._works]

    def counts(self) -> tuple[int, int]:
        """Return how many works there are, and how many windows wait."""
        with self.lock:
            return len(self._works), sum(len(work.windows) for work in self._works)

    def wait_for_room(self, work: Work, ahead: int) -> bool:
        """Wait until more of a recording should be read.

        Args:
            work: of the recording.
            ahead: windows that are kept ready, at most.

        Returns:
            False if nothing more is needed.
        """
        with self.lock:
            recording = work.recording
            assert recording is not None
            while not work.over:
                following = recording.options.previous_text and recording.waiting
                if not following and len(work.windows) < ahead:
                    return True
                work.changed.wait()
            return False

    def add(self, work: Work, windows: Iterable[Window]) -> None:
        """Put windows into the queue."""
        with self.lock:
            for window in windows:  # a generator, which changes the recording
                if not work.windows:
                    work.since = time.monotonic()
                work.windows.append(window)
                work.count += 1
            self.arrivals += 1
            self._came.notify_all()

    def hear(self, work: Work, phrases: Sequence[Phrase]) -> list[Heard] | None:
        """Let phrases be identified, and wait for it; None if the work is over meanwhile."""
        with self.lock:
            work.heard, work.since = [], time.monotonic()
            work.unheard.extend(phrases)
            self.arrivals += 1
            self._came.notify_all()
            while len(work.heard) < len(phrases):
                if work.over:
                    return None
                work.changed.wait()
            heard, work.heard = work.heard, []
            return heard

    def prepared(self, work: Work, error: AdapterHubError | None) -> bool:
        """Note that no more comes from a work's thread; returns whether the work is complete with that."""
        with self.lock:
            work.prepared = True
            work.failed = work.failed or error
            self._came.notify_all()
            return self._leaves(work)

    def take(self, size: int, kind: Callable[[Window], Hashable]) -> Turn | None:
        """Wait for something to do; phrases and windows take turns.

        Args:
            size: of a batch.
            kind: of a window; a batch has one kind.

        Returns:
            None when the queue is closed and all is done.
        """
        with self.lock:
            while True:
                ready, unheard = self._ready()
                if unheard and (not ready or self._decoded_last):
                    if self._waits(unheard, sum(len(work.unheard) for work in unheard), size):
                        continue
                    self._decoded_last, self._returning = False, 0
                    return self._phrases(unheard, size)
                if ready:
                    if self._waits(ready, sum(len(work.windows) for work in ready), size):
                        continue
                    self._decoded_last, self._returning = True, 0
                    return self._batch(ready, size, kind)
                if self.closed and not self._works:
                    return None
                self._came.wait()

    def take_short(
        self, size: int, kind: Callable[[Window], Hashable], works: Sequence[Work], seconds: float
    ) -> Turn | None:
        """Return what short recordings have to do, without waiting; None if there is nothing.

        Args:
            size: of a batch.
            kind: of a window.
            works: of a batch that is decoded now; others of their clients wait for its end.
            seconds: of what counts as short.
        """
        clients = {work.client for work in works}
        with self.lock:
            ready, unheard = (
                [
                    work
                    for work in some
                    if work.client not in clients
                    and work.count <= FEW
                    and all(window.seconds <= seconds for window in work.windows)
                    and all(phrase.seconds <= seconds for phrase in work.unheard)
                ]
                for some in self._ready()
            )
            if unheard:
                return self._phrases(unheard, size)
            return self._batch(ready, size, kind) if ready else None

    def kept(self) -> int:
        """Return how many phrases there are whose encoder output waits to be used again."""
        with self.lock:
            waiting = [item.encoder_output for work in self._works for item in work.heard]
            waiting += [
                phrase.encoder_output
                for work in self._works
                for window in work.windows
                for phrase in window.phrases
            ]
            return sum(item is not None for item in waiting)

    def put_back(self, work: Work, windows: Sequence[Window]) -> None:
        """Put the rest of windows that were decoded before the others of their recording."""
        with self.lock:
            work.windows.extendleft(reversed(windows))

    def heard(self, found: Sequence[tuple[Work, Heard]], seconds: float) -> None:
        """Hand over what was identified.

        Args:
            found: of each phrase.
            seconds: that each has had of the decoding thread.
        """
        with self.lock:
            for work, item in found:
                work.heard.append(item)
                self._count(work, seconds)

    def decoded(self, works: Sequence[Work], seconds: float) -> list[Work]:
        """Note that the windows of a batch are done.

        Args:
            works: of each window of the batch.
            seconds: that each window has had of the decoding thread.

        Returns:
            The works that are complete.
        """
        with self.lock:
            for work in works:
                work.in_batch -= 1
                self._count(work, seconds)
            done = [work for work in dict.fromkeys(works) if self._leaves(work)]
            self._returning, self._latest = len(done), time.monotonic()
            return done

    def fail(self, work: Work, error: AdapterHubError) -> None:
        """Give a work up."""
        with self.lock:
            work.failed = work.failed or error
            work.windows.clear()
            work.unheard.clear()
            work.changed.notify_all()

    def give_up(self, works: Sequence[Work], error: AdapterHubError) -> list[Work]:
        """Fail the works of a batch that nobody decodes any more; returns those that are complete."""
        for work in works:
            self.fail(work, error)
        with self.lock:
            for work in works:
                work.in_batch = 0
            return [work for work in dict.fromkeys(works) if self._leaves(work)]

    def _leaves(self, work: Work) -> bool:
        """Take a work out if it is complete; tells so once."""
        if work not in self._works or not work.complete:
            return False
        self._works.remove(work)
        if not any(other.client == work.client for other in self._works):
            self._served.pop(work.client, None)
        if self._works and work.count <= FEW:
            self._short_until = time.monotonic() + BRISK
        return True

    def _phrases(self, works: Sequence[Work], size: int) -> Turn:
        chosen = next_phrases(in_turn(works, self._served), size)
        return Turn(phrases=[(work, work.unheard.popleft()) for work in chosen])

    def _batch(self, works: Sequence[Work], size: int, kind: Callable[[Window], Hashable]) -> Turn:
        most = FEW if time.monotonic() < self._short_until else size
        batch = next_batch(in_turn(works, self._served), size, most, kind)
        for work, window in batch:
            work.windows.remove(window)
            work.in_batch += 1
        return Turn(windows=batch)

    def _count(self, work: Work, seconds: float) -> None:
        work.served += seconds
        self._served[work.client] = self._served.get(work.client, 0.0) + seconds
        work.changed.notify_all()

    def _ready(self) -> tuple[list[Work], list[Work]]:
        """Return the works that have windows, and those that have phrases to identify."""
        for work in self._works:
            if work.over:
                work.windows.clear()
                work.unheard.clear()
        return [work for work in self._works if work.windows], [work for work in self._works if work.unheard]

    def _waits(self, ready: Sequence[Work], count: int, size: int) -> bool:
        """Wait for what may come to share a batch; returns whether there may be more now.

        Args:
            ready: works that could be in the batch.
            count: of what they have.
            size: of a batch.
        """
        now = time.monotonic()
        if now - self._latest > RETURNING * self.max_wait:
            self._returning = 0
        coming = self._returning + sum(
            not (work.windows or work.unheard or work.prepared or work.over) for work in self._works
        )
        left = min(work.since for work in ready) + self.max_wait - now
        if not coming or left <= 0 or count >= size:
            return False
        self._came.wait(left)
        return True
