"""Which windows are decoded together: whose turn it is, and from others what is about as long.

    batch = next_batch(in_turn(works, served), size=8, most=2, kind=stages.kind)

The window that gives a batch its kind and its length is that of whose turn it is: of the client, and of its
recording, that has had the least of the decoding thread. A batch is as slow as its longest text, so windows
of very different lengths wait for batches of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from itertools import islice

from adapter_hub.serving.accepted import Work
from adapter_hub.transcription.windows import Window

LONGER = 2.0  # times the first window's seconds, and
SLACK = 2.0  # seconds more, that another window of its batch may have; or the other way round


def in_turn(works: Sequence[Work], served: Mapping[Hashable, float]) -> list[Work]:
    """Return works in the order in which it is their turn.

    Args:
        works: in the order in which they came.
        served: seconds of the decoding thread that each client has had.
    """
    return sorted(works, key=lambda work: (served.get(work.client, 0.0), work.served))


def next_batch(
    works: Sequence[Work], size: int, most: int, kind: Callable[[Window], Hashable]
) -> list[tuple[Work, Window]]:
    """Return the windows of the next batch, with the work that each is of.

    Args:
        works: that have windows, in turn.
        size: windows, at most.
        most: windows of one recording, at most.
        kind: of a window; a batch has one kind.
    """
    first = works[0].windows[0]
    wanted = kind(first)
    shortest, longest = (first.seconds - SLACK) / LONGER, LONGER * first.seconds + SLACK
    columns: list[list[tuple[Work, Window]]] = []
    for work in works:
        fitting = [
            window for window in work.windows if shortest <= window.seconds <= longest or len(works) == 1
        ]
        # the first of all stays; the others of a recording come by how near they are in length
        fitting.sort(key=lambda window: (window is not first, abs(window.seconds - first.seconds)))
        columns.append([(work, item) for item in islice((w for w in fitting if kind(w) == wanted), most)])
    found: list[tuple[Work, Window]] = []
    for place in range(most):
        row = [column[place] for column in columns if place < len(column)]
        if len(found) + len(row) > size:
            row.sort(key=lambda item: (item[1] is not first, abs(item[1].seconds - first.seconds)))
        found += row[: size - len(found)]
    return found


def next_phrases(works: Sequence[Work], size: int) -> list[Work]:
    """Return whose phrases are identified next: one work for each place, which gives its next phrase.

    Args:
        works: that have phrases to identify, in turn.
        size: phrases, at most.
    """
    found: list[Work] = []
    place = 0
    while len(found) < size:
        row = [work for work in works if place < len(work.unheard)]
        if not row:
            break
        found += row[: size - len(found)]
        place += 1
    return found
