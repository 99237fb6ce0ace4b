"""Progress bars on stderr; stdout is for data."""

from __future__ import annotations

import sys
import threading
import time
from typing import Self

from adapter_hub.cli.terminal.echo import echo_note, echo_progress
from adapter_hub.cli.terminal.tables import size_text
from adapter_hub.reporting import PassingLine

FIRST_SECONDS, LOG_SECONDS = 5.0, 30.0  # until a line, and between two, where stderr is not a terminal


class Bar:
    """A progress bar on stderr for work on recordings or versions; not on a terminal a line now and then."""

    def __init__(self, what: str, total: int, total_seconds: float = 0.0) -> None:
        """Start at zero.

        Args:
            what: the label, like "transcribing".
            total: number of items.
            total_seconds: of audio in all items, if known; the time left is then estimated from it.
        """
        self.what, self.total, self.total_seconds = what, total, total_seconds
        self.done, self.seconds = 0, 0.0
        self.started = time.monotonic()
        self._told = self.started + FIRST_SECONDS - LOG_SECONDS
        self.shown = sys.stderr.isatty()

    def add(self, count: int, seconds: float) -> None:
        """Count items that are done.

        Args:
            count: items since the last call.
            seconds: of audio in them.
        """
        self.at(self.done + count, self.seconds + seconds)

    def at(self, done: int, seconds: float = 0.0) -> None:
        """Show how far the work is.

        Args:
            done: items that are done, in all.
            seconds: of audio in them.
        """
        self.done, self.seconds = done, seconds
        share = seconds / self.total_seconds if self.total_seconds else done / max(self.total, 1)
        now = time.monotonic()
        if not share or not (self.shown or now - self._told >= LOG_SECONDS):
            return
        share, passed = min(share, 1.0), max(now - self.started, 1e-3)
        left, self._told = passed / share * (1 - share), now
        speed = f"{seconds / passed:.1f} s of audio per second, " if seconds else ""
        rest = f"{done}/{self.total}  {speed}{left:.0f} s left"
        if self.shown:
            echo_progress(f"{self.what} {_drawn(share)} {rest}")
        else:
            echo_note(f"{self.what} {rest}")

    @property
    def speed(self) -> float:
        """Seconds of audio per second."""
        return self.seconds / max(time.monotonic() - self.started, 1e-3)

    def close(self) -> None:
        """Clear the line."""
        if self.shown:
            echo_progress("")


class Teller:
    """Prints lines of progress on stderr: a passing one over the last, or not on a terminal now and then."""

    def __init__(self) -> None:
        self.shown = sys.stderr.isatty()
        self._told, self._open = -LOG_SECONDS, False

    def __call__(self, line: str) -> None:
        """Print a line.

        Args:
            line: as `adapter_hub.reporting.Tell` takes it.
        """
        if not isinstance(line, PassingLine):
            self.close()
            echo_note(line)
        elif self.shown:
            echo_progress(f"{_drawn(line.share)} {100 * line.share:.0f} %  {line}")
            self._open = True
        elif time.monotonic() - self._told >= LOG_SECONDS:
            self._told = time.monotonic()
            echo_note(line)

    def close(self) -> None:
        """Clear a passing line."""
        if self._open:
            echo_progress("")
        self._open = False


def _drawn(share: float) -> str:
    filled = int(24 * share)
    return f"[{'#' * filled}{'.' * (24 - filled)}]"


class DownloadBar:
    """A progress bar on stderr for downloads; silent if stderr is not a terminal."""

    def __init__(self) -> None:
        self.started, self.done = time.monotonic(), 0
        self.shown = sys.stderr.isatty()
        self._lock = threading.Lock()  # several threads download
        self._told = 0.0

    def add(self, what: str, count: int, total: int) -> None:
        """Count bytes that were received of a download.

        Args:
            what: the label.
            count: bytes since the last call.
            total: bytes of the whole download; repeated attempts never count beyond it.
        """
        with self._lock:
            self.done = min(self.done + count, total)
            now = time.monotonic()
            if not self.shown or (now - self._told < 0.1 and self.done < total):
                return
            self._told = now
            speed = size_text(int(self.done / max(now - self.started, 1e-3)))
            bar = f"{what} {_drawn(self.done / max(total, 1))} {size_text(self.done)} of {size_text(total)}"
            echo_progress(f"{bar}  {speed}/s")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.shown and self.done:
            echo_progress("")
