"""The training curve on a card: a line of bars and a short table, in plain characters that the Hub shows.

sparkline([0.9, 0.5, 0.3, 0.3])      # "█▄▁▁"
rows = curve_rows(training)          # CurveRow(step, loss, dev_loss, kept), at most a dozen
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from adapter_hub.formats.manifest import CurvePoint, Training

BARS = "▁▂▃▄▅▆▇█"
LONGEST_LINE = 40  # bars
MOST_ROWS = 12


@dataclass(frozen=True)
class CurveRow:
    """A row of the table: losses in nats per token of text; `kept`: these weights are the adapter's."""

    step: int
    loss: float | None
    dev_loss: float | None
    kept: bool


def sparkline(values: Sequence[float]) -> str:
    """Return bars from the lowest to the highest value, at most so many; more values are averaged.

    Args:
        values: in the order of the line.

    >>> sparkline([3.0, 2.0, 1.0])
    '█▅▁'
    """
    size = max(1, -(-len(values) // LONGEST_LINE))
    means = [fmean(values[i : i + size]) for i in range(0, len(values), size)]
    low, high = min(means, default=0.0), max(means, default=0.0)
    scale = (len(BARS) - 1) / (high - low) if high > low else 0.0
    return "".join(BARS[round((mean - low) * scale)] for mean in means)


def loss_lines(training: Training) -> list[tuple[str, str, float, float]]:
    """Return name, bars, first and last value of the losses that the curve has."""
    lines = []
    for name, values in (
        ("loss", [point.loss for point in training.curve or () if point.loss is not None]),
        ("dev loss", [point.dev_loss for point in training.curve or () if point.dev_loss is not None]),
    ):
        if values:
            lines.append((name, sparkline(values), values[0], values[-1]))
    return lines


def curve_rows(training: Training) -> list[CurveRow]:
    """Return the table: a row for each dev loss, or without any for each point; at most so many, evenly.

    Args:
        training: of a manifest.
    """
    curve = training.curve or ()
    watched = [i for i, point in enumerate(curve) if point.dev_loss is not None] or list(range(len(curve)))
    best = training.best_step
    chosen = [i for i in _evenly(watched) if curve[i].step != best]
    chosen += [i for i in watched if curve[i].step == best]
    rows, since = [], 0
    for i in sorted(chosen):
        part = [point.loss for point in curve[since : i + 1] if point.loss is not None]
        loss = fmean(part) if part else None
        rows.append(CurveRow(curve[i].step, loss, curve[i].dev_loss, _kept(curve, i, best)))
        since = i + 1
    return rows


def _kept(curve: Sequence[CurvePoint], i: int, best: int | None) -> bool:
    return curve[i].step == best if best is not None else i == len(curve) - 1


def _evenly(places: Sequence[int]) -> list[int]:
    if len(places) <= MOST_ROWS:
        return list(places)
    step = (len(places) - 1) / (MOST_ROWS - 1)
    return [places[round(i * step)] for i in range(MOST_ROWS)]
