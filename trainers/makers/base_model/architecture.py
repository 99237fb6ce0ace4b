"""Build a small Whisper with its own tokenizer and feature extractor, untrained.

Everything that works on `openai/whisper-*` works on it through the same code: all of Whisper's
language tokens in Whisper's order, timestamp tokens every 20 ms, `generation_config` with
`lang_to_id`, `task_to_id` and alignment heads.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from tokenizers import AddedToken, pre_tokenizers
from transformers import (
    GenerationConfig,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperForConditionalGeneration,
    WhisperProcessor,
    WhisperTokenizer,
)
from transformers.models.whisper.tokenization_whisper import LANGUAGES

TIMESTAMP_SECONDS = 0.02  # one encoder position


def character_merges(sentences: Iterable[str]) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Return the vocabulary and merges of a byte-level BPE whose tokens are characters.

    Characters, not sub-words: a LoRA cannot move the output embeddings, so a token that the base
    model hardly ever saw could not be learned by an adapter; letters are shared by languages.
    Bytes remain as the fallback for every other character.

    Args:
        sentences: that hold every character.
    """
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    vocabulary = {token: i for i, token in enumerate(sorted(alphabet))}
    splitter = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    merges: list[tuple[str, str]] = []
    for character in sorted({c for sentence in sentences for c in sentence}):
        units = splitter.pre_tokenize_str(character)[0][0]
        for end in range(2, len(units) + 1):
            if units[:end] not in vocabulary:
                vocabulary[units[:end]] = len(vocabulary)
                merges.append((units[: end - 1], units[end - 1]))
    return vocabulary, merges


def build_tokenizer(sentences: Iterable[str], chunk_seconds: int, max_length: int) -> WhisperTokenizer:
    """Return a Whisper tokenizer of characters: text, then specials, then timestamps (in this order).

    Args:
        sentences: that hold every character.
        chunk_seconds: of the encoder's window, which decides the timestamp tokens.
        max_length: tokens of the decoder's window.
    """
    vocabulary, merges = character_merges(sentences)
    special = [
        "<|endoftext|>",
        "<|startoftranscript|>",
        *(f"<|{language}|>" for language in LANGUAGES),
        "<|translate|>",
        "<|transcribe|>",
        "<|startoflm|>",
        "<|startofprev|>",
        "<|nospeech|>",
        "<|notimestamps|>",
    ]
    for token in special:
        vocabulary[token] = len(vocabulary)
    tokenizer = WhisperTokenizer(
        vocab=vocabulary,
        merges=merges,
        pad_token=special[0],
        extra_special_tokens=special[1:],
        model_max_length=max_length,
    )
    stamps = round(chunk_seconds / TIMESTAMP_SECONDS) + 1
    tokenizer.add_tokens(
        [
            AddedToken(f"<|{i * TIMESTAMP_SECONDS:.2f}|>", normalized=False, special=False)
            for i in range(stamps)
        ]
    )
    return tokenizer


def build_processor(sentences: Iterable[str], settings: Mapping[str, Any]) -> WhisperProcessor:
    """Return the processor for `settings` (the table `architecture` of settings.toml).

    Args:
        sentences: that hold every character.
        settings: the table `architecture` of settings.toml.
    """
    extractor = WhisperFeatureExtractor(chunk_length=settings["chunk_seconds"])
    tokenizer = build_tokenizer(sentences, settings["chunk_seconds"], settings["max_target_positions"])
    return WhisperProcessor(extractor, tokenizer)


def build_model(
    processor: WhisperProcessor, settings: Mapping[str, Any], languages: Iterable[str]
) -> WhisperForConditionalGeneration:
    """Return an untrained model; draw its weights from torch's global generator.

    Args:
        processor: its tokenizer and feature extractor.
        settings: the table `architecture` of settings.toml.
        languages: that it is to be trained on.
    """
    tokenizer = processor.tokenizer
    ids = {token: tokenizer.convert_tokens_to_ids(token) for token in tokenizer.get_vocab()}
    end, start = ids["<|endoftext|>"], ids["<|startoftranscript|>"]
    config = WhisperConfig(
        vocab_size=len(tokenizer),
        num_mel_bins=processor.feature_extractor.feature_size,
        max_source_positions=processor.feature_extractor.nb_max_frames // 2,
        max_target_positions=settings["max_target_positions"],
        d_model=settings["d_model"],
        encoder_layers=settings["encoder_layers"],
        decoder_layers=settings["decoder_layers"],
        encoder_attention_heads=settings["attention_heads"],
        decoder_attention_heads=settings["attention_heads"],
        encoder_ffn_dim=settings["ffn_dim"],
        decoder_ffn_dim=settings["ffn_dim"],
        decoder_start_token_id=start,
        pad_token_id=end,
        bos_token_id=end,
        eos_token_id=end,
        suppress_tokens=None,
        begin_suppress_tokens=None,
    )
    model = WhisperForConditionalGeneration(config)
    languages = sorted(languages)
    never = ["startoftranscript", "translate", "transcribe", "startoflm", "startofprev", "nospeech"]
    model.generation_config = GenerationConfig(
        decoder_start_token_id=start,
        bos_token_id=end,
        eos_token_id=end,
        pad_token_id=end,
        max_length=settings["max_target_positions"],
        is_multilingual=True,
        lang_to_id={f"<|{language}|>": ids[f"<|{language}|>"] for language in languages},
        task_to_id={task: ids[f"<|{task}|>"] for task in ("transcribe", "translate")},
        task="transcribe",
        no_timestamps_token_id=ids["<|notimestamps|>"],
        prev_sot_token_id=ids["<|startofprev|>"],
        max_initial_timestamp_index=50,
        alignment_heads=[
            [settings["decoder_layers"] - 1, head] for head in range(settings["attention_heads"])
        ],
        suppress_tokens=sorted(
            [ids[f"<|{name}|>"] for name in never] + [ids[f"<|{name}|>"] for name in LANGUAGES]
        ),
        begin_suppress_tokens=[end],
        return_timestamps=False,
    )
    return model


def save(model: WhisperForConditionalGeneration, processor: WhisperProcessor, folder: str) -> None:
    """Write both to `folder` in float16, as `from_pretrained` reads them.

    Args:
        model: trained or not.
        processor: its tokenizer and feature extractor.
        folder: to write to.
    """
    half = model.to(torch.float16)
    half.config.dtype = torch.float16
    half.save_pretrained(folder)
    processor.save_pretrained(folder)
