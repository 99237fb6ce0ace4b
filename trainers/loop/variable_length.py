"""Whisper's encoder on inputs shorter than its chunk, for training.

transformers requires features of the whole chunk. A base model that was trained on inputs that end where
their audio ends (as the embedded one was) can be adapted on such inputs too, at a fraction of the cost;
everywhere else inputs are padded to the chunk, as Whisper does.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from transformers.modeling_outputs import BaseModelOutput


def encode(encoder: Any, features: Tensor) -> BaseModelOutput:
    """Run a `WhisperEncoder` on log-mel features of any even length up to its chunk.

    Args:
        encoder: `model.get_encoder()`; LoRA layers in it apply as usual.
        features: `[batch, mels, frames]` float, 10 ms a frame.

    Returns:
        `last_hidden_state` of shape `[batch, frames // 2, d_model]`, equal to the encoder's own
        output where `frames` is the whole chunk.
    """
    hidden = functional.gelu(encoder.conv1(features))
    hidden = functional.gelu(encoder.conv2(hidden)).transpose(1, 2)
    positions = torch.arange(hidden.shape[1], device=hidden.device)
    hidden = hidden + encoder.embed_positions(positions)
    hidden = functional.dropout(hidden, p=encoder.dropout, training=encoder.training)
    for layer in encoder.layers:
        output = layer(hidden, None)
        hidden = output[0] if isinstance(output, tuple) else output
    return BaseModelOutput(last_hidden_state=encoder.layer_norm(hidden))
