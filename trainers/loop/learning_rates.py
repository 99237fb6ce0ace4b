"""Learning rates against forgetting: lower ones for lower layers, and a peak early in training.

slow_down(optimizer, objective.named_parameters(), decay=0.9, layers=12)
slanted_triangle(step=30, steps=300, cut=0.1)     # 1.0, the peak
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from torch import nn
from torch.optim import Optimizer

RATIO = 32.0  # of the highest to the lowest rate of a slanted triangle, as its authors have it
_LAYER = re.compile(r"(?:^|\.)encoder\.layers\.(\d+)\.")
_FINAL_NORM = re.compile(r"(?:^|\.)encoder\.layer_norm\.")


def layer_factor(name: str, decay: float, layers: int) -> float:
    """Return what the learning rate of a weight is multiplied with: layer-wise decay (LLRD).

    Encoder layer l of L has `decay ** (L - 1 - l)`: the highest layer learns fastest, and everything that is
    not in the encoder as slowly as its lowest layer (Plantinga et al., SLT 2024, section III-A, after Zhang
    et al., arXiv 2006.05987). The paper does not place two parts: the convolutions below the layers learn as
    the lowest one, the norm above them as the highest.

    >>> [round(layer_factor(f"model.encoder.layers.{layer}.fc1.weight", 0.9, 3), 2) for layer in range(3)]
    [0.81, 0.9, 1.0]

    Args:
        name: of the weight; names of a LoRA's factors hold the name of their linear.
        decay: above 0, at most 1.
        layers: L, of the encoder.
    """
    if found := _LAYER.search(name):
        return float(decay ** (layers - 1 - int(found.group(1))))
    return 1.0 if _FINAL_NORM.search(name) else float(decay ** (layers - 1))


def slow_down(
    optimizer: Optimizer, weights: Iterable[tuple[str, nn.Parameter]], decay: float, layers: int
) -> None:
    """Give every weight of an optimiser its layer's learning rate, see `layer_factor`.

    Args:
        optimizer: without a step yet; its groups are split.
        weights: the model's, by name.
        decay: above 0, at most 1.
        layers: of the encoder.
    """
    factors = {id(weight): layer_factor(name, decay, layers) for name, weight in weights}
    groups = []
    for group in optimizer.param_groups:
        for factor in sorted({factors[id(weight)] for weight in group["params"]}):
            chosen = [weight for weight in group["params"] if factors[id(weight)] == factor]
            groups.append({**group, "params": chosen, "lr": group["lr"] * factor})
    optimizer.param_groups[:] = groups


def slanted_triangle(step: int, steps: int, cut: float, ratio: float = RATIO) -> float:
    """Return the share of the peak learning rate at a step (Howard and Ruder, arXiv 1801.06146, eq. 3).

    It rises linearly from 1 / ratio to 1 over the first `cut` of the steps and falls back over the rest.

    Args:
        step: from 0.
        steps: of the whole training.
        cut: share of the steps at which the peak is.
        ratio: of the peak to the lowest rate.
    """
    peak = int(steps * cut)
    way = step / peak if step < peak else 1 - (step - peak) / max(1, steps - peak)
    return (1 + max(0.0, way) * (ratio - 1)) / ratio
