"""Parameter counts of LoRA on Whisper's shapes, without building a model.

A LoRA of rank r on a linear of n inputs and m outputs has r (n + m) parameters. On q, k, v, out, fc1 and fc2
of every layer, cross-attention included, this gives the counts of the paper's table 2 (its text names k, q, v
and "fully connected": they agree if the attention's output counts as one).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Shape:
    """What of a Whisper decides the size of its LoRA."""

    width: int
    feed_forward: int
    encoder_layers: int
    decoder_layers: int


SHAPES = {
    "whisper-small": Shape(768, 3072, 12, 12),
    "whisper-mini": Shape(128, 512, 4, 2),
}


def lora_parameters(model: str, rank: int) -> int:
    """Return the parameters of a LoRA on every linear of a model's layers.

    Args:
        model: one of `SHAPES`.
        rank: of every module.

    >>> lora_parameters("whisper-small", 32)
    12976128
    """
    shape = SHAPES[model]
    attentions = shape.encoder_layers + 2 * shape.decoder_layers
    layers = shape.encoder_layers + shape.decoder_layers
    return rank * (attentions * 4 * 2 * shape.width + layers * 2 * (shape.width + shape.feed_forward))
