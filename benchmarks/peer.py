"""faster-whisper on a base model's folder, for pages that set this library beside it.

pip install faster-whisper
model = faster_whisper_model(Path("base"), Path("converted"))
heard(model, "clip.flac", "en")
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np

HERE = sys.path.pop(0)  # a script there has its name
from faster_whisper import WhisperModel  # noqa: E402

sys.path.insert(0, HERE)


def faster_whisper_model(folder: Path, converted: Path) -> Any:
    """Return faster-whisper's model of a folder of transformers, in float32 on one thread.

    Args:
        folder: of the base model, with `tokenizer.json`.
        converted: where CTranslate2's conversion is kept; one that is there is used again.
    """
    from ctranslate2.converters import TransformersConverter  # noqa: PLC0415 - not of this project

    if not (converted / "model.bin").is_file():
        TransformersConverter(str(folder)).convert(str(converted), force=True)
        shutil.copy(folder / "tokenizer.json", converted)
    return WhisperModel(str(converted), device="cpu", cpu_threads=1, compute_type="float32")


def heard(model: Any, audio: np.ndarray, language: str, **options: Any) -> list[tuple[float, float, str]]:
    """Return start, end and text of every segment, with faster-whisper's defaults.

    Args:
        model: faster-whisper's.
        audio: `[n]` float32 at 16 kHz.
        language: Whisper's code.
        options: of faster-whisper's `transcribe`.
    """
    segments, _ = model.transcribe(audio, language=language, **options)
    return [(segment.start, segment.end, segment.text.strip()) for segment in segments]
