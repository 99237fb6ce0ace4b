"""SpecAugment (arXiv 1904.08779): bands of time and of mel channels set to the clip's mean."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

# frames of 10 ms and mel channels; a time mask covers at most an eighth of a clip
DEFAULT_MASKS: Mapping[str, int] = {"time_masks": 2, "time_width": 25, "mel_masks": 2, "mel_width": 12}


def mask(features: NDArray[Any], rng: np.random.Generator, masks: Mapping[str, int] = DEFAULT_MASKS) -> None:
    """Mask log-mel features `[mels, frames]` in place."""
    mean = features.mean()
    for _ in range(masks["time_masks"]):
        width = int(rng.integers(0, min(masks["time_width"], max(1, features.shape[1] // 8)) + 1))
        start = int(rng.integers(0, max(1, features.shape[1] - width)))
        features[:, start : start + width] = mean
    for _ in range(masks["mel_masks"]):
        width = int(rng.integers(0, masks["mel_width"] + 1))
        start = int(rng.integers(0, features.shape[0] - width))
        features[start : start + width] = mean
