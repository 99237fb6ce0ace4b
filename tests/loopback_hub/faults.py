"""What goes wrong on purpose, where and how often.

hub.faults.add("status", endpoint="commit", status=503)
hub.faults.add("wrong-bytes", "GET", r"adapter_model\\.safetensors$", times=None)

Kinds:
    status       an error answer instead of the real one; 502 has an HTML body; `retry_after` in seconds;
                 with `carried_out` the request is carried out before
    drop         the connection is closed before anything is done
    lose         the request is carried out, then the connection is closed without an answer
    truncate     Content-Length of the whole, FIN after half of the body
    reset        half of the body, then RST
    wrong-bytes  the right size, one byte of the body is another one
    stall        nothing for `seconds`, then the connection is closed
    stall-body   half of the body, nothing for `seconds`, then the connection is closed
    stale        answered from the branches and tags of `changes` changes ago
    before       `action()` is called before the request is carried out (a tag moved between two calls)
    after        `action()` is called when it was carried out, before the answer is sent
    forge        `forge(answer)` changes the answer: a server that lies

An answer to HEAD has no body that could be spoilt.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from dataclasses import dataclass

from loopback_hub.answers import Answer
from loopback_hub.endpoints import ALL
from loopback_hub.exchange_log import Entry

KINDS = (
    *("status", "drop", "lose", "truncate", "reset", "wrong-bytes"),
    *("stall", "stall-body", "stale", "before", "after", "forge"),
)
HTML = b"<html><head><title>502 Bad Gateway</title></head><body><h1>502 Bad Gateway</h1></body></html>"


@dataclass
class Fault:
    """One fault; `seen` counts the requests that fit, `fired` those that it hit."""

    kind: str
    method: str = ""
    path: str = ""
    endpoint: str | None = None
    times: int | None = 1  # None: for ever
    after: int = 0  # let so many requests through first
    status: int = 500
    retry_after: float | None = None
    carried_out: bool = False
    seconds: float = 60.0
    changes: int = 1
    action: Callable[[], object] = lambda: None
    forge: Callable[[Answer], object] = lambda answer: None
    seen: int = 0
    fired: int = 0

    def fits(self, entry: Entry) -> bool:
        return (
            re.search(self.method, entry.method) is not None
            and re.search(self.path, entry.path) is not None
            and self.endpoint in (None, entry.endpoint)
        )

    def answer(self) -> Answer:
        """Return the error answer of the kind `status`."""
        if self.status == 502:
            answer = Answer(502, HTML, {"Content-Type": "text/html"})
        else:
            answer = Answer.json({"error": f"Fault {self.status} on purpose"}, self.status)
        if self.retry_after is not None:
            answer.headers["Retry-After"] = f"{self.retry_after:g}"
        return answer


class Faults:
    """All faults that wait; the first one that fits a request and has not fired often enough hits it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: list[Fault] = []

    def add(self, kind: str, method: str = "", path: str = "", **settings: object) -> Fault:
        if kind not in KINDS:
            raise ValueError(f"unknown kind of fault: {kind}; known: {', '.join(KINDS)}")
        known = [endpoint.name for endpoint in ALL]
        if settings.get("endpoint") not in (None, *known):
            raise ValueError(f"unknown endpoint: {settings['endpoint']}; known: {', '.join(known)}")
        fault = Fault(kind, method, path, **settings)  # type: ignore[arg-type]
        with self._lock:
            self._waiting.append(fault)
        return fault

    def clear(self) -> None:
        with self._lock:
            self._waiting.clear()

    def hit(self, entry: Entry) -> Fault | None:
        with self._lock:
            for fault in self._waiting:
                if not fault.fits(entry):
                    continue
                fault.seen += 1
                if fault.seen > fault.after and (fault.times is None or fault.fired < fault.times):
                    fault.fired += 1
                    return fault
        return None


def spoilt(content: bytes) -> bytes:
    """Return other bytes of the same size."""
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :] if content else content
