"""Build a small Parakeet CTC with its own tokenizer and feature extractor, untrained.

Its tokens are letters, where a published one has pieces of words: an adapter can then write a language that
the base model never heard. Letters need frames, so it subsamples less than a published one.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    ParakeetCTCConfig,
    ParakeetFeatureExtractor,
    ParakeetForCTC,
    ParakeetProcessor,
    ParakeetTokenizer,
)

LETTERS = "▁abcdefghijklmnopqrstuvwxyz'"  # the first starts a word, as in SentencePiece


def build_processor(mels: int) -> ParakeetProcessor:
    """Return the processor: letters, and the blank as the last token.

    Args:
        mels: channels of the features.
    """
    vocabulary = {"<unk>": 0, **{letter: number for number, letter in enumerate(LETTERS, start=1)}}
    vocabulary["<pad>"] = len(vocabulary)
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[], unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    return ParakeetProcessor(
        ParakeetFeatureExtractor(feature_size=mels),
        ParakeetTokenizer(tokenizer_object=tokenizer, pad_token="<pad>", unk_token="<unk>"),
    )


def build_model(encoder: Mapping[str, Any]) -> ParakeetForCTC:
    """Return an untrained model for that processor; draw its weights from torch's global generator.

    Args:
        encoder: the encoder's settings, as `ParakeetEncoderConfig` takes them.
    """
    tokens = len(LETTERS) + 2
    return ParakeetForCTC(
        ParakeetCTCConfig(
            vocab_size=tokens,
            pad_token_id=tokens - 1,
            encoder_config=dict(encoder),
            architectures=["ParakeetForCTC"],
        )
    )


def save(model: ParakeetForCTC, folder: Path) -> Path:
    """Write a model and its processor as transformers does, and return the folder.

    Args:
        model: of `build_model`, trained or not.
        folder: to write to.
    """
    model.save_pretrained(folder)
    (folder / "model.safetensors").chmod(0o644)
    build_processor(model.config.encoder_config.num_mel_bins).save_pretrained(folder)
    return folder


def halve(source: Path, out: Path) -> Path:
    """Write a model in float16, and return its folder.

    Args:
        source: folder of the model.
        out: to write to.
    """
    model = ParakeetForCTC.from_pretrained(source, dtype=torch.float16)
    model.config.dtype = torch.float16
    return save(model, out)
