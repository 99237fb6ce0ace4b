"""Every error that a user of this library can act on.

    AdapterHubError
    ├── InvalidInputError      what was given is wrong: a name, a recipe, audio, an option
    │   └── DivergedError      a training whose loss or model is no longer finite
    ├── NotFoundError          nothing is there under that name
    ├── IntegrityError         bytes, shapes or values are not what was promised
    ├── ConflictError          it exists already, or another writer was faster
    │   └── StaleParentError   a commit was made on a state that is no longer the newest
    ├── UnreachableError       the Hub is down, silent or cut off; another time it may work
    ├── AccessError            the Hub asks for other rights: private, gated, not yours to write
    ├── StatusError            retired: yanked, quarantined or withdrawn
    ├── MissingExtraError      an optional dependency is not installed
    └── OutOfMemoryError       the memory of the machine or of its GPU does not suffice

A message is one line: what, where, what was expected, and the next step. The command line prints it
after `error: ` and exits with 1. What was found wrong may come from a hostile file: of many differences a
few are told and the rest counted, and none is longer than a line or two.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import accumulate, islice

from adapter_hub.escaping import shown

TOLD = 10  # differences in a message
KEPT = 1000  # differences that an error keeps
LONGEST_DIFFERENCE = 600  # characters
LONGEST_LIST = 1200  # characters of the differences in a message
LONGEST_MESSAGE = 1900  # characters: a screen


def few(items: Iterable[str], *, separator: str = "; ", most: int = TOLD) -> str:
    """Return the first of many texts as one, as many as fill some lines, and how many more there are.

    >>> few(["q_proj", "k_proj", "v_proj"], separator=", ", most=2)
    'q_proj, k_proj, … and 1 more'

    Args:
        items: the texts; they may come from a file that is not trusted.
        separator: between them.
        most: how many are shown.
    """
    waiting = iter(items)
    told = [shown(item, LONGEST_DIFFERENCE) for item in islice(waiting, most)]
    ends = list(accumulate(len(text) for text in told))
    fitting = max(1, sum(end <= LONGEST_LIST for end in ends))
    if rest := len(told[fitting:]) + sum(1 for _ in waiting):
        told[fitting:] = [f"… and {rest} more"]
    return separator.join(told)


class AdapterHubError(Exception):
    """Base of all errors of this library; `str()` is one line for the user, of bounded length."""

    def __str__(self) -> str:
        text = super().__str__()
        return text if len(text) <= LONGEST_MESSAGE else f"{text[:LONGEST_MESSAGE]}…"


class InvalidInputError(AdapterHubError, ValueError):
    """What the caller gave is wrong; the message names the field and what was expected.

    A ValueError too, so that a check made while pydantic validates a record is reported with its place.
    """


class NewerFormatError(InvalidInputError):
    """A later program wrote the file: an upgrade reads it, nothing else does, and nothing may replace it."""


class DamagedFileError(InvalidInputError):
    """A file that this program wrote is not what it was.

    `problem` says what is wrong with it; the message adds how to get it back.
    """

    def __init__(self, problem: str, way_out: str) -> None:
        """Write the message.

        Args:
            problem: the file, and what is wrong.
            way_out: what to do.
        """
        self.problem = problem
        super().__init__(f"{problem}; {way_out}")


class DivergedError(InvalidInputError):
    """A training's loss or model is no longer finite; a lower learning rate helps."""


class NotFoundError(AdapterHubError):
    """No adapter, version, file or folder is there."""


class ConflictError(AdapterHubError):
    """A different thing exists under this name, or a concurrent writer got there first."""


class StaleParentError(ConflictError):
    """Another writer's commit came first; read again and repeat."""


class UnreachableError(AdapterHubError):
    """The Hub cannot be reached, does not answer in time, or fails again and again."""


class AccessError(AdapterHubError):
    """The Hub refuses: a private or gated repository, or a token without the right to write."""


class StatusError(AdapterHubError):
    """The version is retired in a way that forbids this use."""


class MissingExtraError(AdapterHubError):
    """An optional dependency is needed; the message holds the install command."""

    def __init__(self, what: str, extra: str, then: str = "") -> None:
        """Write the message.

        Args:
            what: needs which package, like `finding speech needs silero-vad`.
            extra: the one that brings the package.
            then: what to do after that, or instead.
        """
        install = f"run `pip install '.[{extra}]'` in the project's checkout"
        super().__init__(f"{what}: {install}{f', {then}' if then else ''}")


class OutOfMemoryError(AdapterHubError):
    """The memory is not enough for this; the message says what needs less."""


class IntegrityError(AdapterHubError):
    """Something is not what its record promises.

    `differences` lists every mismatch, not the first (of thousands the first 1000); the message tells ten.
    """

    def __init__(self, what: str, differences: Sequence[str] = (), hint: str = "") -> None:
        self.what, self.hint = what, hint
        self.differences = tuple(shown(item, LONGEST_DIFFERENCE) for item in differences[:KEPT])
        text = what if not differences else f"{what}: {few(differences)}"
        super().__init__(f"{text}; {hint}" if hint else text)
