"""What training minimises: the summed cross-entropy of a batch's text, as a module.

    objective = Objective(trainable, label_smoothing=0.0)
    loss = objective(input_features, decoder_input_ids, labels)      # the sum over text tokens, in nats

It is a module because data-parallel training wraps modules: gradients are averaged over processes only for
what went through its `forward`. It is a sum because only the caller knows how many tokens a step has in all
its batches and processes; a mean of means would give the tokens of short texts more weight.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from adapter_hub.trainers.data.examples import IGNORED
from adapter_hub.trainers.loop.distillation import distillation_loss
from adapter_hub.trainers.loop.variable_length import encode
from adapter_hub.trainers.methods.trainable import TrainableModel


class Objective(nn.Module):
    """The loss of a model on a batch.

    Args:
        trainable: its model becomes a submodule, so that its weights are found.
        label_smoothing: share of the probability that is spread over the whole vocabulary, in training.
    """

    accepts_loss_kwargs = True  # tells transformers to count the text tokens of a step

    def __init__(self, trainable: TrainableModel, label_smoothing: float) -> None:
        super().__init__()
        self.model, self.label_smoothing = trainable.model, label_smoothing
        self.teacher = trainable.teacher
        self._whisper = (trainable.whisper,)  # in a tuple: the model above holds it as a submodule already

    def forward(self, input_features: Tensor, decoder_input_ids: Tensor, labels: Tensor) -> Tensor:
        """Return the summed cross-entropy over the labels that count, in nats, a float32 scalar.

        In training with a teacher, the weighted distance to its predictions is added.

        Args:
            input_features: `[batch, mels, frames]` float.
            decoder_input_ids: `[batch, tokens]` int64.
            labels: `[batch, tokens]` int64; `IGNORED` does not count.
        """
        (whisper,) = self._whisper
        counted = labels != IGNORED
        logits = _logits(whisper, input_features, decoder_input_ids, counted)
        loss = nn.functional.cross_entropy(
            logits,
            labels[counted],
            label_smoothing=self.label_smoothing if self.training else 0.0,
            reduction="sum",
        )
        if self.teacher is None or not self.training:
            return loss
        with torch.no_grad(), self.teacher.whisper() as base:
            wanted = _logits(base, input_features, decoder_input_ids, counted)
        return loss + self.teacher.weight * distillation_loss(logits, wanted, self.teacher.temperature)


def _logits(whisper: Any, input_features: Tensor, decoder_input_ids: Tensor, counted: Tensor) -> Tensor:
    """Return the logits `[counted tokens, vocabulary]` in float32.

    The vocabulary is Whisper's widest layer: it is computed only for positions whose label counts.
    """
    encoder_output = encode(whisper.get_encoder(), input_features.to(whisper.dtype)).last_hidden_state
    decoder_output = whisper.get_decoder()(
        input_ids=decoder_input_ids, encoder_hidden_states=encoder_output, use_cache=False
    ).last_hidden_state
    logits: Tensor = whisper.proj_out(decoder_output[counted]).float()
    return logits


def text_tokens(labels: Tensor) -> Tensor:
    """Return how many labels count, an int64 scalar.

    Args:
        labels: of any shape, int64.
    """
    return torch.count_nonzero(labels != IGNORED)
