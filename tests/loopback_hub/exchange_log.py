"""What was asked and answered, in the order of arrival."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass
class Entry:
    """One exchange; `status` is None while there is no answer and 0 if the connection was cut instead."""

    number: int
    method: str
    path: str  # as sent: percent-encoded, without the query
    query: str
    endpoint: str  # the name in ENDPOINTS, "" if no such place
    headers: dict[str, str]
    status: int | None = None
    seconds: float | None = None

    def __str__(self) -> str:
        query = f"?{self.query}" if self.query else ""
        return f"{self.number} {self.method} {self.path}{query} -> {self.status}"


class ExchangeLog:
    """All entries since the start or the last `clear`; safe among threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._entries: list[Entry] = []
        self._number = 0

    def begin(self, method: str, path: str, query: str, endpoint: str, headers: dict[str, str]) -> Entry:
        with self._lock:
            self._number += 1
            entry = Entry(self._number, method, path, query, endpoint, headers)
            self._entries.append(entry)
            return entry

    def entries(
        self,
        method: str = "",
        path: str = "",
        *,
        endpoint: str | None = None,
        status: int | None = None,
    ) -> list[Entry]:
        """Return what fits: `method` and `path` are regular expressions, searched for."""
        with self._lock:
            return [
                entry
                for entry in self._entries
                if re.search(method, entry.method)
                and re.search(path, entry.path)
                and endpoint in (None, entry.endpoint)
                and status in (None, entry.status)
            ]

    def count(
        self, method: str = "", path: str = "", *, endpoint: str | None = None, status: int | None = None
    ) -> int:
        return len(self.entries(method, path, endpoint=endpoint, status=status))

    def clear(self) -> None:
        with self._lock:
            self._entries.clear()

    def __iter__(self) -> Iterator[Entry]:
        return iter(self.entries())

    def __len__(self) -> int:
        return len(self.entries())

    def __str__(self) -> str:
        return "\n".join(map(str, self))
