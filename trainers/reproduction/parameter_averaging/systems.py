"""What the paper's systems are made of: trainings, averages, and the rows of its tables."""

from __future__ import annotations

from dataclasses import dataclass

FULL, LORA = "full-fine-tuning", "lora"
BASE = "base-model"  # the cell that cuts its encoder's input


@dataclass(frozen=True)
class Work:
    """What a cell does; fields that do not belong to its kind keep their defaults.

    Attributes:
        domains: trained on, or rendered (`original` is one there).
        method: of a training or of an average.
        steps: of a training; None as long as they are not chosen.
        rate: peak learning rate.
        decay: of the rate, per encoder layer down.
        frozen: all but the encoder's attention is.
        exponent: of the domains' shares; None for the data as they are.
        random_seed: of a training.
        start: the cell whose model a training starts from; None for the base model.
        dev: the original domain's dev sets are decoded after the training.
        components: cells and their weights in an average; the rest is the base model's.
        of: the cell that is tested; None for the base model.
    """

    domains: tuple[str, ...] = ()
    method: str = ""
    steps: int | None = None
    rate: float = 0.0
    decay: float = 1.0
    frozen: bool = False
    exponent: float | None = None
    random_seed: int = 0
    start: str | None = None
    dev: bool = False
    components: tuple[tuple[str, float], ...] = ()
    of: str | None = None
