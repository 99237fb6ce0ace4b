"""How long work reports to its caller: lines for the user, items that are done, bytes that came."""

from __future__ import annotations

from collections.abc import Callable
from typing import Self

Tell = Callable[[str], None]  # a line for the user; a `PassingLine` is replaced by the next one
Ask = Callable[[str], bool]  # a question that the user answers with yes or no
Progress = Callable[[int, int], None]  # how many are done; of how many
ReceivedBytes = Callable[[int], None]  # how many bytes came now; called from several threads
Downloading = Callable[[str, int, int], None]  # of what; bytes that came now; of how many


class PassingLine(str):
    """A line about how far work is: it need not be kept, and may be shown as a bar.

    Attributes:
        share: of the work that is done, from 0 to 1.
    """

    share: float

    def __new__(cls, text: str, share: float) -> Self:
        """Make one."""
        line = super().__new__(cls, text)
        line.share = share
        return line
