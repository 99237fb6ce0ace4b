"""Word times: when each token was spoken, from the decoder's attention over the audio.

    times = align(session, encoder_output, rows, prompts, tokens, seconds)  # [(start, end), …] of every row
    word_spans(base, tokens, times[0], "da")           # [TextSpan(0.1, 0.6, "firetusind"), …]

The text is decoded once more with the adapters that found it. The cross-attention of some heads follows the
speech: those that the generation configuration names (`alignment_heads`), and where it names none, all heads
of the later half of the layers. The path through it is found by dynamic time warping, as in openai/whisper's
`timing.py`: weights are standardised over the tokens and smoothed by a median filter.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from adapter_hub.decoding.decode import TIMESTAMP_SECONDS, TextSpan
from adapter_hub.decoding.decoder import DecoderSteps
from adapter_hub.model.base_model import BaseModel
from adapter_hub.model.session import RowAdapters, Session
from adapter_hub.speech.languages import has_word_spaces

BEHIND = ("\u0e33", "\u0eb3", "\uff9e", "\uff9f", "\u200c", "\u200d")  # letters to Unicode, but no letters
Heads = Sequence[tuple[int, int]]


class AttentionReader(DecoderSteps):
    """A decoder that keeps the cross-attention weights of some heads while it reads a prompt."""

    def __init__(self, session: Session, encoder_output: Tensor, heads: Heads) -> None:
        """Compute the keys and values of the audio.

        Args:
            session: with the adapters of these rows set.
            encoder_output: `[rows, time, width]`.
            heads: layer and head of those to keep.
        """
        super().__init__(session, encoder_output, beams=1)
        self._wanted = heads
        self.attention: list[Tensor] = []  # of every head: `[rows, tokens, time]`

    def _attend_audio(self, number: int, attention: Any, x: Tensor) -> Tensor:
        heads = [head for layer, head in self._wanted if layer == number]
        if heads:
            q = self._split(attention.q_proj(x))[:, heads] * attention.scaling
            keys = self._audio[number][0][:, heads]
            scores = torch.matmul(q, keys if self._transposed else keys.transpose(2, 3))
            self.attention += scores.float().softmax(-1).unbind(1)
        return super()._attend_audio(number, attention, x)


@torch.inference_mode()
def align(
    session: Session,
    encoder_output: Tensor,
    rows: Sequence[RowAdapters],
    prompts: Sequence[Sequence[int]],
    tokens: Sequence[Sequence[int]],
    seconds: Sequence[float],
) -> list[list[tuple[float, float]]]:
    """Return start and end of every token, in seconds from the window's beginning.

    Args:
        session: this thread's; its adapters are set to `rows`.
        encoder_output: of the windows, `[rows, time, width]`.
        rows: the adapters of each row.
        prompts: the tokens before each text, without timestamps.
        tokens: the text of each row, without timestamps; it may be empty.
        seconds: of each window.

    Returns:
        For every row a pair for each token; NaN where the attention weights are not finite.
    """
    base = session.base
    end, room = int(base.model.config.eos_token_id), int(base.model.config.max_target_positions) - 2
    read = [[*prompt, *text[: room - len(prompt)], end] for prompt, text in zip(prompts, tokens, strict=True)]
    session.set_adapters(rows)
    reader = AttentionReader(session, encoder_output, alignment_heads(base)[0])
    longest = max(map(len, read))
    reader.prefill(read, longest + 1)
    attention = torch.stack(reader.attention, dim=1).cpu()  # [rows, heads, tokens, time]
    times = []
    for row, (prompt, text) in enumerate(zip(prompts, tokens, strict=True)):
        frames = min(attention.shape[-1], max(1, round(seconds[row] / TIMESTAMP_SECONDS)))
        weights = attention[row, :, longest - len(read[row]) :, :frames]
        times.append(_token_times(weights, len(prompt), len(text), base))
    return times


def alignment_heads(base: BaseModel) -> tuple[Heads, bool]:
    """Return the cross-attention heads that follow the speech, and whether the base model names them.

    Args:
        base: its generation configuration may have `alignment_heads`; otherwise all heads of the later half
            of the layers are returned.

    Returns:
        (layer, head) of each, and True if they are the base model's own choice.
    """
    named = getattr(base.model.generation_config, "alignment_heads", None)
    if named:
        return [(int(layer), int(head)) for layer, head in named], True
    config = base.model.config
    layers = range(config.decoder_layers // 2, config.decoder_layers)
    return [(layer, head) for layer in layers for head in range(config.decoder_attention_heads)], False


def _token_times(weights: Tensor, prompt: int, count: int, base: BaseModel) -> list[tuple[float, float]]:
    """Return the times of `count` tokens of `[heads, tokens, time]`, after the prompt."""
    if not count:
        return []
    weights = weights / weights.sum(-1, keepdim=True).clamp_min(1e-20)  # over the audio without its padding
    deviation, mean = torch.std_mean(weights, dim=-2, keepdim=True, correction=0)
    smooth = median_filter(
        (weights - mean) / deviation.clamp_min(1e-20), base.model.config.median_filter_width
    )
    # attention at a position is to the token that comes next
    matrix = smooth.mean(0)[prompt - 1 : -1]
    if not torch.isfinite(matrix).all():
        return [(math.nan, math.nan)] * count
    places, frames = dtw(-matrix.double().numpy())
    first = np.flatnonzero(np.diff(places, prepend=-1))
    starts = [*(frames[first] * TIMESTAMP_SECONDS).tolist(), matrix.shape[-1] * TIMESTAMP_SECONDS]
    starts += [starts[-1]] * (count + 1 - len(starts))  # for a text too long to be decoded again
    return list(zip(starts[:count], starts[1 : count + 1], strict=True))


def median_filter(values: Tensor, width: int) -> Tensor:
    """Return the running median along the last axis, as Whisper's `median_filter`.

    Args:
        values: `[..., time]`; edges are mirrored.
        width: of the window, odd.
    """
    half = width // 2
    if values.shape[-1] <= half:
        return values
    padded = F.pad(values, (half, half), mode="reflect")
    return padded.unfold(-1, width, 1).sort()[0][..., half]


def dtw(costs: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the cheapest path through a cost matrix by dynamic time warping, as Whisper's `dtw`.

    Each step goes to the next token, to the next frame, or both. Computed diagonal by diagonal, whose cells
    do not depend on one another.

    Args:
        costs: `[tokens, frames]`.

    Returns:
        The token and the frame of every step, `[steps]` each.
    """
    rows, columns = costs.shape
    total = np.full((rows + 1, columns + 1), np.inf)
    total[0, 0] = 0.0
    came = np.zeros((rows + 1, columns + 1), dtype=np.int8)
    for diagonal in range(2, rows + columns + 1):
        i = np.arange(max(1, diagonal - columns), min(rows, diagonal - 1) + 1)
        j = diagonal - i
        both, down, right = total[i - 1, j - 1], total[i - 1, j], total[i, j - 1]
        way = np.where(
            (both < down) & (both < right), 0, np.where((down < both) & (down < right), 1, 2)
        ).astype(np.int8)
        total[i, j] = costs[i - 1, j - 1] + np.choose(way, [both, down, right])
        came[i, j] = way
    return _backtrace(came)


def _backtrace(came: NDArray[np.int8]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    came[0, :], came[:, 0] = 2, 1
    i, j = came.shape[0] - 1, came.shape[1] - 1
    steps = []
    while i > 0 or j > 0:
        steps.append((i - 1, j - 1))
        way = came[i, j]
        i, j = i - (way != 2), j - (way != 1)
    path = np.array(steps[::-1], dtype=np.int64)
    return path[:, 0], path[:, 1]


def word_spans(
    base: BaseModel, tokens: Sequence[int], times: Sequence[tuple[float, float]], language: str
) -> list[TextSpan]:
    """Return the words of a text with their times.

    Args:
        base: whose tokens they are.
        tokens: of the text.
        times: start and end of each token.
        language: BCP 47 tag; where it has no spaces between words, each letter with its marks is one.
    """
    words: list[TextSpan] = []
    spaced = has_word_spaces(language)
    for text, first, last in _characters(base, tokens):
        start, end = times[first][0], times[last][1]
        mark = bool(text.strip()) and all(unicodedata.category(c).startswith("P") for c in text.strip())
        joined = mark or _belongs_to_the_letter_before(text)
        goes_on = words and (joined or (spaced and not text.startswith(" ")))
        if goes_on:
            before = words[-1]
            words[-1] = TextSpan(before.start, before.end if mark else end, before.text + text)
        else:
            words.append(TextSpan(start, end, text))
    stripped = [replace(word, text=word.text.strip()) for word in words]
    return [word for word in stripped if word.text]


def _belongs_to_the_letter_before(text: str) -> bool:
    """Tell whether a text starts with a sign above, below or behind a letter, like a Thai tone mark."""
    return text[:1] in BEHIND or unicodedata.category(text[:1] or " ")[0] == "M"


def _characters(base: BaseModel, tokens: Sequence[int]) -> Iterator[tuple[str, int, int]]:
    """Yield the shortest runs of tokens that are whole characters: text, first and last token."""
    tokenizer: Any = base.processor.tokenizer
    whole = str(tokenizer.decode(list(tokens)))
    first = length = 0
    for last in range(len(tokens)):
        text = str(tokenizer.decode(list(tokens[first : last + 1])))
        broken = text.find("\ufffd")
        # part of a character, unless the text itself has U+FFFD there
        if broken < 0 or whole[length + broken : length + broken + 1] == "\ufffd" or last + 1 == len(tokens):
            yield text, first, last
            first, length = last + 1, length + len(text)
