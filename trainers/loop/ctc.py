"""Batches and loss of a Parakeet CTC: the probability of a text summed over all its alignments to the frames.

    objective = CtcObjective(trainable)
    loss = objective(input_features, attention_mask, labels)     # the sum over a batch's texts, in nats

Graves et al., ICML 2006, equations 3 and 8. As with a Whisper the sum is divided by the text tokens of a
step, so that losses are in nats per token and accumulated batches weigh as one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from adapter_hub.errors import InvalidInputError
from adapter_hub.trainers.data.examples import IGNORED, Example, pad
from adapter_hub.trainers.data.spec_augment import mask
from adapter_hub.trainers.loop.batches import BatchRow
from adapter_hub.trainers.loop.distillation import distillation_loss
from adapter_hub.trainers.methods.trainable import TrainableModel


class CtcObjective(nn.Module):
    """The loss of a Parakeet CTC on a batch.

    Batch norms whose weights are not trained keep their running statistics and normalise with them in
    training, too: a LoRA is trained on the very base model that it is loaded on, and holds no statistics. In
    full fine-tuning they follow the data, and are part of the model. Whole layers are never dropped
    (LayerDrop): a step without any adapted layer would train nothing, and processes would wait for gradients.

    Args:
        trainable: its model becomes a submodule, so that its weights are found.
        label_smoothing: has no meaning for a sum over alignments; only 0 is accepted.

    Raises:
        InvalidInputError: another label smoothing.
    """

    accepts_loss_kwargs = True  # tells transformers to count the text tokens of a step

    def __init__(self, trainable: TrainableModel, label_smoothing: float = 0.0) -> None:
        super().__init__()
        if label_smoothing:
            raise InvalidInputError("training.label_smoothing: CTC has no labels of single frames to smooth")
        self.model, self.teacher = trainable.model, trainable.teacher
        trainable.whisper.encoder.layerdrop = 0.0
        self._parakeet = (trainable.whisper,)  # in a tuple: the model above holds it as a submodule already

    def train(self, mode: bool = True) -> CtcObjective:
        """Switch to training, but for batch norms that are not trained.

        Args:
            mode: whether to train, or to evaluate.
        """
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm1d) and not module.weight.requires_grad:
                module.eval()
        return self

    def forward(self, input_features: Tensor, attention_mask: Tensor, labels: Tensor) -> Tensor:
        """Return the summed negative log probability of the texts, in nats, a float32 scalar.

        In training with a teacher, the weighted distance to its frames' predictions is added.

        Args:
            input_features: `[batch, frames, mels]` float.
            attention_mask: `[batch, frames]` bool, true within a clip.
            labels: `[batch, tokens]` int64; `IGNORED` does not count, and a row without labels adds nothing.
        """
        (parakeet,) = self._parakeet
        logits, frames = _logits(parakeet, input_features, attention_mask)
        counted = labels != IGNORED
        losses = nn.functional.ctc_loss(
            logits.log_softmax(-1).transpose(0, 1),
            labels[counted],
            frames,
            counted.sum(-1),
            blank=parakeet.config.pad_token_id,
            reduction="none",
        )
        loss = losses[counted.any(-1)].sum() + 0.0 * logits.sum()  # of all weights, even if no row counts
        if self.teacher is None or not self.training:
            return loss
        self.eval()  # a LoRA's teacher is made of the same modules, and would drop other values
        with torch.no_grad(), self.teacher.whisper() as base:
            wanted, _ = _logits(base, input_features, attention_mask)
        self.train()
        within = torch.arange(logits.shape[1], device=frames.device) < frames[:, None]
        within &= counted.any(-1)[:, None]
        distance = distillation_loss(logits[within], wanted[within], self.teacher.temperature)
        return loss + self.teacher.weight * distance


def _logits(parakeet: Any, input_features: Tensor, attention_mask: Tensor) -> tuple[Tensor, Tensor]:
    """Return the logits `[batch, frames, vocabulary]` in float32, and each row's own number of frames."""
    encoded = parakeet.encoder(
        input_features=input_features.to(parakeet.dtype), attention_mask=attention_mask
    )
    return parakeet.ctc_head(encoded.last_hidden_state).float(), encoded.attention_mask.sum(-1)


class CtcCollator:
    """Stacks examples into a batch of a Parakeet CTC.

    Args:
        end: not used: a text has no end token.
        masked: mask features as SpecAugment does.
    """

    def __init__(self, end: int = 0, *, masked: bool) -> None:
        self.end, self.masked = end, masked

    def unmasked(self) -> CtcCollator:
        """Return the one for batches that are not trained on."""
        return CtcCollator(self.end, masked=False)

    def __call__(self, rows: Sequence[tuple[BatchRow, Example]]) -> dict[str, Tensor]:
        """Return what the objective takes.

        Args:
            rows: of one batch.

        Returns:
            `input_features` `[batch, frames, mels]` float32, `attention_mask` `[batch, frames]` bool and
            `labels` `[batch, tokens]` int64, where `IGNORED` does not count.
        """
        examples = [example for _, example in rows]
        frames = rows[0][0].frames
        features = pad(examples, frames)
        lengths = np.array([example.features.shape[1] for example in examples])
        labels = np.full((len(rows), max(len(example.tokens) for example in examples)), IGNORED, np.int64)
        for (row, example), values, label in zip(rows, features, labels, strict=True):
            if self.masked:
                mask(values[:, : example.features.shape[1]], np.random.default_rng(row.mask_seed))
            if row.counts:
                label[: len(example.tokens)] = example.tokens
        return {
            "input_features": torch.from_numpy(np.ascontiguousarray(features.transpose(0, 2, 1))),
            "attention_mask": torch.from_numpy(np.arange(frames) < lengths[:, None]),
            "labels": torch.from_numpy(labels),
        }
