"""What the training loop does differently for the families of base models: batches, loss, layers.

family = FAMILIES[whisper.config.model_type]
objective, collator = family.objective(trainable, 0.0), family.collator(end, masked=True)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from adapter_hub.base_model.families import PARAKEET, WHISPER
from adapter_hub.trainers.loop.batches import Collator
from adapter_hub.trainers.loop.ctc import CtcCollator, CtcObjective
from adapter_hub.trainers.loop.objective import Objective


@dataclass(frozen=True)
class LoopFamily:
    """How the models of one family are trained.

    Attributes:
        objective: makes the loss of a trainable model.
        collator: makes batches of examples.
        end: returns the id of the token that ends a text, or of the blank, of a tokenizer.
        chunk_frames: returns the frames of the model's chunk, by its configuration; None where inputs have
            no fixed length, and padding is masked.
        layers: returns the number of the encoder's layers, by the model's configuration.
    """

    objective: type[Objective] | type[CtcObjective]
    collator: type[Collator] | type[CtcCollator]
    end: Callable[[Any], int]
    chunk_frames: Callable[[Any], int | None]
    layers: Callable[[Any], int]


FAMILIES: Mapping[str, LoopFamily] = {
    WHISPER: LoopFamily(
        objective=Objective,
        collator=Collator,
        end=lambda tokenizer: int(tokenizer.convert_tokens_to_ids("<|endoftext|>")),
        chunk_frames=lambda config: int(config.max_source_positions) * 2,
        layers=lambda config: int(config.encoder_layers),
    ),
    PARAKEET: LoopFamily(
        objective=CtcObjective,
        collator=CtcCollator,
        end=lambda tokenizer: int(tokenizer.pad_token_id),
        chunk_frames=lambda config: None,
        layers=lambda config: int(config.encoder_config.num_hidden_layers),
    ),
}
