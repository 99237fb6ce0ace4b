"""Whether a base model's settings are such that it can be computed with, found out when it is loaded.

    check_sizes(config, folder)             # of config.json, before a model of that size is built
    check_settings(model, processor, folder)

The files of a base model are somebody else's, and transformers takes what they say: an id outside of the
vocabulary, features of another rate, or a million layers show as a wrong text, an error somewhere in the
middle of a transcription, or hours of nothing. What is checked are the values that transformers computes
with, whichever file they came from; all that is wrong is told at once.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from adapter_hub.errors import InvalidInputError
from adapter_hub.escaping import shown

# of config.json: whole numbers from 1 to several times those of the largest Whisper
MOST = {
    "d_model": 16_384,
    "encoder_layers": 256,
    "decoder_layers": 256,
    "encoder_attention_heads": 1_024,
    "decoder_attention_heads": 1_024,
    "encoder_ffn_dim": 131_072,
    "decoder_ffn_dim": 131_072,
    "vocab_size": 1_000_000,
    "num_mel_bins": 1_024,
    "max_source_positions": 100_000,
    "max_target_positions": 100_000,
}
# of the feature extractor: what Whisper hears; a frame is 10 ms, a position of the encoder 20 ms
HEARING = {"sampling_rate": 16_000, "hop_length": 160, "n_fft": 400}
IDS = ("decoder_start_token_id", "eos_token_id", "no_timestamps_token_id")  # of the generation settings
LISTS = ("suppress_tokens", "begin_suppress_tokens")
DROPOUTS = ("dropout", "attention_dropout", "activation_dropout", "encoder_layerdrop", "decoder_layerdrop")
SHOWN = 8  # problems in one error


def check_sizes(config: Mapping[str, Any], folder: Path) -> None:
    """Refuse a configuration whose model nobody could build.

    Raises:
        InvalidInputError: one line with every size that is no whole number within its limits.
    """
    found = {name: config[name] for name in MOST if config.get(name) is not None}
    _refuse(
        folder,
        (
            f"{name} {_brief(value)}, expected 1 to {MOST[name]}"
            for name, value in found.items()
            if not _is_whole(value, 1, MOST[name] + 1)
        ),
    )


def check_settings(model: Any, processor: Any, folder: Path) -> None:
    """Refuse a loaded base model that cannot be decoded with.

    Raises:
        InvalidInputError: one line with every setting that is wrong.
    """
    config, generation = model.config, model.generation_config
    problems = [
        *_hearing_problems(config, processor.feature_extractor),
        *_token_problems(generation, config.vocab_size),
        *_language_problems(generation, config.vocab_size),
        *_reading_problems(config, generation, processor.tokenizer),
    ]
    _refuse(folder, problems)


def _refuse(folder: Path, problems: Any) -> None:
    listed = list(problems)
    if listed:
        more = f"; and {len(listed) - SHOWN} more" if len(listed) > SHOWN else ""
        raise InvalidInputError(f"{folder}: no usable Whisper model: {'; '.join(listed[:SHOWN])}{more}")


def _hearing_problems(config: Any, extractor: Any) -> Iterator[str]:
    """Yield what of the features is not what the encoder takes."""
    for name, expected in HEARING.items():
        value = getattr(extractor, name, None)
        if value != expected or isinstance(value, bool):
            yield f"{name} {_brief(value)} of the feature extractor, expected {expected}"
    samples, bins = getattr(extractor, "n_samples", None), getattr(extractor, "feature_size", None)
    expected = 2 * config.max_source_positions * HEARING["hop_length"]
    if samples != expected:
        yield f"a chunk of {_brief(samples)} samples, but the encoder takes {expected}"
    if bins != config.num_mel_bins:
        yield f"feature_size {_brief(bins)}, but the encoder takes {config.num_mel_bins}"
    for name in DROPOUTS:
        value = getattr(config, name, 0.0)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
            yield f"{name} {_brief(value)}, expected 0 to 1"
    dither, padding = getattr(extractor, "dither", 0.0), getattr(extractor, "padding_value", 0.0)
    for name, value in (("dither", dither), ("padding_value", padding)):
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            yield f"{name} {_brief(value)}, expected a number"


def _token_problems(generation: Any, vocabulary: int) -> Iterator[str]:
    """Yield which token ids are none."""
    for name in IDS:
        value = getattr(generation, name, None)
        if not _is_whole(value, 0, vocabulary):
            yield f"{name} {_brief(value)}, expected an id below {vocabulary}"
    previous = getattr(generation, "prev_sot_token_id", None)
    if previous is not None and not _is_whole(previous, 0, vocabulary):
        yield f"prev_sot_token_id {_brief(previous)}, expected an id below {vocabulary}"
    for name in LISTS:
        value = getattr(generation, name, None)
        if value is not None and not _are_ids(value, vocabulary):
            yield f"{name} {_brief(value)}, expected a list of ids below {vocabulary}"
    for name in ("max_length", "max_initial_timestamp_index"):
        value = getattr(generation, name, None)
        if value is not None and not _is_whole(value, 1 if name == "max_length" else 0, 2**31):
            yield f"{name} {_brief(value)}, expected a whole number"


def _language_problems(generation: Any, vocabulary: int) -> Iterator[str]:
    """Yield what of the languages and tasks cannot be asked for."""
    multilingual = getattr(generation, "is_multilingual", True)
    if not isinstance(multilingual, bool):
        yield f"is_multilingual {_brief(multilingual)}, expected true or false"
    if multilingual is False:
        return
    if not getattr(generation, "lang_to_id", None):
        return  # no languages: said where one is asked for
    for name in ("lang_to_id", "task_to_id"):
        table = getattr(generation, name, None)
        if not isinstance(table, dict) or not table or not _are_ids(list(table.values()), vocabulary):
            yield f"{name} {_brief(table)}, expected ids below {vocabulary} by name"
        elif name == "lang_to_id" and not all(
            isinstance(key, str) and key[:2] == "<|" and key[-2:] == "|>" for key in table
        ):
            yield f"{name} {_brief(table)}, expected names like <|en|>"
        elif name == "task_to_id" and "transcribe" not in table:
            yield "task_to_id without transcribe"


def _reading_problems(config: Any, generation: Any, tokenizer: Any) -> Iterator[str]:
    """Yield what of heads, filters and the tokenizer does not fit the decoder."""
    heads = getattr(generation, "alignment_heads", None)
    limits = (config.decoder_layers, config.decoder_attention_heads)
    if heads is not None and not (isinstance(heads, list) and all(_is_head(head, limits) for head in heads)):
        yield f"alignment_heads {_brief(heads)}, expected pairs of layer and head"
    width = getattr(config, "median_filter_width", 7)
    if not _is_whole(width, 1, 1_000) or width % 2 == 0:
        yield f"median_filter_width {_brief(width)}, expected an odd number"
    if config.eos_token_id != generation.eos_token_id:
        # texts are read again up to the one, and found up to the other
        yield f"eos_token_id {_brief(config.eos_token_id)} in one place, {generation.eos_token_id} in another"
    if len(tokenizer) > config.vocab_size:
        yield f"a tokenizer of {len(tokenizer)} tokens for a vocabulary of {config.vocab_size}"


def _is_head(value: Any, limits: tuple[int, int]) -> bool:
    return (
        isinstance(value, list | tuple)
        and len(value) == 2
        and all(_is_whole(part, 0, limit) for part, limit in zip(value, limits, strict=True))
    )


def _are_ids(value: Any, vocabulary: int) -> bool:
    return isinstance(value, list | tuple) and all(_is_whole(item, 0, vocabulary) for item in value)


def _is_whole(value: Any, least: int, beyond: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value < beyond


def _brief(value: Any) -> str:
    return shown(repr(value), 40)
