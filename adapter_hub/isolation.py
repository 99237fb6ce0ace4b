"""Work on many items, in which the failure of one stays that item's and the others go on.

    for ref in refs:
        with isolated(ref, failures.append):
            artifacts.append(pull(ref, places))

An error that a user can act on is passed on as it is. Anything else becomes an `UnexpectedError` of one line
with its type and place, and its traceback goes to the log. This is the one place in the library that catches
every exception; the command line has its own for a whole command.
"""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from adapter_hub.errors import AdapterHubError
from adapter_hub.escaping import shown

LOGGER = logging.getLogger(__name__)


class UnexpectedError(AdapterHubError):
    """A fault of this program that one item ran into; the traceback is in the log."""


@contextmanager
def isolated(
    item: str,
    failed: Callable[[AdapterHubError], object],
    *,
    through: type[BaseException] | tuple[type[BaseException], ...] = (),
) -> Iterator[None]:
    """Keep the failure of one item from the others.

    Args:
        item: what messages call it.
        failed: called with the error, if there is one.
        through: errors that concern all items, like a Hub that is down: they are raised.
    """
    try:
        yield
    except through:
        raise
    except AdapterHubError as error:
        failed(error)
    except OSError as error:
        failed(AdapterHubError(f"{shown(item)}: {_refused(error)}"))
    except Exception as error:
        LOGGER.info("%s: unexpected", shown(item), exc_info=True)
        failed(UnexpectedError(f"{shown(item)}: {unexpected(error)}"))


def unexpected(error: BaseException) -> str:
    """Return type, place and message of an error that is a fault of this program, on one line."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f" at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    text = shown(error, 200)
    return f"unexpected {type(error).__name__}{place}{f' ({text})' if text else ''}; please report it"


def _refused(error: OSError) -> str:
    where = f"{shown(error.filename)}: " if error.filename else ""
    return f"{where}{(error.strerror or str(error) or type(error).__name__).lower()}"
