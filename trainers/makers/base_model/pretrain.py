"""Train the small Whisper: next-token prediction over language, task, text and timestamps."""

from __future__ import annotations

import json
import math
import random
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_model
from torch import Tensor
from torch.nn import functional
from transformers import WhisperForConditionalGeneration, WhisperTokenizer
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, sdpa_mask
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from adapter_hub.reporting import Tell
from adapter_hub.trainers.data.spec_augment import mask
from adapter_hub.trainers.loop.variable_length import encode
from adapter_hub.trainers.makers.base_model.architecture import TIMESTAMP_SECONDS
from adapter_hub.trainers.makers.base_model.examples import Example

IGNORED = -100
FLOAT32_ATTENTION = "sdpa-float32"
LOG_STEPS, CHECKPOINT_STEPS = 100, 500
# shapes that recur: oneDNN compiles a kernel for every new one
FRAMES_STEP, TOKENS_STEP = 40, 8


class Labeller:
    """Turns the segments of an example into token ids, as Whisper was trained on them."""

    def __init__(self, tokenizer: WhisperTokenizer) -> None:
        self.tokenizer = tokenizer
        self.id = tokenizer.convert_tokens_to_ids
        self.first_stamp = self.id("<|0.00|>")
        self.texts = self.id("<|endoftext|>")  # ids below it are text

    def stamp(self, seconds: float) -> int:
        """Return the id of the timestamp token nearest to `seconds`.

        Args:
            seconds: from the start of the window.
        """
        return self.first_stamp + round(seconds / TIMESTAMP_SECONDS)

    def __call__(self, example: Example, *, timestamps: bool) -> list[int]:
        """Return the whole sequence, from start-of-transcript to end-of-text."""
        ids = [self.id("<|startoftranscript|>")]
        if not example.segments:
            return [*ids, self.id("<|nospeech|>"), self.id("<|endoftext|>")]
        ids += [self.id(f"<|{example.language}|>"), self.id("<|transcribe|>")]
        if not timestamps:
            ids.append(self.id("<|notimestamps|>"))
        for segment in example.segments:
            text = self.tokenizer.encode(" " + segment.text, add_special_tokens=False)
            if not timestamps:
                ids += text
            elif segment.end is None:
                ids.append(self.stamp(segment.start))
            else:
                ids += [self.stamp(segment.start), *text, self.stamp(segment.end)]
        return [*ids, self.id("<|endoftext|>")]


def collate(
    examples: Sequence[Example],
    labels: Sequence[Sequence[int]],
    frames: int | None,
    masks: Mapping[str, int],
    rng: np.random.Generator,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return features `[batch, mels, frames]`, decoder inputs and targets `[batch, tokens]`."""
    longest = frames or max(e.features.shape[1] for e in examples)
    longest = -(-longest // FRAMES_STEP) * FRAMES_STEP
    features = np.empty((len(examples), examples[0].features.shape[0], longest), np.float32)
    for row, example in zip(features, examples, strict=True):
        length = min(example.features.shape[1], longest)
        row[:, length:] = example.floor
        row[:, :length] = example.features[:, :length]
        if masks:
            mask(row[:, :length], rng, masks)
    tokens = -(-(max(map(len, labels)) - 1) // TOKENS_STEP) * TOKENS_STEP
    inputs = np.zeros((len(labels), tokens), np.int64)
    targets = np.full((len(labels), tokens), IGNORED, np.int64)
    for i, ids in enumerate(labels):
        inputs[i, : len(ids) - 1] = ids[:-1]
        targets[i, : len(ids) - 1] = ids[1:]
    return torch.from_numpy(features), torch.from_numpy(inputs), torch.from_numpy(targets)


def batches(
    examples: Sequence[Example], size: int, rng: random.Random, *, ascending: bool
) -> list[list[int]]:
    """Return one epoch of index batches, each of examples of like length; the last is taken first.

    In random order, or `ascending` from the shortest to the longest: on a clip of one word there is
    little to align, so that is where listening is learned first (SortaGrad, arXiv 1512.02595).
    """
    order = sorted(
        range(len(examples)), key=lambda i: examples[i].features.shape[1] * rng.uniform(0.85, 1.15)
    )
    groups = [order[i : i + size] for i in range(0, len(order) - size + 1, size)]
    if ascending:
        groups.reverse()
    else:
        rng.shuffle(groups)
    return groups


def pretrain(
    model: WhisperForConditionalGeneration,
    tokenizer: WhisperTokenizer,
    examples: Sequence[Example],
    settings: Mapping[str, Any],
    timestamps_share: float,
    checkpoint: Path,
    tell: Tell,
) -> list[dict[str, float]]:
    """Train `model` in place; write `checkpoint` now and then; return the logged losses."""
    torch.manual_seed(settings["random_seed"])
    rng, numpy_rng = random.Random(settings["random_seed"]), np.random.default_rng(settings["random_seed"])
    label = Labeller(tokenizer)
    room = model.config.max_target_positions
    examples = [e for e in examples if len(label(e, timestamps=True)) <= room]
    # thrown away after training: it teaches the encoder letters while the decoder learns to look at it
    letters = torch.nn.Linear(model.config.d_model, label.texts + 1)
    parameters = [p for p in (*model.parameters(), *letters.parameters()) if p.requires_grad]
    optimizer = _optimizer(parameters, settings)
    model.set_attn_implementation(FLOAT32_ATTENTION)
    model.train()
    chunk, steps, began = model.config.max_source_positions * 2, settings["steps"], time.monotonic()
    epoch_steps = len(examples) // settings["batch_size"]
    queue: list[list[int]] = []
    log: list[dict[str, float]] = []
    losses: list[tuple[float, float]] = []
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = settings["peak_learning_rate"] * schedule(step, steps, settings["warmup_steps"])
        queue = queue or batches(examples, settings["batch_size"], rng, ascending=step == 0)
        chosen = [examples[i] for i in queue.pop()]
        labels = [label(e, timestamps=is_cut(e) or rng.random() < timestamps_share) for e in chosen]
        first = step < epoch_steps  # sorted and unmasked
        whole = not first and rng.random() < settings["full_chunk_share"]
        whole = whole or step >= steps * (1 - settings["full_chunk_last"])
        masks = {} if first else settings["mask"]
        batch = collate(chosen, labels, chunk if whole else None, masks, numpy_rng)
        loss, auxiliary = _losses(model, letters, batch, chosen, label, settings["label_smoothing"])
        optimizer.zero_grad(set_to_none=True)
        (loss + settings["ctc_weight"] * auxiliary).backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        losses.append((loss.item(), auxiliary.item()))
        if (step + 1) % LOG_STEPS == 0:
            means = np.mean(losses, axis=0).round(4).tolist()
            seconds = round(time.monotonic() - began, 1)
            log.append({"step": step + 1, "loss": means[0], "ctc_loss": means[1], "seconds": seconds})
            losses = []
            tell(json.dumps(log[-1]))
        if (step + 1) % CHECKPOINT_STEPS == 0:
            save_model(model, str(checkpoint))
    model.set_attn_implementation("sdpa")
    return log


def _optimizer(parameters: Sequence[torch.nn.Parameter], settings: Mapping[str, Any]) -> torch.optim.AdamW:
    """Return AdamW that decays matrices, not biases and norms."""
    decay = [p for p in parameters if p.ndim > 1]
    plain = [p for p in parameters if p.ndim == 1]
    return torch.optim.AdamW(
        [{"params": decay, "weight_decay": settings["weight_decay"]}, {"params": plain, "weight_decay": 0.0}],
        lr=settings["peak_learning_rate"],
        betas=(0.9, 0.98),
        fused=True,
    )


def _losses(
    model: WhisperForConditionalGeneration,
    letters: torch.nn.Linear,
    batch: tuple[Tensor, Tensor, Tensor],
    examples: Sequence[Example],
    label: Labeller,
    smoothing: float,
) -> tuple[Tensor, Tensor]:
    """Return the mean cross-entropy of the next token and the auxiliary CTC loss (nats)."""
    features, inputs, targets = batch
    with torch.autocast("cpu", torch.bfloat16):
        hidden = encode(model.model.encoder, features)
        logits = model(encoder_outputs=hidden, decoder_input_ids=inputs, use_cache=False).logits
    loss = functional.cross_entropy(
        logits.float().flatten(0, 1), targets.flatten(), ignore_index=IGNORED, label_smoothing=smoothing
    )
    return loss, ctc_loss(letters(hidden.last_hidden_state.float()), examples, label)


def _float32_attention(
    module: Any, query: Tensor, key: Tensor, value: Tensor, *rest: Any, **options: Any
) -> Any:
    """Attention outside of autocast: its bfloat16 backward is slower on a CPU than the float32 one."""
    with torch.autocast("cpu", enabled=False):
        return sdpa_attention_forward(module, query.float(), key.float(), value.float(), *rest, **options)


ALL_ATTENTION_FUNCTIONS.register(FLOAT32_ATTENTION, _float32_attention)
ALL_MASK_ATTENTION_FUNCTIONS.register(FLOAT32_ATTENTION, sdpa_mask)


def ctc_loss(logits: Tensor, examples: Sequence[Example], label: Labeller) -> Tensor:
    """Connectionist temporal classification of the text on encoder positions, mean over characters.

    Args:
        logits: `[batch, positions, texts + 1]` float32, the last class is the blank.
        examples: the batch; one that the window cuts has no whole text and does not count.
        label: gives the text's ids.
    """
    rows = [i for i, example in enumerate(examples) if example.segments and not is_cut(example)]
    texts = [
        label.tokenizer.encode(" ".join(s.text for s in examples[i].segments), add_special_tokens=False)
        for i in rows
    ]
    if not rows:
        return logits.sum() * 0.0
    positions = [min(logits.shape[1], examples[i].features.shape[1] // 2) for i in rows]
    return functional.ctc_loss(
        logits[rows].log_softmax(-1).transpose(0, 1),
        torch.tensor([token for text in texts for token in text]),
        torch.tensor(positions),
        torch.tensor([len(text) for text in texts]),
        blank=label.texts,
        zero_infinity=True,
    )


def is_cut(example: Example) -> bool:
    """A clip cut by the window has no whole transcript: only timestamps can say so."""
    return any(segment.end is None for segment in example.segments)


def schedule(step: int, steps: int, warmup: int) -> float:
    """Linear warm-up, then a cosine to 2 % of the peak.

    Args:
        step: counted from 0.
        steps: of the whole training.
        warmup: steps of the warm-up.
    """
    if step < warmup:
        return (step + 1) / warmup
    progress = (step - warmup) / max(1, steps - warmup)
    return 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * progress))
