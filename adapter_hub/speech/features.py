"""Log-mel features as the base model was trained on them, padded to its chunk.

features = log_mel(base.processor.feature_extractor, [audio])      # [1, mels, frames]
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adapter_hub.speech.audio import SAMPLE_RATE, Audio

LONGEST = 30  # seconds, where the encoder itself has no limit


def chunk_seconds(extractor: Any) -> float:
    """Return the longest audio in seconds that the base model is given at once.

    A Whisper encodes 30 s, shorter audio padded (arXiv:2212.04356). A Parakeet encodes any length, in memory
    that grows with its square, and was trained on at most about as much.

    Args:
        extractor: the base model's feature extractor.
    """
    return float(getattr(extractor, "n_samples", LONGEST * SAMPLE_RATE) / extractor.sampling_rate)


def log_mel(extractor: Any, clips: Sequence[Audio]) -> NDArray[np.float32]:
    """Return the features of clips, each padded with silence to the whole chunk.

    Args:
        extractor: a `WhisperFeatureExtractor`.
        clips: none longer than the chunk.

    Returns:
        `[clips, mels, frames]` float32, 10 ms per frame; a row does not depend on the others.
    """
    features: NDArray[np.float32] = extractor(
        [audio.samples for audio in clips], sampling_rate=SAMPLE_RATE, return_tensors="np"
    )["input_features"]
    return features
