"""Plain aligned tables for a terminal, a file or `cut`: no colours, no frames.

>>> print(table(["ref", "rank"], [["mini/da@1.0.0", 8]]))
ref            rank
mini/da@1.0.0     8
"""

from __future__ import annotations

import os
import shutil
import sys
import unicodedata
from collections.abc import Sequence
from typing import Any

from adapter_hub.escaping import shown

LONGEST_CELL = 1000  # characters
NARROWEST = 8  # cells to which a column is cut at most
WIDEST = 100  # what columns are padded to, so that one long cell does not widen every row


def table(headings: Sequence[str], rows: Sequence[Sequence[Any]], room: int | None = None) -> str:
    """Return rows under headings, columns padded to one width, numbers to the right.

    Args:
        headings: of the columns.
        rows: cells; None is an empty cell. Text is escaped, and cut if it is very long.
        room: the longest line; the widest columns are cut to it. None for any.
    """
    texts = [["" if cell is None else shown(cell, LONGEST_CELL) for cell in row] for row in rows]
    names = [shown(heading) for heading in headings]
    widths = _widths([names, *texts])
    while room is not None and sum(widths) + 2 * len(widths) - 2 > room and max(widths) > NARROWEST:
        widths[widths.index(max(widths))] -= 1
    if room is not None:
        texts = [[_cut(cell, width) for cell, width in zip(row, widths, strict=True)] for row in texts]
        names = [_cut(cell, width) for cell, width in zip(names, widths, strict=True)]
    right = [
        bool(rows) and all(isinstance(row[i], int | float | None) for row in rows)
        for i in range(len(headings))
    ]
    lines = []
    for cells in [names, *texts]:
        padded = [
            " " * (width - _width(cell)) + cell if to_right else cell + " " * (width - _width(cell))
            for cell, width, to_right in zip(cells, widths, right, strict=True)
        ]
        lines.append("  ".join(padded).rstrip())
    return "\n".join(lines)


def fitting_table(headings: Sequence[str], rows: Sequence[Sequence[Any]], spare: Sequence[str] = ()) -> str:
    """Return a table whose lines fit the terminal; one for a file or another program is as wide as it is.

    Args:
        headings: of the columns.
        rows: as `table` takes them.
        spare: headings of the columns that are left out where there is no room, the first one first.
    """
    room = _terminal_width()
    kept = list(range(len(headings)))
    for name in spare:
        cells = [[shown("" if row[i] is None else row[i], LONGEST_CELL) for i in kept] for row in rows]
        if room is None or sum(_widths([[headings[i] for i in kept], *cells])) + 2 * len(kept) - 2 <= room:
            break
        kept.remove(headings.index(name))
    return table([headings[i] for i in kept], [[row[i] for i in kept] for row in rows], room)


def _terminal_width() -> int | None:
    """Return the columns of the terminal that is written to, or that COLUMNS says; None for neither."""
    if os.environ.get("COLUMNS", "").isdecimal() or sys.stdout.isatty():
        return max(shutil.get_terminal_size().columns, 40)
    return None


def _widths(lines: Sequence[Sequence[str]]) -> list[int]:
    return [min(max(map(_width, column)), WIDEST) for column in zip(*lines, strict=True)]


def _cut(text: str, width: int) -> str:
    """Return text of at most `width` cells, with a mark where something is missing."""
    if _width(text) <= width:
        return text
    while _width(text) >= width:
        text = text[:-1]
    return f"{text}…"


def size_text(size: int) -> str:
    """Return a number of bytes for people to read.

    >>> size_text(226_000)
    '226 kB'
    """
    value = float(size)
    for unit in ("B", "kB", "MB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit != "MB" else f"{value:.1f} MB"
        value /= 1000
    return f"{value:.1f} GB"


def counted(count: int, noun: str) -> str:
    """Return a count and a noun, which is singular for one.

    >>> counted(1, "version"), counted(2, "version")
    ('1 version', '2 versions')
    """
    return f"{count} {noun}{'' if count == 1 else 's'}"


def _width(text: str) -> int:
    """Return the cells that a terminal uses: two for wide letters, none for combining marks."""
    return sum(
        2 if unicodedata.east_asian_width(c) in "WF" else 1
        for c in text
        if unicodedata.category(c) not in ("Mn", "Me", "Cf")
    )
