"""From features to text: greedy and beam search over a session's rows.

    decode(session, features, rows=[danish, None], languages=["da", "en"], options=DecodingOptions(beams=5))

The search is transformers' `generate`, called once for the batch (`force_unique_generate_call`), since its
own seeking may shrink the batch under the rows. Timestamp tokens are suppressed when they are not wanted.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from adapter_hub.errors import InvalidInputError
from adapter_hub.runtime.base_model import BaseModel
from adapter_hub.runtime.composition import Experts, Session
from adapter_hub.runtime.quiet import quiet
from adapter_hub.runtime.transcript import Segment

TIMESTAMP_SECONDS = 0.02  # from one timestamp token to the next


@dataclass(frozen=True)
class DecodingOptions:
    """How to search.

    Attributes:
        beams: 1 is greedy; 5 is the papers' and the default.
        timestamps: find where segments start and end.
        task: transcribe, or translate into English (for base models trained to).
    """

    beams: int = 5
    timestamps: bool = False
    task: Literal["transcribe", "translate"] = "transcribe"


@dataclass(frozen=True)
class Decoded:
    """One row's result; `tokens` without prompt, end and padding."""

    text: str
    tokens: tuple[int, ...]
    segments: tuple[Segment, ...]


@torch.inference_mode()
def decode(
    session: Session,
    features: Tensor,
    *,
    rows: Sequence[Experts],
    languages: Sequence[str],
    options: DecodingOptions,
) -> list[Decoded]:
    """Transcribe a batch, each row with its own adapters and language.

    Args:
        session: this thread's.
        features: `[len(rows), mels, frames]`, padded to the chunk.
        rows: what each row carries.
        languages: the decode language of each row.
        options: how to search.

    Raises:
        InvalidInputError: a language without token, beams below 1, lengths that differ.
    """
    base = session.base
    if not len(rows) == len(languages) == features.shape[0]:
        raise InvalidInputError(
            f"{features.shape[0]} rows of features, {len(rows)} of adapters, {len(languages)} languages"
        )
    if options.beams < 1:
        raise InvalidInputError(f"beams {options.beams}: expected 1 (greedy) or more")
    base.check_languages(languages)
    session.seat(rows, beams=options.beams)
    multilingual = {"language": list(languages), "task": options.task} if base.multilingual else {}
    with quiet():
        sequences = session.model.generate(
            features.to(base.device, base.dtype),
            num_beams=options.beams,
            do_sample=False,
            return_timestamps=options.timestamps,
            force_unique_generate_call=True,
            suppress_tokens=_suppressed(base, timestamps=options.timestamps),
            **multilingual,
        )
    prompt = 1 + 2 * base.multilingual + (not options.timestamps)
    return [_decoded(base, row[prompt:], timestamps=options.timestamps) for row in sequences.tolist()]


def first_timestamp(base: BaseModel) -> int:
    """Return the id of `<|0.00|>`; every later id is a timestamp too."""
    return int(base.model.generation_config.no_timestamps_token_id) + 1


def _suppressed(base: BaseModel, *, timestamps: bool) -> list[int] | None:
    always = list(base.model.generation_config.suppress_tokens or [])
    never = [] if timestamps else range(first_timestamp(base), base.model.config.vocab_size)
    return [*always, *never] or None


def _decoded(base: BaseModel, ids: Sequence[int], *, timestamps: bool) -> Decoded:
    end = base.model.generation_config.eos_token_id
    tokens = tuple(itertools.takewhile(lambda token: token != end, ids))
    segments = _segments(base, tokens) if timestamps else ()
    return Decoded(_text(base, tokens), tokens, segments)


def _text(base: BaseModel, tokens: Sequence[int]) -> str:
    stamp = first_timestamp(base)
    tokenizer: Any = base.processor.tokenizer
    spoken = [token for token in tokens if token < stamp]
    return str(tokenizer.decode(spoken, skip_special_tokens=True)).strip()


def _segments(base: BaseModel, tokens: Sequence[int]) -> tuple[Segment, ...]:
    """Cut at timestamp tokens: each closes the text before it and opens what follows."""
    stamp, segments = first_timestamp(base), []
    start, inside = 0.0, list[int]()
    for token in (*tokens, None):
        if token is not None and token < stamp:
            inside.append(token)
            continue
        time = base.chunk_seconds if token is None else round((token - stamp) * TIMESTAMP_SECONDS, 2)
        if text := _text(base, inside):
            segments.append(Segment(start, time, text))
        start, inside = time, []
    return tuple(segments)
