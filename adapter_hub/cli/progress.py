"""A progress bar on stderr; stdout is for data."""

from __future__ import annotations

import sys
import time

import click


class Bar:
    """A line on stderr that says how far it is and how fast; silent where stderr is no terminal."""

    def __init__(self, what: str, total: int) -> None:
        self.what, self.total = what, total
        self.done, self.seconds = 0, 0.0
        self.started = time.monotonic()
        self.shown = sys.stderr.isatty()

    def add(self, count: int, seconds: float) -> None:
        """Count more audios, and their seconds of audio."""
        self.at(self.done + count, self.seconds + seconds)

    def at(self, done: int, seconds: float = 0.0) -> None:
        """Show that `done` audios with `seconds` of audio are finished."""
        self.done, self.seconds = done, seconds
        if not self.shown or not done:
            return
        passed = time.monotonic() - self.started
        left = passed / done * (self.total - done)
        filled = 24 * done // max(self.total, 1)
        speed = f"{seconds / passed:.1f} s of audio a second, " if seconds else ""
        bar = f"\r{self.what} [{'#' * filled}{'.' * (24 - filled)}] {done}/{self.total}"
        click.echo(f"{bar}  {speed}{left:.0f} s left \x1b[K", err=True, nl=False)

    def close(self) -> None:
        """Clear the line."""
        if self.shown:
            click.echo("\r\x1b[K", err=True, nl=False)
