"""Where every exception of a command becomes one line on stderr and an exit code.

    return outcome_of(lambda: cli.main(words, standalone_mode=False), "list")

An error that a user can act on is printed as it is. An unexpected one is one line, too, and its traceback
is written to a crash report; with ADAPTER_HUB_DEBUG=1 it is raised instead. Warnings, log lines and
exceptions in threads, which Python would print itself, are printed in the same way.
"""

from __future__ import annotations

import errno
import io
import logging
import os
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import click

from adapter_hub.cli.terminal.echo import ClosedOutputError, echo_error, echo_note, echo_warning
from adapter_hub.errors import AdapterHubError
from adapter_hub.escaping import shown
from adapter_hub.files.writing import disk_error

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
FAILED, INTERRUPTED, OUTPUT_CLOSED = 1, 130, 141  # the last two as shells report these signals
MEMORY = (
    "out of memory; close other programs, or ask for less at once: "
    "smaller batches, --dtype bfloat16, a smaller base model"
)


def outcome_of(command: Callable[[], object], name: str) -> int:
    """Run a command and return its exit code; every exception is printed as one line.

    Args:
        command: returns its exit code; anything that is not an integer means 0.
        name: of the command, for the crash report.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors != "backslashreplace":
            stream.reconfigure(errors="backslashreplace")  # what it cannot encode is escaped, never fatal
    with _printed_by_us(name):
        try:
            code = command()
            return code if isinstance(code, int) else 0
        except click.ClickException as error:
            return _wrong_usage(error)
        except (click.Abort, KeyboardInterrupt):
            echo_note("error: interrupted")
            return INTERRUPTED
        except ClosedOutputError:
            return _quietly()
        except Exception as error:  # noqa: BLE001 - the boundary: nothing may leave it as a traceback
            return _failed(error, name)


def _failed(error: Exception, name: str) -> int:
    if isinstance(error, AdapterHubError):
        echo_error(error)
    elif isinstance(error, OSError):
        echo_error(_refused(error))
    elif (number := disk_error(error)) is not None:
        echo_error(_refused(OSError(number, os.strerror(number))))
    elif _is_lack_of_memory(error):
        echo_error(MEMORY)
    else:
        if os.environ.get("ADAPTER_HUB_DEBUG") == "1":
            raise error
        echo_error(_unexpected(error, name))
    return FAILED


def _wrong_usage(error: click.ClickException) -> int:
    """Print what is wrong with the arguments; a group without a command prints its help."""
    if isinstance(error, getattr(click.exceptions, "NoArgsIsHelpError", ())):
        error.show()
        return error.exit_code
    context = error.ctx if isinstance(error, click.UsageError) else None
    path = context.command_path if context else "adapter-hub"
    echo_error(f"{error.format_message().rstrip('.')}; see `{path} --help`")
    return error.exit_code


def _refused(error: OSError) -> str:
    """Return one line about what the operating system refused; of a copy to a full disk, with the target."""
    name = error.filename2 if error.errno in FULL and error.filename2 is not None else error.filename
    where = f"{os.fsdecode(name)}: " if isinstance(name, str | bytes) else ""
    reason = (error.strerror or str(error) or type(error).__name__).lower()
    if error.errno in FULL:
        return f"{where}{reason}; nothing was left half-written, free some space and run the command again"
    return f"{where}{reason}"


def _is_lack_of_memory(error: Exception) -> bool:
    if not isinstance(error, MemoryError | RuntimeError) or isinstance(error, RecursionError):
        return False  # torch reports a lack of memory as a RuntimeError
    from adapter_hub.model.memory import is_out_of_memory

    return is_out_of_memory(error)


def _unexpected(error: BaseException, name: str) -> str:
    """Write a crash report, and return the line that says where it is."""
    from adapter_hub.cli.terminal.crash_reports import message_of, write_crash_report

    what = f"unexpected {type(error).__name__} ({message_of(error)})"
    place = write_crash_report(error, name)
    if place is None:
        return (
            f"{what}; run the command again with ADAPTER_HUB_DEBUG=1 for the traceback, and please report it"
        )
    return f"{what}; the details are in {place}; please report it, and attach that file"


def _quietly() -> int:
    """Point stdout at nothing, so that Python does not try to write to it again when it exits."""
    try:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
    except (OSError, ValueError):
        pass  # not a file of the system, as in a test
    return OUTPUT_CLOSED


class _Record(logging.LogRecord):
    """A log message, ours or a library's, as one escaped line."""

    def getMessage(self) -> str:  # noqa: N802 - logging's name
        return shown(" ".join(super().getMessage().split()), 2000)


@contextmanager
def _printed_by_us(name: str) -> Iterator[None]:
    """Print warnings, log messages and exceptions in threads as one escaped line each, during a command."""

    def show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
        echo_warning(message)

    def tell(error: BaseException | None) -> None:
        if error is not None and not isinstance(error, SystemExit):
            echo_error(_unexpected(error, name))

    factory, in_threads, in_finalisers = (
        logging.getLogRecordFactory(),
        threading.excepthook,
        sys.unraisablehook,
    )
    with warnings.catch_warnings():
        warnings.showwarning = show_warning
        logging.setLogRecordFactory(_Record)
        if in_threads is threading.__excepthook__:
            threading.excepthook = lambda failure: tell(failure.exc_value)
        if in_finalisers is sys.__unraisablehook__:
            sys.unraisablehook = lambda failure: tell(failure.exc_value)
        try:
            yield
        finally:
            logging.setLogRecordFactory(factory)
            threading.excepthook, sys.unraisablehook = in_threads, in_finalisers
