"""The result of a training: the trained model, and how the training went."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from adapter_hub.formats.manifest import CurvePoint
from adapter_hub.trainers.methods.trainable import TrainableModel

POINTS = 100  # losses in a curve, at most: manifests should stay small
DIGITS = 4


@dataclass(frozen=True)
class TrainingResult:
    """A finished training.

    Attributes:
        trainable: the model, with the weights to keep.
        steps: of the optimiser.
        seconds: of wall-clock time, including those before an interruption.
        best_step: whose weights were kept, with early stopping; else None.
        curve: losses by step.
        processes: how many trained together.
    """

    trainable: TrainableModel
    steps: int
    seconds: float
    best_step: int | None = None
    curve: tuple[CurvePoint, ...] = ()
    processes: int = 1


def training_curve(log: Iterable[Mapping[str, Any]]) -> tuple[CurvePoint, ...]:
    """Return the losses in transformers' log history as a curve of at most `POINTS` training losses.

    Args:
        log: `TrainerState.log_history`; a `loss` is the mean, in nats per token, since the one before it.

    Returns:
        Points by step; where there are too many losses, means of several of them.
    """
    rows = list(log)
    losses = [(int(row["step"]), float(row["loss"])) for row in rows if "loss" in row]
    dev = {int(row["step"]): _short(row["eval_loss"]) for row in rows if "eval_loss" in row}
    train: dict[int, float] = {}
    size = max(1, -(-len(losses) // POINTS))
    for i in range(0, len(losses), size):
        part = losses[i : i + size]
        train[part[-1][0]] = _short(sum(loss for _, loss in part) / len(part))
    return tuple(
        CurvePoint(step=step, loss=train.get(step), dev_loss=dev.get(step)) for step in sorted({*train, *dev})
    )


def _short(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")
