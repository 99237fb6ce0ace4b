r"""The only way from a command to the terminal: text that is not our own is escaped here.

    echo_line(f"{artifact.ref}  {artifact.path}")     # data, one line
    echo_text(render_tree(graph, digest))             # data of several lines, whose breaks are ours
    echo_json(rows)
    echo_note("nothing changed")                      # a message, on stderr
    echo_error(error)                                 # error: what, where, expected, next step

Registries, manifests, servers, file names and error messages hold text of others: escape sequences that
clear the screen or fill the clipboard, newlines that forge a line, marks that change the direction of what
follows. No other module of the command line prints, and a test reads them for it.
"""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Iterable
from typing import Any

import click

from adapter_hub.escaping import escaped, escaped_json, escaped_lines, shown

LONGEST_MESSAGE = 2000  # characters of an error, a warning or a note: a terminal of 80 columns full
_BREAKS = re.compile(r"\s*[\n\r\v\f\x85\u2028\u2029]\s*")


class ClosedOutputError(Exception):
    """The reader of the output is gone, as `head` is after ten lines; there is nothing left to do."""


def echo_line(text: object) -> None:
    """Print one line of data on stdout; newlines in it are escaped."""
    _put(f"{escaped(str(text))}\n")


def echo_text(text: str) -> None:
    """Print a document on stdout: everything in it is escaped but line breaks and tabs.

    Only for text in which values cannot break lines: a table, a card, a tree.
    """
    _put(escaped_lines(text if text.endswith("\n") or not text else f"{text}\n"))


def echo_transcript(text: str) -> None:
    """Print transcripts on stdout: escaped to a terminal, unchanged to a file or program.

    They hold no control characters but their line breaks; marks of direction, as in Arabic, are data.
    """
    _put(escaped_lines(text) if sys.stdout.isatty() else text)


def echo_json(value: Any) -> None:
    """Print plain data as JSON on stdout; invisible characters are written as escapes."""
    text = json_text(value)
    _put(text if _can_encode(text) else f"{json.dumps(value, indent=2)}\n")


def json_text(value: Any) -> str:
    """Return plain data as JSON, readable, exact, and harmless in a terminal."""
    return f"{escaped_json(json.dumps(value, indent=2, ensure_ascii=False))}\n"


def echo_note(text: str) -> None:
    """Print one line for people on stderr; stdout is for data."""
    _put(f"{_message(text)}\n", err=True)


def echo_warning(text: object) -> None:
    """Print `warning: …` on stderr."""
    echo_note(f"warning: {text}")


def echo_warnings(warnings: Iterable[str]) -> None:
    """Print warnings on stderr, one line each."""
    for warning in warnings:
        echo_warning(warning)


def echo_error(error: object) -> None:
    """Print `error: …` on stderr, always as one line."""
    echo_note(f"error: {error}")


def echo_progress(text: str) -> None:
    """Overwrite the current line on stderr, which must be a terminal; empty text clears it.

    What does not fit is cut: a line that wraps could not be overwritten.
    """
    room = max(shutil.get_terminal_size().columns - 2, 10)
    start = f"\r{shown(text)[:room]} " if text else "\r"
    _put(f"{start}\x1b[K", err=True)


def confirm(question: str) -> bool:
    """Ask a yes-or-no question on the terminal; the default answer is no.

    Raises:
        click.Abort: the user interrupted.
    """
    return click.confirm(_message(question), default=False, err=True)


def _message(text: str) -> str:
    """Return text as one line of bounded length, cut in the middle: the next step is at the end.

    Line breaks, as in messages of libraries, become spaces.
    """
    line = escaped(_BREAKS.sub(" ", text).rstrip())  # one character may become ten
    if len(line) <= LONGEST_MESSAGE:
        return line
    return f"{line[: LONGEST_MESSAGE * 3 // 4]} … {line[3 - LONGEST_MESSAGE // 4 :]}"


def _can_encode(text: str) -> bool:
    try:
        text.encode(getattr(sys.stdout, "encoding", None) or "utf-8")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def _put(text: str, *, err: bool = False) -> None:
    try:
        click.echo(text, nl=False, err=err, color=True)  # click must not strip anything
    except BrokenPipeError:
        raise ClosedOutputError from None
