"""From features to text: the adapters and the language of each row, and how to search.

    decode(session, features, rows=[danish, None], languages=["da", "en"], options=DecodingOptions(beams=5))

The audio is encoded once, whatever the search. Where a text looks wrong (it repeats itself, or is improbable)
and there are more temperatures, its row alone is decoded again, as in openai/whisper. Where none of its texts
looks right, the most probable of them is taken, as in faster-whisper, and not the most random.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from adapter_hub.decoding.options import DecodingOptions
from adapter_hub.decoding.search import Hypothesis, SearchLimits, beam_search, token_by_token
from adapter_hub.decoding.static_steps import decoder_steps
from adapter_hub.decoding.token_rules import TokenRules, first_timestamp
from adapter_hub.errors import InvalidInputError
from adapter_hub.escaping import shown
from adapter_hub.model.base_model import BaseModel
from adapter_hub.model.session import RowAdapters, Session

TIMESTAMP_SECONDS = 0.02  # from one timestamp token to the next


@dataclass(frozen=True)
class TextSpan:
    """A segment or a word of a row's text.

    Attributes:
        start: seconds from the beginning of the row's features.
        end: seconds from the beginning of the row's features.
        text: its text.
        tokens: its ids, without timestamps.
    """

    start: float
    end: float
    text: str
    tokens: tuple[int, ...] = ()


@dataclass(frozen=True)
class DecodingResult:
    """The result of one row.

    Attributes:
        text: the transcript, or the translation.
        tokens: without prompt, end and padding.
        segments: where timestamps were asked for.
        score: by which the text was chosen: see `Hypothesis`.
        log_probability: average per token, the end included.
        no_speech: the probability of the base model's own token for no speech.
        temperature: at which the text was found.
        compression_ratio: bytes of the text by those of its zlib form.
        doubtful: whether it still looks wrong, after all temperatures.
    """

    text: str
    tokens: tuple[int, ...]
    segments: tuple[TextSpan, ...]
    score: float = 0.0
    log_probability: float = 0.0
    no_speech: float = 0.0
    temperature: float = 0.0
    compression_ratio: float = 0.0
    doubtful: bool = False

    @property
    def overflowed(self) -> bool:
        """Whether scores were not finite, so that there is no text; other rows are not affected."""
        return not math.isfinite(self.score)


@torch.inference_mode()
def decode(
    session: Session,
    features: Tensor,
    *,
    rows: Sequence[RowAdapters],
    languages: Sequence[str],
    options: DecodingOptions,
    previous: Sequence[Sequence[int]] | None = None,
    encoder_output: Tensor | None = None,
) -> list[DecodingResult]:
    """Transcribe a batch, each row with its own adapters and language.

    Args:
        session: this thread's.
        features: log-mel features `[len(rows), mels, frames]`, padded to the chunk.
        rows: the adapters of each row: None, an adapter, or several with weights.
        languages: the decode language of each row.
        options: how to search.
        previous: for each row the tokens of the text before it, as a condition; any number.
        encoder_output: `[len(rows), time, width]` for these features, where no row adapts the encoder.

    Returns:
        One result per row.

    Raises:
        InvalidInputError: a language without a token, options that cannot be, lengths that differ.
    """
    base = session.base
    if not len(rows) == len(languages) == features.shape[0]:
        raise InvalidInputError(
            f"{features.shape[0]} rows of features, {len(rows)} of adapters, {len(languages)} languages"
        )
    options.check()
    base.check_languages(languages)
    session.set_adapters(rows)
    if encoder_output is None:
        encoder_output = session.model.get_encoder()(features.to(base.device, base.dtype)).last_hidden_state
    prompts = [
        prompt_tokens(base, language, options, previous[row] if previous else ())
        for row, language in enumerate(languages)
    ]
    found: list[list[DecodingResult]] = [[] for _ in rows]
    left = list(range(len(rows)))
    for number, temperature in enumerate(options.temperatures):
        if number:
            session.set_adapters([rows[row] for row in left])
        some = encoder_output if len(left) == len(rows) else encoder_output[left]
        texts = search(session, some, [prompts[row] for row in left], options, temperature)
        for row, text in zip(left, texts, strict=True):
            found[row].append(_result_of(base, text, temperature, timestamps=options.timestamps))
        left = [row for row in left if _looks_wrong(found[row][-1], options)]
        if not left:
            break
    return [_chosen(results, options) for results in found]


def search(
    session: Session,
    encoder_output: Tensor,
    prompts: Sequence[Sequence[int]],
    options: DecodingOptions,
    temperature: float = 0.0,
) -> list[Hypothesis]:
    """Return the text of every row, as tokens.

    Args:
        session: with the adapters of these rows set.
        encoder_output: `[rows, time, width]`.
        prompts: the tokens before the text, one or more in each row.
        options: how to search.
        temperature: above 0 tokens are sampled, and there are no beams.
    """
    base, beams = session.base, 1 if temperature else options.beams
    rules = TokenRules.of(base, timestamps=options.timestamps)
    longest = max(map(len, prompts))
    limits = SearchLimits(
        length=text_limit(base, longest, options.most_tokens),
        length_penalty=options.length_penalty,
        early_stopping=options.early_stopping,
        shrink=options.shrink,
    )
    steps = decoder_steps(session, encoder_output, beams=beams)
    start = base.model.generation_config.decoder_start_token_id
    peek = [list(prompt).index(start) if start in prompt else 0 for prompt in prompts]
    logits = steps.prefill(prompts, limits.length, peek)
    silence = logits[:, 1].softmax(-1)[:, first_timestamp(base) - 2].tolist()
    if beams == 1:
        texts = token_by_token(
            steps,
            logits[:, :1],
            rules,
            limits,
            temperature=temperature,
            random_seed=options.random_seed,
        )
    else:
        texts = beam_search(steps, logits[:, :1], rules, limits)
    return [replace(text, no_speech=value) for text, value in zip(texts, silence, strict=True)]


def prompt_tokens(
    base: BaseModel, language: str, options: DecodingOptions, previous: Sequence[int] = ()
) -> list[int]:
    """Return the tokens before the text: previous text, start, language, task (Whisper, figure 1).

    Args:
        base: whose tokens they are.
        language: Whisper's code; ignored by English-only models.
        options: task, and whether there are timestamps.
        previous: tokens of the text before this window, as a condition; the last half context is used.
    """
    config, room = base.model.generation_config, base.model.config.max_target_positions // 2 - 1
    prompt = [config.prev_sot_token_id, *previous[-room + 1 :]] if previous else []
    prompt.append(config.decoder_start_token_id)
    if base.multilingual:
        prompt += [config.lang_to_id[f"<|{language}|>"], config.task_to_id[options.task]]
    return prompt if options.timestamps else [*prompt, config.no_timestamps_token_id]


def condition_tokens(base: BaseModel, text: str) -> list[int]:
    """Return the tokens of a text that is put before the first window, as Whisper's initial prompt.

    Args:
        base: whose tokens they are.
        text: as the caller wrote it; there are none for white space.

    Raises:
        InvalidInputError: it holds a special token.
    """
    if not text.strip():
        return []
    tokenizer: Any = base.processor.tokenizer
    tokens = [int(token) for token in tokenizer(f" {text.strip()}", add_special_tokens=False).input_ids]
    end = int(base.model.config.eos_token_id)
    if special := [token for token in tokens if token >= end]:
        named = shown(tokenizer.convert_ids_to_tokens(special[0]), 40)
        raise InvalidInputError(f"prompt: {named} is a special token; expected plain text")
    return tokens


def text_limit(base: BaseModel, prompt: int, most: int | None = None) -> int:
    """Return how many tokens prompt and text may have together, as transformers counts them.

    Args:
        base: with its positions and `max_length`.
        prompt: tokens of the longest prompt.
        most: tokens of the text, at most; None is the base model's `max_length`.
    """
    positions = int(base.model.config.max_target_positions)
    usual = base.model.generation_config.max_length
    text = most if most is not None else positions if usual is None else int(usual)
    return min(prompt + text, positions)


def without_padding(base: BaseModel, found: DecodingResult, seconds: float) -> DecodingResult:
    """Return a text without the segments that begin after the audio: what is said in the padding is invented.

    Args:
        base: whose tokens they are.
        found: with timestamps.
        seconds: of audio, before the padding.
    """
    kept = tuple(segment for segment in found.segments if segment.start < seconds - TIMESTAMP_SECONDS / 2)
    if len(kept) == len(found.segments):
        return found
    latest = first_timestamp(base) + (seconds / TIMESTAMP_SECONDS - 0.5)
    end = next(place for place, token in enumerate(found.tokens) if token >= latest)
    tokens = found.tokens[: end + 1]
    return replace(found, text=_text(base, tokens), tokens=tokens, segments=kept)


def _looks_wrong(found: DecodingResult, options: DecodingOptions) -> bool:
    if found.overflowed:
        return False  # at any temperature
    unlikely = options.log_probability is not None and found.log_probability < options.log_probability
    if unlikely and options.no_speech is not None and found.no_speech > options.no_speech:
        return False
    return unlikely or _repeats(found, options)


def _repeats(found: DecodingResult, options: DecodingOptions) -> bool:
    return options.compression_ratio is not None and found.compression_ratio > options.compression_ratio


def _chosen(results: Sequence[DecodingResult], options: DecodingOptions) -> DecodingResult:
    """Return the text that looks right, which is the last, or the most probable: one without loops first."""
    if not _looks_wrong(results[-1], options):
        return results[-1]
    single = [found for found in results if not _repeats(found, options)]
    best = max(single or results, key=lambda found: found.log_probability)
    return replace(best, doubtful=True)


def _result_of(base: BaseModel, found: Hypothesis, temperature: float, *, timestamps: bool) -> DecodingResult:
    text = _text(base, found.tokens)
    raw = text.encode()
    return DecodingResult(
        text=text,
        tokens=found.tokens,
        segments=_segments(base, found.tokens) if timestamps else (),
        score=found.score,
        log_probability=found.log_probability / max(1, len(found.tokens) + found.ended),
        no_speech=found.no_speech,
        temperature=temperature,
        compression_ratio=len(raw) / len(zlib.compress(raw)) if raw else 0.0,
    )


def _text(base: BaseModel, tokens: Sequence[int]) -> str:
    stamp = first_timestamp(base)
    tokenizer: Any = base.processor.tokenizer
    spoken = [token for token in tokens if token < stamp]
    return str(tokenizer.decode(spoken, skip_special_tokens=True)).strip()


def _segments(base: BaseModel, tokens: Sequence[int]) -> tuple[TextSpan, ...]:
    """Return the text cut at timestamp tokens: each ends the segment before it and starts the next."""
    stamp, segments = first_timestamp(base), []
    start, inside = 0.0, list[int]()
    for token in (*tokens, None):
        if token is not None and token < stamp:
            inside.append(token)
            continue
        time = base.chunk_seconds if token is None else round((token - stamp) * TIMESTAMP_SECONDS, 2)
        if text := _text(base, inside):
            segments.append(TextSpan(start, time, text, tuple(inside)))
        start, inside = time, []
    return tuple(segments)
