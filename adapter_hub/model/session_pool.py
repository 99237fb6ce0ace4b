"""SessionPool that wait for their next call, with the decoder steps that they have recorded.

    session = sessions.take()
    …
    sessions.give_back(session)

Recording takes as long as several steps, so a session that records (on a GPU) is kept for the next call,
with its buffers. One that does not is made anew: that costs little, and its memory is free again. All
calls are for the device's default stream: nothing waits for another one.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

from adapter_hub.model.base_model import BaseModel
from adapter_hub.model.session import Session

MOST_IDLE = 2  # sessions that are kept, each with the caches of its largest batch


@dataclass(eq=False)
class SessionPool:
    """SessionPool of one base model, for any number of threads.

    Attributes:
        base: the base model.
    """

    base: BaseModel
    _idle: list[Session] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def take(self) -> Session:
        """Return a session that nobody else uses."""
        with self._lock:
            if self._idle:
                return self._idle.pop()
        return Session(self.base)

    def give_back(self, session: Session) -> None:
        """Keep a session for the next call, if that call gains by it."""
        if session.recorded_steps is None:
            return
        session.set_adapters([None])  # its last batch's adapters may be evicted
        with self._lock:
            if len(self._idle) < MOST_IDLE:
                self._idle.append(session)

    def renew(self) -> Session:
        """Return a new session and forget those that wait: memory is short."""
        with self._lock:
            self._idle.clear()
        return Session(self.base)
