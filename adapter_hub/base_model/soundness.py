"""Whether a base model can be computed with, found out before it is built.

    check_usable(read_settings(folder), folder)

The files of a base model come from others, and transformers takes what they say: a million layers, features
of another rate or a median filter of even width show as hours of nothing, an error in the middle of a
transcription, or a wrong text. `settings` refuses values that no file may have; here they are compared with
each other and with what Whisper is made of, and everything that is wrong is reported at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from adapter_hub.base_model.settings import CONFIG_IDS, BaseModelSettings
from adapter_hub.base_model.tensors import MOST_LAYERS
from adapter_hub.errors import InvalidInputError, few
from adapter_hub.escaping import shown

# of config.json: several times those of the largest Whisper
MOST = {
    "d_model": 16_384,
    "encoder_layers": MOST_LAYERS,
    "decoder_layers": MOST_LAYERS,
    "encoder_attention_heads": 1_024,
    "decoder_attention_heads": 1_024,
    "encoder_ffn_dim": 131_072,
    "decoder_ffn_dim": 131_072,
    "vocab_size": 1_000_000,
    "num_mel_bins": 1_024,
    "max_source_positions": 100_000,
    "max_target_positions": 100_000,
}
FRAMES = {"hop_length": 160, "n_fft": 400}  # samples; a frame is 10 ms, a position of the encoder 20 ms
DROPOUTS = ("dropout", "attention_dropout", "activation_dropout", "encoder_layerdrop", "decoder_layerdrop")
WIDEST_FILTER = 1_000


def check_usable(settings: BaseModelSettings, folder: Path) -> None:
    """Refuse a base model that could not be built or decoded with.

    Args:
        settings: what its files say.
        folder: what messages call it.

    Raises:
        InvalidInputError: one line with every setting that is wrong.
    """
    problems = [*_size_problems(settings), *_token_problems(settings), *_language_problems(settings)]
    if problems:
        raise InvalidInputError(f"{folder}: not a usable Whisper model: {few(problems)}")


def _size_problems(settings: BaseModelSettings) -> Iterator[str]:
    """Yield which sizes and rates are none that a Whisper can have."""
    for name, most in MOST.items():
        if settings.config[name] > most:
            yield f"{name} {settings.config[name]}, expected 1 to {most}"
    for name, expected in FRAMES.items():
        if settings.features[name] != expected:
            yield f"{name} {settings.features[name]} of the feature extractor, expected {expected}"
    width = settings.config["median_filter_width"]
    if width % 2 == 0 or width >= WIDEST_FILTER:
        yield f"median_filter_width {width}, expected an odd number below {WIDEST_FILTER}"
    for name in DROPOUTS:
        value = settings.training.get(name, 0.0)
        if type(value) not in (int, float) or not 0 <= value <= 1:
            yield f"{name} {_brief(value)}, expected 0 to 1"


def _token_problems(settings: BaseModelSettings) -> Iterator[str]:
    """Yield how the tokens do not fit the decoder."""
    ending = settings.config.get("eos_token_id", CONFIG_IDS["eos_token_id"])
    if ending != (other := settings.generation.get("eos_token_id")):
        # texts are read again up to the one, and found up to the other
        yield f"eos_token_id {ending} in config.json, {other} in generation_config.json"
    tokens, room = settings.tokens, settings.config["vocab_size"]
    count = len({*tokens.vocabulary.values(), *(token.id for token in tokens.added)})
    if count > room:
        yield f"a tokenizer of {count} tokens for a vocabulary of {room}"
    if settings.generation.get("max_length", 1) < 1:
        yield "max_length 0, expected at least 1"


def _language_problems(settings: BaseModelSettings) -> Iterator[str]:
    """Yield which languages and tasks cannot be asked for."""
    multilingual = settings.generation.get("is_multilingual", True)
    if not isinstance(multilingual, bool):
        yield f"is_multilingual {_brief(multilingual)}, expected true or false"
    languages, tasks = settings.generation.get("lang_to_id"), settings.generation.get("task_to_id")
    if multilingual is False or not languages:
        return  # no languages: said where one is asked for
    if not all(name[:2] == "<|" and name[-2:] == "|>" for name in languages):
        yield f"lang_to_id {_brief(languages)}, expected names like <|en|>"
    if not tasks or "transcribe" not in tasks:
        yield f"task_to_id {_brief(tasks)}, expected an id of transcribe"


def _brief(value: Any) -> str:
    return shown(repr(value), 40)
