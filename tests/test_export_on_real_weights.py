"""On a real Whisper and human speech, plain pipelines and faster-whisper hear in an export what we hear."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from faster_whisper import WhisperModel
from test_export import heard
from test_on_real_weights import base, lora, real
from transformers import pipeline

import adapter_hub
from adapter_hub.artifact.folder import Artifact
from adapter_hub.model.base_model import BaseModel
from adapter_hub.speech.audio import read_audio

__all__ = ["base", "real"]  # fixtures

pytestmark = pytest.mark.real
CLIPS = 3


@pytest.fixture(scope="module")
def speech() -> list[np.ndarray]:
    folder = os.environ.get("ADAPTER_HUB_REAL_SPEECH")
    if not folder:
        pytest.skip("needs English recordings in ADAPTER_HUB_REAL_SPEECH")
    found = sorted(path for path in Path(folder, "test").iterdir() if path.suffix in (".flac", ".wav"))
    return [read_audio(path).samples for path in found[:CLIPS]]


@pytest.fixture
def adapter(base: BaseModel, tmp_path: Path) -> Artifact:
    return lora(tmp_path / "lora", base, "1.0.0", 2)


@pytest.mark.parametrize("form", ["transformers", "ctranslate2"])
def test_other_tools_hear_what_we_hear(
    form: str, real: Path, adapter: Artifact, speech: list[np.ndarray], tmp_path: Path
) -> None:
    out, where = tmp_path / "out", {"base_model": str(real)}
    adapter_hub.export_model(adapter.path, out, format=form, **where)
    transcriber = adapter_hub.load(adapter.path, device="cpu", **where)
    ours = [transcriber.transcribe(samples, beams=1)[0].text for samples in speech]
    if form == "transformers":
        hear = pipeline("automatic-speech-recognition", model=str(out))
        theirs = [hear({"raw": s, "sampling_rate": 16_000})["text"].strip() for s in speech]
    else:
        (language,) = (item.decode_language for item in adapter.manifest.languages)
        model = WhisperModel(str(out), device="cpu", compute_type="float32", cpu_threads=1)
        theirs = [heard(model, out, samples, language, 1) for samples in speech]
    assert theirs == ours
