"""What `transcribe` says of a short file is what `evaluate` scores, and no speech behind a pause is lost."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
from small_whisper import speech

import adapter_hub
from adapter_hub.data.dataset import read_dataset
from adapter_hub.evaluation.evaluating import EvaluationOptions, evaluate
from adapter_hub.speech.audio import audio_from_samples, read_audio
from adapter_hub.speech.phrases import phrases
from adapter_hub.transcription.transcriber import Transcriber

CLIPS = Path(__file__).parent / "clips"
RATE = 16_000


def pause(seconds: float) -> np.ndarray:
    random = np.random.default_rng(1)
    return (1e-4 * random.standard_normal(round(seconds * RATE))).astype(np.float32)


def scored(transcriber: Transcriber, folder: Path, language: str) -> list[str]:
    """Return what `evaluate` transcribed from the folder's audio files."""
    rows = [{"file_name": path.name, "text": "tekst"} for path in sorted(folder.glob("*.flac"))]
    (folder / "metadata.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    report = evaluate(transcriber, read_dataset(folder), EvaluationOptions(beams=1, language=language))
    return [row.hypothesis for row in report.rows]


@pytest.mark.parametrize(("ref", "language"), [("mini/da", "da"), ("mini/pl", "pl"), ("base-model", "pl")])
def test_transcribe_and_evaluate_hear_the_same_in_short_files(
    ref: str, language: str, tmp_path: Path
) -> None:
    transcriber = adapter_hub.load(ref, device="cpu", language=language)
    for name in ("da", "pl"):
        shutil.copy(CLIPS / f"{name}.flac", tmp_path)
    files = sorted(tmp_path.glob("*.flac"))
    said = [transcriber.transcribe(file, beams=1)[0].text for file in files]
    assert scored(transcriber, tmp_path, language) == said
    assert all(said)


def test_the_base_model_hears_what_fits_its_chunk_whole_pauses_and_all(tmp_path: Path) -> None:
    """The base model takes any length; so does an adapter when a window of the chunk is asked for."""
    clip, silence = read_audio(CLIPS / "pl.flac").samples[: 3 * RATE], np.zeros(20_800, np.float32)
    soundfile.write(tmp_path / "a.flac", np.concatenate([clip, silence, clip]), RATE)
    for ref, window in (("base-model", None), ("mini/pl", 60.0)):
        transcriber = adapter_hub.load(ref, device="cpu", language="pl")
        (found,) = transcriber.transcribe(tmp_path / "a.flac", beams=1, window_seconds=window)
        assert len(found.segments) == 1
        assert [found.text] == scored(transcriber, tmp_path, "pl")


def test_an_adapter_that_was_trained_on_single_utterances_loses_none_behind_a_pause() -> None:
    """As a whole, it stops at the first long pause; so what is longer than its utterances is cut there."""
    transcriber = adapter_hub.load("mini/pl", device="cpu")
    clip = read_audio(CLIPS / "pl.flac").samples
    (alone,) = transcriber.transcribe(audio_from_samples(clip, RATE), beams=1)
    twice = audio_from_samples(np.concatenate([clip, pause(0.8), clip]), RATE)
    (found,) = transcriber.transcribe(twice, beams=1)
    assert found.text == f"{alone.text} {alone.text}"
    assert len(found.segments) == 2


def test_segments_with_times_are_cut_at_pauses_whatever_the_length() -> None:
    transcriber = adapter_hub.load("base-model", device="cpu", language="pl")
    samples = np.concatenate([speech(1.0, 1), pause(1.2), speech(1.0, 2)])
    assert len(transcriber.transcribe(samples, beams=1)[0].segments) <= 1
    assert len(list(phrases([samples], longest=8.0))) == 2
    assert len(list(phrases([samples], longest=8.0, whole=8.0))) == 1
    assert len(list(phrases([samples], longest=8.0, whole=3.0))) == 2
