"""Greedy CTC decoding (Graves et al., ICML 2006): the best symbol of every frame, repeats and blanks dropped.

    features, mask = parakeet_features(base, [audio, other])
    decode_ctc(session, features, mask, rows=[danish, None])

For base models of the family Parakeet CTC. There is no language token, prompt, task or beam: its adapters are
all that a row is told. Frames beyond a row's own audio are hidden by the mask, so that its answer does not
depend on the batch. Times come from the frames: 80 ms each in Parakeet, 10 ms of features eight times
subsampled; CTC models fire near a token's sound, not over all of it, so ends are early.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from adapter_hub.decoding.decode import DecodingResult, TextSpan
from adapter_hub.errors import InvalidInputError
from adapter_hub.model.base_model import BaseModel
from adapter_hub.model.session import RowAdapters, Session
from adapter_hub.speech.audio import Audio
from adapter_hub.speech.features import normalised_log_mel

WORD_START = "▁"  # SentencePiece's mark of a word's first piece

Run = tuple[int, int, int]  # a token, its first frame, and the frame after its last


def parakeet_features(base: BaseModel, clips: Sequence[Audio]) -> tuple[Tensor, Tensor]:
    """Return the log-mel features of clips, padded to the longest.

    Args:
        base: a Parakeet CTC.
        clips: one or more at 16 kHz; one of less than 100 ms is followed by silence.

    Returns:
        `[clips, frames, mels]` float32, 10 ms per frame, and `[clips, frames]`: true within a clip.
    """
    features, mask = normalised_log_mel(base.processor.feature_extractor, clips)
    return torch.from_numpy(features), torch.from_numpy(mask)


@torch.inference_mode()
def decode_ctc(
    session: Session, features: Tensor, mask: Tensor, *, rows: Sequence[RowAdapters]
) -> list[DecodingResult]:
    """Transcribe a batch, each row with its own adapters.

    Args:
        session: this thread's, over a Parakeet CTC.
        features: `[len(rows), frames, mels]`.
        mask: `[len(rows), frames]`, true within a row's own audio.
        rows: the adapters of each row: None, an adapter, or several with weights.

    Returns:
        One result per row. Its segments are its words; its score is the log probability of the path, its
        `log_probability` that of a frame, on average.

    Raises:
        InvalidInputError: lengths that differ.
    """
    if not len(rows) == features.shape[0] == mask.shape[0]:
        raise InvalidInputError(f"{features.shape[0]} rows of features, {len(rows)} of adapters")
    session.set_adapters(rows)
    results = []
    for logits, finite in frame_logits(session, features, mask):
        if not finite:
            results.append(DecodingResult(text="", tokens=(), segments=(), score=-math.inf))
            continue
        best, chosen = logits.log_softmax(-1).max(-1)
        results.append(_result_of(session.base, chosen.tolist(), float(best.sum())))
    return results


@torch.inference_mode()
def frame_logits(session: Session, features: Tensor, mask: Tensor) -> list[tuple[Tensor, bool]]:
    """Return the logits of every frame within each row's own audio, and whether they are finite.

    Args:
        session: over a Parakeet CTC, its adapters set.
        features: `[rows, frames, mels]`.
        mask: `[rows, frames]`, true within a row's own audio.

    Returns:
        Of each row `[its frames, vocabulary]` float32, 80 ms per frame.
    """
    base = session.base
    inputs = {"input_features": features.to(base.device, base.dtype), "attention_mask": mask.to(base.device)}
    encoded = session.model.encoder(**inputs)
    logits = session.model.ctc_head(encoded.last_hidden_state).float()
    frames = encoded.attention_mask.sum(-1).tolist()
    rows = [row[:count] for row, count in zip(logits, frames, strict=True)]
    finite = torch.stack([torch.isfinite(row).all() for row in rows]).tolist()
    return list(zip(rows, finite, strict=True))


def collapse(path: Sequence[int], blank: int) -> list[Run]:
    """Return the tokens of a path with the frames that each takes.

    Args:
        path: the symbol of every frame.
        blank: the symbol of no token, which also separates a token from the same one again.

    >>> collapse([0, 5, 5, 0, 5, 7], blank=0)
    [(5, 1, 3), (5, 4, 5), (7, 5, 6)]
    """
    runs, start = list[Run](), 0
    for token, same in itertools.groupby(path):
        stop = start + sum(1 for _ in same)
        if token != blank:
            runs.append((token, start, stop))
        start = stop
    return runs


def frame_seconds(base: BaseModel) -> float:
    """Return the time from one frame of the encoder's output to the next, in seconds.

    Args:
        base: a Parakeet CTC.
    """
    extractor: Any = base.processor.feature_extractor
    return float(
        extractor.hop_length * base.model.config.encoder_config.subsampling_factor / extractor.sampling_rate
    )


def _result_of(base: BaseModel, path: Sequence[int], score: float) -> DecodingResult:
    runs = collapse(path, base.model.config.pad_token_id)
    tokens = tuple(token for token, _, _ in runs)
    return DecodingResult(
        text=base.text_of(tokens).strip(),
        tokens=tokens,
        segments=_words(base, runs),
        score=score,
        log_probability=score / max(1, len(path)),
    )


def _words(base: BaseModel, runs: Sequence[Run]) -> tuple[TextSpan, ...]:
    groups: list[list[Run]] = []
    for run in runs:
        piece = str(base.processor.tokenizer.convert_ids_to_tokens(run[0]))
        if not groups or piece.startswith(WORD_START):
            groups.append([])
        groups[-1].append(run)
    shift, words = frame_seconds(base), []
    for group in groups:
        tokens = tuple(token for token, _, _ in group)
        if text := base.text_of(tokens).strip():
            start, stop = group[0][1] * shift, group[-1][2] * shift
            words.append(TextSpan(round(start, 3), round(stop, 3), text, tokens))
    return tuple(words)
