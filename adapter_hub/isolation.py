"""Where the failure of one item of many stays that item's, whatever it is: the others go on.

    for ref in refs:
        with apart(ref, failures.append):
            artifacts.append(pull(ref, …))

What a user can act on comes as it is. What nobody foresaw becomes an `UnforeseenError` of one line with its
type and place, and its traceback goes to the log. This is the one place in the library that catches
anything at all; the command line has its own for what a whole command raises.
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


class UnforeseenError(AdapterHubError):
    """A fault of this program that one item met; the traceback is in the log."""


@contextmanager
def apart(
    item: str,
    failed: Callable[[AdapterHubError], object],
    *,
    through: type[BaseException] | tuple[type[BaseException], ...] = (),
) -> Iterator[None]:
    """Keep what goes wrong with one item from the others.

    Args:
        item: what messages call it.
        failed: called with the error, if there is one.
        through: errors that are not the item's but everybody's, like a Hub that is down: they are raised.
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
        LOGGER.info("%s: unforeseen", shown(item), exc_info=True)
        failed(UnforeseenError(f"{shown(item)}: {unforeseen(error)}"))


def unforeseen(error: BaseException) -> str:
    """Return type, place and message of an error that nobody foresaw, in one line."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f" at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    text = shown(error, 200)
    return f"unforeseen {type(error).__name__}{place}{f' ({text})' if text else ''}; please report it"


def _refused(error: OSError) -> str:
    where = f"{shown(error.filename)}: " if error.filename else ""
    return f"{where}{(error.strerror or str(error) or type(error).__name__).lower()}"
