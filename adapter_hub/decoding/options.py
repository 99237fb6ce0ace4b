"""How to decode: what a search may be told, with its defaults. Light, so that a command's help can show them.

DecodingOptions(beams=1, most_tokens=20)
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from adapter_hub.errors import InvalidInputError

Task = Literal["transcribe", "translate"]


@dataclass(frozen=True)
class DecodingOptions:
    """How to search.

    Attributes:
        beams: 1 is greedy search; 5 is the default, as in the papers.
        timestamps: decode timestamp tokens, which cut the text into segments.
        task: transcribe, or translate into English (for base models trained to).
        length_penalty: exponent of the length by which a log probability is divided: above 0 favours longer
            texts, below 0 shorter ones.
        early_stopping: see `SearchLimits`.
        most_tokens: tokens of a text, at most; None is what the base model has room for.
        temperatures: tried one after another until the text looks right; above 0 tokens are sampled.
        compression_ratio: a text whose ratio is above this repeats itself; None is no limit.
        log_probability: an average per token below this is improbable; None is no limit.
        no_speech: an improbable text is silence, and not tried again, if the probability of no speech is
            above this; None always tries again.
        random_seed: of the sampling.
        shrink: see `SearchLimits`.
    """

    beams: int = 5
    timestamps: bool = False
    task: Task = "transcribe"
    length_penalty: float = 1.0
    early_stopping: bool | Literal["never"] = False
    most_tokens: int | None = None
    temperatures: tuple[float, ...] = (0.0,)
    compression_ratio: float | None = None
    log_probability: float | None = None
    no_speech: float | None = None
    random_seed: int = 0
    shrink: bool = True

    def check(self) -> None:
        """Refuse options that no text can be searched with.

        Raises:
            InvalidInputError: one line.
        """
        if self.beams < 1:
            raise InvalidInputError(f"beams {self.beams}: expected 1 (greedy) or more")
        if self.most_tokens is not None and self.most_tokens < 1:
            raise InvalidInputError(f"most tokens {self.most_tokens}: expected 1 or more")
        if not self.temperatures or not all(0 <= value < math.inf for value in self.temperatures):
            raise InvalidInputError(f"temperatures {self.temperatures}: expected one or more, 0 or above")
