"""A merged Whisper as CTranslate2 reads it, by its own converter, with what faster-whisper wants beside it.

write_ctranslate2(base, folder, "int8_float16")
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from adapter_hub.errors import MissingExtraError
from adapter_hub.model.base_model import BaseModel
from adapter_hub.model.quiet import quiet

LISTS = ("suppress_tokens", "begin_suppress_tokens")  # the converter asks for both, empty or not
# what faster-whisper and CTranslate2 take for granted
MULTILINGUAL, EMPTY = 51_865, ""  # tokens at least, and one of them: what multilingual models of OpenAI have
WINDOW = 30.0  # seconds


def check_converter() -> None:
    """Say how to install CTranslate2 where it is missing.

    Raises:
        MissingExtraError: it is.
    """
    _loader()


def write_ctranslate2(base: BaseModel, folder: Path, quantization: str) -> None:
    """Convert a model and write it.

    Args:
        base: a Whisper with an adapter merged into it, in float32.
        folder: an empty one.
        quantization: one of CTranslate2's names.
    """
    loader = _loader()
    model, processor = base.model, base.processor
    for name in LISTS:
        if getattr(model.generation_config, name, None) is None:
            setattr(model.generation_config, name, [])
    with quiet():
        # as its `Converter.convert` does, which would read the model from files
        spec = loader(model, processor.tokenizer)
        spec.validate()
        spec.optimize(quantization=quantization)
        spec.save(str(folder))
        processor.tokenizer.save_pretrained(str(folder))
        processor.feature_extractor.save_pretrained(str(folder))


def unsuited(base: BaseModel) -> list[str]:
    """Return why faster-whisper cannot run a model, though CTranslate2 can; nothing of OpenAI's models.

    Args:
        base: a Whisper.
    """
    reasons: list[str] = []
    usual = base.model.config.vocab_size >= MULTILINGUAL and EMPTY in base.processor.tokenizer.get_vocab()
    if base.multilingual and not usual:
        reasons.append("takes a vocabulary unlike OpenAI's for English-only")
    if base.chunk_seconds != WINDOW:
        reasons.append(f"gives every model {WINDOW:g} s of audio at once, not {base.chunk_seconds:g}")
    return reasons


def _loader() -> Any:
    """Return what reads a Whisper in memory into CTranslate2's specification of one."""
    try:
        from ctranslate2.converters.transformers import WhisperLoader  # noqa: PLC0415 - an extra
    except ImportError:
        raise MissingExtraError(
            "exporting for CTranslate2 needs ctranslate2",
            "ctranslate2",
            "or export with --format transformers",
        ) from None
    return WhisperLoader()
