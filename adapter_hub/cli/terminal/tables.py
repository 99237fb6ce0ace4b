"""Plain aligned tables for a terminal, a file or `cut`: no colours, no frames.

>>> print(table(["ref", "rank"], [["mini/da@1.0.0", 8]]))
ref            rank
mini/da@1.0.0     8
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from typing import Any

from adapter_hub.escaping import shown

LONGEST_CELL = 1000  # characters
WIDEST = 100  # what columns are padded to, so that one long cell does not widen every row


def table(headings: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Return rows under headings, columns padded to one width, numbers to the right.

    Args:
        headings: of the columns.
        rows: cells; None is an empty cell. Text is escaped, and cut if it is very long.
    """
    texts = [["" if cell is None else shown(cell, LONGEST_CELL) for cell in row] for row in rows]
    names = [shown(heading) for heading in headings]
    widths = [min(max(map(_width, column)), WIDEST) for column in zip(names, *texts, strict=True)]
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
