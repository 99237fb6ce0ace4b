"""Which rows an epoch visits, and which rows are used of a source that is limited in hours.

    epoch_rows([1, 2, 0.5, 0.5], epoch=0, random_seed=1)     # [0, 1, 1, 3]
    choose_hours(["a", "b", "c"], [1800, 1800, 1800], hours=1.0, random_seed=1)    # two of 0, 1, 2

A row of weight 2 is visited twice per epoch, one of weight 0.5 every other epoch.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from adapter_hub.formats.canonical import sha256_hex

GOLDEN_RATIO = (5**0.5 - 1) / 2  # steps of this size around a circle spread most evenly
SECONDS_PER_HOUR = 3600.0


def domain_weights(domains: Sequence[str], exponent: float) -> list[float]:
    """Return the weight of every row with which domains are resampled.

    A domain of n rows gets a share of every epoch that is proportional to n**exponent: with 0 all domains
    weigh the same, with 1 all rows do. The length of an epoch stays the same.

    >>> domain_weights(["clean", "clean", "clean", "noisy"], 0)
    [0.6666666666666666, 0.6666666666666666, 0.6666666666666666, 2.0]

    Args:
        domains: of every row.
        exponent: from 0 to 1; the inverse of a temperature.
    """
    rows = Counter(domains)
    whole = sum(count**exponent for count in rows.values())
    return [len(domains) * rows[name] ** exponent / whole / rows[name] for name in domains]


def epoch_length(weights: Sequence[float]) -> int:
    """Return how many rows every epoch visits: the sum of the weights, rounded, at least 1.

    >>> epoch_length([1, 2, 0.5, 0.5])
    4
    """
    return max(1, round(sum(weights))) if len(weights) else 0


def epoch_rows(weights: Sequence[float], epoch: int, random_seed: int) -> list[int]:
    """Return the rows of an epoch in order, a row of weight w on average w times.

    The whole part of a weight is visited in every epoch. The fractional parts are laid around a circle, in
    an order that `random_seed` decides, and equally spaced pointers, rotated a little further every epoch,
    choose among them. So every epoch has the same length, and over the epochs every row is visited as
    evenly as its weight allows.

    Args:
        weights: of every row, above 0.
        epoch: from 0.
        random_seed: decides the order of the fractional parts.

    Returns:
        Row numbers, ascending; `epoch_length(weights)` of them.
    """
    array = np.asarray(weights, dtype=np.float64)
    counts = np.floor(array).astype(np.int64)
    pointers = epoch_length(weights) - int(counts.sum())
    if pointers > 0:
        order = np.random.default_rng(random_seed).permutation(len(array))
        ends = np.cumsum((array - counts)[order])
        places = (np.arange(pointers) + (epoch * GOLDEN_RATIO) % 1.0) * (ends[-1] / pointers)
        chosen = np.minimum(np.searchsorted(ends, places, side="right"), len(array) - 1)
        np.add.at(counts, order[chosen], 1)
    return [int(row) for row in np.repeat(np.arange(len(array)), counts)]


def choose_hours(ids: Sequence[str], seconds: Sequence[float], hours: float, random_seed: int) -> list[int]:
    """Return a random selection of rows with at most so many hours of audio.

    A row's rank in the draw follows from `random_seed` and its id alone, so neither other sources nor
    the order of the rows change the selection, and more hours only add to it.

    Args:
        ids: of every row, unique.
        seconds: of audio in every row.
        hours: the limit.
        random_seed: decides the selection.

    Returns:
        Row numbers, ascending.
    """
    drawn = sorted(range(len(ids)), key=lambda row: sha256_hex(f"{random_seed}\t{ids[row]}".encode()))
    chosen: list[int] = []
    left = hours * SECONDS_PER_HOUR
    for row in drawn:
        if seconds[row] > left:
            break
        chosen.append(row)
        left -= seconds[row]
    return sorted(chosen)
