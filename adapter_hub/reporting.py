"""How long work reports to its caller: lines for the user, items that are done, bytes that came."""

from __future__ import annotations

from collections.abc import Callable

Tell = Callable[[str], None]  # a line for the user
Ask = Callable[[str], bool]  # a question that the user answers with yes or no
Progress = Callable[[int, int], None]  # how many are done; of how many
ReceivedBytes = Callable[[int], None]  # how many bytes came now; called from several threads
Downloading = Callable[[str, int, int], None]  # of what; bytes that came now; of how many
