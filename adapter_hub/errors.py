"""Every error that a user of this library can act on.

    AdapterHubError
    ├── InvalidInputError      what was given is wrong: a name, a recipe, audio, an option
    │   └── DivergedError      a training whose loss or model is not finite any more
    ├── NotFoundError          nothing is there under that name
    ├── IntegrityError         bytes, shapes or values are not what was promised
    ├── ConflictError          it exists already, or somebody else was faster
    │   └── StaleParentError   a commit was made on a state that is not the newest any more
    ├── UnreachableError       the Hub is down, silent or cut off; another time it may work
    ├── AccessError            the Hub asks for other rights: private, gated, not yours to write
    ├── StatusError            retired: yanked, quarantined or withdrawn
    ├── MissingExtraError      an optional dependency is not installed
    └── OutOfMemoryError       the memory of the machine or of its GPU does not suffice

A message is one line: what, where, what was expected, and the next step. The command line prints it
after `error: ` and exits with 1.
"""

from __future__ import annotations

from collections.abc import Sequence


class AdapterHubError(Exception):
    """Base of all errors of this library; `str()` is one line for the user."""


class InvalidInputError(AdapterHubError, ValueError):
    """What the caller gave is wrong; the message names the field and what was expected.

    A ValueError too, so that a check made while pydantic validates a record is reported with its place.
    """


class DivergedError(InvalidInputError):
    """A training's loss or model is not finite any more; a lower learning rate helps."""


class NotFoundError(AdapterHubError):
    """No adapter, version, file or folder is there."""


class ConflictError(AdapterHubError):
    """A different thing exists under this name, or a concurrent writer got there first."""


class StaleParentError(ConflictError):
    """Somebody else's commit came first; read again and repeat."""


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
    """Something is not what its record promises; `differences` lists every mismatch, not the first."""

    def __init__(self, what: str, differences: Sequence[str] = (), hint: str = "") -> None:
        self.what, self.differences, self.hint = what, tuple(differences), hint
        text = what if not differences else f"{what}: {'; '.join(differences)}"
        super().__init__(f"{text}; {hint}" if hint else text)
