"""A base model built from what its digest covers, and from nothing else in its folder.

    model, processor = assemble(folder, torch.float32)

transformers reads more files than it needs, by rules that change: settings that another file contradicts,
adapters beside the weights, processors of other classes. So only the weights are left to its loading;
configuration, generation settings, features and tokenizer are made from `BaseModelSettings`.
"""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from tokenizers import AddedToken
from transformers import (
    GenerationConfig,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperForConditionalGeneration,
    WhisperProcessor,
    WhisperTokenizer,
)

from adapter_hub.base_model.filling import PREVIOUS
from adapter_hub.base_model.repairs import lacking_settings
from adapter_hub.base_model.settings import BaseModelSettings, read_settings
from adapter_hub.base_model.soundness import check_usable
from adapter_hub.base_model.tokenizer import TokenSettings
from adapter_hub.errors import InvalidInputError
from adapter_hub.escaping import shown

NEEDED = ("decoder_start_token_id", "eos_token_id", "no_timestamps_token_id")
NEEDED_OF_MANY = ("lang_to_id", "task_to_id")  # where there is more than English


def assemble(folder: Path, dtype: torch.dtype) -> tuple[Any, Any]:
    """Return a base model's `WhisperForConditionalGeneration` and `WhisperProcessor`, on the CPU.

    Args:
        folder: with the weights, configuration and tokenizer of a Whisper model.
        dtype: of the weights.

    Raises:
        NotFoundError: a file is missing.
        InvalidInputError: a value is impossible, or one that decoding needs is missing.
        ValueError, TypeError, KeyError, RuntimeError: transformers cannot build it.
    """
    empty, processor = describe(folder)
    generation = empty.generation_config
    model, loading = WhisperForConditionalGeneration.from_pretrained(
        str(folder),
        config=empty.config,
        generation_config=generation,
        dtype=dtype,
        local_files_only=True,
        use_safetensors=True,
        output_loading_info=True,
    )
    if missing := sorted(loading["missing_keys"]):  # transformers would initialise them at random
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise InvalidInputError(f"{folder}: no weights for {shown(missing[0])}{more}")
    model.generation_config = generation
    return model, processor


def describe(folder: Path) -> tuple[Any, Any]:
    """Return what stands for a base model's weights where nothing is computed, and its `WhisperProcessor`.

    The first has the settings of the model, `config` and `generation_config`, and nothing else; no weights
    are read.

    Args:
        folder: as of `assemble`.

    Raises:
        NotFoundError, InvalidInputError, ValueError, TypeError, KeyError, RuntimeError: as `assemble`.
    """
    settings = read_settings(folder)
    check_usable(settings, folder)
    config = WhisperConfig(
        architectures=["WhisperForConditionalGeneration"], **settings.training, **settings.config
    )
    empty = SimpleNamespace(config=config, generation_config=_generation(settings, folder))
    return empty, WhisperProcessor(WhisperFeatureExtractor(**settings.features), _tokenizer(settings, folder))


def _generation(settings: BaseModelSettings, folder: Path) -> Any:
    values = settings.generation
    needed = NEEDED + (NEEDED_OF_MANY if values.get("is_multilingual", True) else ())
    if missing := [name for name in needed if name not in values]:
        raise InvalidInputError(lacking_settings(folder, settings.config, ", ".join(missing)))
    if strange := [name for name in values if callable(getattr(GenerationConfig, name, None))]:
        raise InvalidInputError(f"{folder / 'generation_config.json'}: {shown(strange[0])} is not a setting")
    usual: dict[str, Any] = {"is_multilingual": True, "return_timestamps": False}
    if (previous := settings.tokens.id_of(PREVIOUS)) is not None:
        usual["prev_sot_token_id"] = previous  # older files lack it
    return GenerationConfig(**{**usual, **values})


def _tokenizer(settings: BaseModelSettings, folder: Path) -> Any:
    tokens = settings.tokens
    tokenizer = WhisperTokenizer(
        vocab=dict(tokens.vocabulary),
        merges=list(tokens.merges),
        added_tokens_decoder={
            token.id: AddedToken(
                token.content,
                single_word=token.single_word,
                lstrip=token.lstrip,
                rstrip=token.rstrip,
                normalized=False,
                special=token.special,
            )
            for token in tokens.added
        },
        extra_special_tokens=[
            token.content
            for token in tokens.added
            if token.special and token.content not in tokens.names.values()
        ],
        add_prefix_space=tokens.add_prefix_space,
        model_max_length=settings.config["max_target_positions"],
        **tokens.names,
    )
    _check_ids(tokenizer, tokens, folder)
    return tokenizer


def _check_ids(tokenizer: Any, tokens: TokenSettings, folder: Path) -> None:
    """Refuse files that give a token an id that it cannot have, which would go unnoticed."""
    found = {index: (token.content, token.special) for index, token in tokenizer.added_tokens_decoder.items()}
    wanted = {token.id: (token.content, token.special) for token in tokens.added}
    if found != wanted:
        differing = sorted(found.items() ^ wanted.items())[0]
        raise InvalidInputError(
            f"{folder}: token {shown(differing[1][0])} cannot have the id {differing[0]} that its "
            "tokenizer's files give it; expected ids without gaps, each once"
        )
