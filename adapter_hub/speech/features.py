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
SHORTEST = SAMPLE_RATE // 10  # samples: features cannot be normalised over a single frame


def chunk_seconds(extractor: Any) -> float:
    """Return the longest audio in seconds that the base model is given at once.

    A Whisper encodes 30 s, shorter audio padded (arXiv:2212.04356). A Parakeet encodes any length, in memory
    that grows with its square, and was trained on at most about as much.

    Args:
        extractor: the base model's feature extractor.
    """
    return float(getattr(extractor, "n_samples", LONGEST * SAMPLE_RATE) / extractor.sampling_rate)


def normalised_log_mel(
    extractor: Any, clips: Sequence[Audio]
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Return a Parakeet's features of clips, each normalised over itself, padded to the longest.

    Args:
        extractor: a `ParakeetFeatureExtractor`.
        clips: one or more at 16 kHz; one of less than 100 ms is followed by silence.

    Returns:
        `[clips, frames, mels]` float32, 10 ms per frame, and `[clips, frames]`: true within a clip.
    """
    samples = [np.pad(clip.samples, (0, max(0, SHORTEST - len(clip.samples)))) for clip in clips]
    made = extractor(samples, sampling_rate=SAMPLE_RATE, return_tensors="pt")
    return made["input_features"].numpy(), made["attention_mask"].numpy()


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
