"""A Parakeet CTC built from what its digest covers, and from nothing else in its folder.

    model, processor = assemble_parakeet(folder, torch.float32)

The counterpart of `adapter_hub.model.assembling` for the second family of base models.
"""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from tokenizers import Tokenizer
from transformers import (
    ParakeetCTCConfig,
    ParakeetFeatureExtractor,
    ParakeetForCTC,
    ParakeetProcessor,
    ParakeetTokenizer,
)

from adapter_hub.base_model.parakeet import SIZES, SWITCHES, ParakeetSettings, read_parakeet_settings
from adapter_hub.errors import InvalidInputError
from adapter_hub.escaping import shown

COUNTERS = ".num_batches_tracked"  # of batch norms: no say in an answer


def assemble_parakeet(folder: Path, dtype: torch.dtype) -> tuple[Any, Any]:
    """Return a base model's `ParakeetForCTC` and `ParakeetProcessor`, on the CPU.

    Args:
        folder: with the weights, configuration and tokenizer of a Parakeet CTC.
        dtype: of the weights.

    Raises:
        NotFoundError: a file is missing.
        InvalidInputError: a value is impossible, or weights are missing.
        ValueError, TypeError, KeyError, RuntimeError: transformers cannot build it.
    """
    empty, processor = describe_parakeet(folder)
    model, loading = ParakeetForCTC.from_pretrained(
        str(folder),
        config=empty.config,
        dtype=dtype,
        local_files_only=True,
        use_safetensors=True,
        output_loading_info=True,
    )
    missing = sorted(name for name in loading["missing_keys"] if not name.endswith(COUNTERS))
    if missing:  # transformers would initialise them at random
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise InvalidInputError(f"{folder}: no weights for {shown(missing[0])}{more}")
    return model, processor


def describe_parakeet(folder: Path) -> tuple[Any, Any]:
    """Return what stands for a base model's weights where nothing is computed, and its `ParakeetProcessor`.

    Args:
        folder: as of `assemble_parakeet`; no weights are read.

    Raises:
        NotFoundError, InvalidInputError, ValueError, TypeError, KeyError, RuntimeError: as
            `assemble_parakeet`.
    """
    settings = read_parakeet_settings(folder)
    empty = SimpleNamespace(config=_config(settings), generation_config=None)
    try:
        extractor = ParakeetFeatureExtractor(**settings.features)
    except ImportError:  # older versions of transformers compute the mel filters with it
        raise InvalidInputError(
            f"{folder}: a Parakeet, which this version of transformers reads with librosa only; "
            "`pip install --upgrade transformers`, or `pip install librosa`"
        ) from None
    return empty, ParakeetProcessor(extractor, _tokenizer(settings, folder))


def _config(settings: ParakeetSettings) -> Any:
    config, training = settings.config, settings.training
    encoder = {name: config[name] for name in (*SIZES, *SWITCHES, "hidden_act")}
    return ParakeetCTCConfig(
        architectures=["ParakeetForCTC"],
        vocab_size=config["vocab_size"],
        pad_token_id=config["blank_id"],
        **{**training, "encoder_config": {**training["encoder_config"], **encoder}},
    )


def _tokenizer(settings: ParakeetSettings, folder: Path) -> Any:
    """Return the tokenizer; the blank stands where transformers expects padding."""
    parts = {"version": "1.0", "added_tokens": [], **settings.tokenizer}
    whole = Tokenizer.from_str(json.dumps(parts))
    blank = settings.config["blank_id"]
    piece = whole.id_to_token(blank)
    if piece is None:
        raise InvalidInputError(
            f"{folder}: the tokenizer has no token of id {blank}, which config.json calls the blank "
            "(pad_token_id)"
        )
    return ParakeetTokenizer(tokenizer_object=whole, pad_token=piece)
