"""SpecAugment (arXiv 1904.08779, section 2): random bands of time and of mel channels are masked.

Without its time warping. Masked values are set to the clip's mean, which in the paper is zero.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

# widths in frames of 10 ms and in mel channels; a time mask covers at most an eighth of a clip
DEFAULT_MASKS: Mapping[str, int] = {"time_masks": 2, "time_width": 25, "mel_masks": 2, "mel_width": 12}


def mask(features: NDArray[Any], rng: np.random.Generator, masks: Mapping[str, int] = DEFAULT_MASKS) -> None:
    """Mask the features of one clip in place.

    Args:
        features: `[mels, frames]` log-mel, float.
        rng: decides where the bands are and how wide.
        masks: numbers of bands (`time_masks`, `mel_masks`) and their largest widths (`time_width`,
            `mel_width`).
    """
    mean = features.mean()
    for _ in range(masks["time_masks"]):
        width = int(rng.integers(0, min(masks["time_width"], max(1, features.shape[1] // 8)) + 1))
        start = int(rng.integers(0, max(1, features.shape[1] - width)))
        features[:, start : start + width] = mean
    for _ in range(masks["mel_masks"]):
        width = int(rng.integers(0, masks["mel_width"] + 1))
        start = int(rng.integers(0, features.shape[0] - width))
        features[start : start + width] = mean
