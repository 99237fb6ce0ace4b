r"""The only way from a command to the terminal: whatever was not written by us is escaped here.

    echo_line(f"{artifact.ref}  {artifact.path}")     # data, one line
    echo_text(render_tree(graph, digest))             # data of several lines, whose breaks are ours
    echo_json(rows)
    echo_note("nothing changed")                      # talk, on stderr
    echo_error(error)                                 # error: what, where, expected, next step

Registries, manifests, servers, file names and error messages hold text of others: escape sequences that
clear the screen or fill the clipboard, newlines that forge a line, marks that turn the direction of what
follows. Only the calls of this module print (a test reads the other modules for it), so none is forgotten.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable
from typing import Any

import click

from adapter_hub.escaping import escaped, escaped_json, escaped_lines, shown

LONGEST_MESSAGE = 4000  # characters of an error, a warning or a note
_BREAKS = re.compile(r"\s*[\n\r\v\f\x85\u2028\u2029]\s*")


class ClosedOutputError(Exception):
    """Whoever read the output has gone, like `head`; nothing is left to be done, or said."""


def echo_line(text: object) -> None:
    """Print one line of data on stdout; a newline in it is escaped, too."""
    _put(f"{escaped(str(text))}\n")


def echo_text(text: str) -> None:
    """Print a document on stdout: its line breaks and tabs are ours, everything else is escaped.

    Only for text that keeps the values in it from breaking lines: a table, a card, a tree.
    """
    _put(escaped_lines(text if text.endswith("\n") or not text else f"{text}\n"))


def echo_transcript(text: str) -> None:
    """Print what was heard on stdout: to a terminal escaped, to a file or program letter for letter.

    It holds no control characters but its own line breaks; marks of direction, as Arabic has, are data.
    """
    _put(escaped_lines(text) if sys.stdout.isatty() else text)


def echo_json(value: Any) -> None:
    """Print plain data as JSON on stdout; what is not visible in it is spelt as an escape."""
    text = json_text(value)
    _put(text if _can_encode(text) else f"{json.dumps(value, indent=2)}\n")


def json_text(value: Any) -> str:
    """Return plain data as JSON, readable, exact, and harmless in a terminal."""
    return f"{escaped_json(json.dumps(value, indent=2, ensure_ascii=False))}\n"


def echo_note(text: str) -> None:
    """Print one line for a human on stderr, so that stdout stays data."""
    _put(f"{_message(text)}\n", err=True)


def echo_warning(text: object) -> None:
    """Print `warning: …` on stderr."""
    echo_note(f"warning: {text}")


def echo_warnings(warnings: Iterable[str]) -> None:
    """Print what the user should know, a line each, on stderr."""
    for warning in warnings:
        echo_warning(warning)


def echo_error(error: object) -> None:
    """Print `error: …` on stderr: one line, whatever is in the message."""
    echo_note(f"error: {error}")


def echo_progress(text: str) -> None:
    """Draw a line over the one before on stderr, which is a terminal; empty text clears it."""
    start = f"\r{shown(text)} " if text else "\r"
    _put(f"{start}\x1b[K", err=True)


def confirm(question: str) -> bool:
    """Ask a question with the answer no by default; only where a terminal can answer.

    Raises:
        click.Abort: the user interrupted.
    """
    return click.confirm(_message(question), default=False, err=True)


def _message(text: str) -> str:
    """Return text in one line of bounded length, whose middle gives way: the next step is at the end.

    Line breaks, of a library's message, become spaces.
    """
    if len(text) > LONGEST_MESSAGE:
        text = f"{text[: LONGEST_MESSAGE * 3 // 4]} … {text[-LONGEST_MESSAGE // 4 :]}"
    return escaped(_BREAKS.sub(" ", text).rstrip())


def _can_encode(text: str) -> bool:
    try:
        text.encode(getattr(sys.stdout, "encoding", None) or "utf-8")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def _put(text: str, *, err: bool = False) -> None:
    try:
        click.echo(text, nl=False, err=err, color=True)  # as it is: nothing in it is to be stripped
    except BrokenPipeError:
        raise ClosedOutputError from None
