"""A pool of sessions, which keeps those that have recorded decoder steps for the next call.

    pool = SessionPool(base)
    session = pool.acquire()
    …
    pool.release(session)

Recording takes as long as several steps, so a session that records (on a GPU, where it is switched on) is
kept for the next call, with its buffers. One that does not is dropped: a new one costs little, and the memory
is free until then. All calls are for the device's default stream: nothing waits for another one.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

from adapter_hub.model.base_model import BaseModel
from adapter_hub.model.session import Session

MOST_IDLE = 2  # sessions to keep, each with the caches of its largest batch


@dataclass(eq=False)
class SessionPool:
    """The sessions of one base model, for any number of threads; each `Session` is one thread's at a time.

    Attributes:
        base: the base model.
    """

    base: BaseModel
    _idle: list[Session] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def acquire(self) -> Session:
        """Return a session for the caller alone."""
        with self._lock:
            if self._idle:
                return self._idle.pop()
        return Session(self.base)

    def release(self, session: Session) -> None:
        """Keep a session for the next call if it has recorded steps, and drop it otherwise."""
        if session.recorded_steps is None:
            return
        session.set_adapters([None])  # its last batch's adapters may be evicted meanwhile
        with self._lock:
            if len(self._idle) < MOST_IDLE:
                self._idle.append(session)

    def replace(self) -> Session:
        """Return a new session and drop the idle ones: memory is short."""
        with self._lock:
            self._idle.clear()
        return Session(self.base)
