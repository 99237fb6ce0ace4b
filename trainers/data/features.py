"""Log-mel features for training, by the content of the audio that they are of.

features = MemoryFeatures()
features[audio.sha256] = hear(extractor, audio)
features[audio.sha256].features       # [mels, frames] float16, up to where the audio ends

`adapter_hub.trainers.data.feature_packs` keeps them on disk in the same way.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from adapter_hub.speech.audio import SAMPLE_RATE, Audio
from adapter_hub.speech.features import log_mel

SAMPLES_A_FRAME = 160


@dataclass(frozen=True, eq=False)
class Heard:
    """What the base model hears of some audio.

    Attributes:
        features: `[mels, frames]` float16 log-mel, up to where the audio ends.
        silence: the value that the extractor gives to digital silence after it.
        samples: of audio, 16 000 a second.
    """

    features: NDArray[np.float16]
    silence: float
    samples: int

    @property
    def seconds(self) -> float:
        """The duration."""
        return self.samples / SAMPLE_RATE


def hear(extractor: Any, audio: Audio) -> Heard:
    """Return the features of some audio that fits the base model's chunk."""
    features = log_mel(extractor, [audio])[0]
    frames = min(features.shape[1], -(-len(audio.samples) // SAMPLES_A_FRAME) + 2)
    kept = np.ascontiguousarray(features[:, :frames], dtype=np.float16)
    return Heard(kept, float(features.min()), len(audio.samples))


class Features(Protocol):
    """Features by the sha256 of the audio's bytes; safe to ask from several threads."""

    def get(self, sha256: str) -> Heard | None:
        """Return them, or None if they have to be computed."""

    def __setitem__(self, sha256: str, heard: Heard) -> None:
        """Keep them."""

    def flush(self) -> None:
        """Put what was added where it stays."""


class MemoryFeatures(dict[str, Heard]):
    """Features in the memory of this process."""

    def flush(self) -> None:
        """Do nothing: memory is where they stay."""
