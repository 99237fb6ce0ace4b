"""Log-mel features as the base model was trained on them, padded to its chunk.

features = log_mel(base.processor.feature_extractor, [audio])      # [1, mels, frames]
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adapter_hub.speech.audio import SAMPLE_RATE, Audio


def chunk_seconds(extractor: Any) -> float:
    """Return the length in seconds of the window that the base model hears at once."""
    return float(extractor.n_samples / extractor.sampling_rate)


def log_mel(extractor: Any, audios: Sequence[Audio]) -> NDArray[np.float32]:
    """Return the features of some audio, each padded with silence to the whole chunk.

    Args:
        extractor: a `WhisperFeatureExtractor`.
        audios: none longer than the chunk.

    Returns:
        `[len(audios), mels, frames]` float32, 10 ms a frame; a row does not depend on the others.
    """
    features: NDArray[np.float32] = extractor(
        [audio.samples for audio in audios], sampling_rate=SAMPLE_RATE, return_tensors="np"
    )["input_features"]
    return features
