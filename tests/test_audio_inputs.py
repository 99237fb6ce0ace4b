"""What people hand to `transcribe` in Python is heard as the file is, and anything else is refused."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from small_whisper import speech, write_speech

from adapter_hub.errors import InvalidInputError
from adapter_hub.speech.audio import read_audio
from adapter_hub.speech.inputs import is_input, opened_input
from adapter_hub.transcription.opening import load
from adapter_hub.transcription.transcriber import Transcriber

RATE = 16_000
SAMPLES = speech(2.0, 5)
WHOLE = np.round(SAMPLES * 32767).astype(np.int16)


@pytest.fixture(scope="module")
def transcriber(base_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Transcriber:
    cache = str(tmp_path_factory.mktemp("cache"))
    return load("base-model", base_model=str(base_folder), language="en", cache=cache)


INPUTS: dict[str, Callable[[Path], Any]] = {
    "a path": lambda path: path,
    "a path as text": str,
    "bytes": lambda path: path.read_bytes(),
    "a bytearray": lambda path: bytearray(path.read_bytes()),
    "a file object": lambda path: io.BufferedReader(io.BytesIO(path.read_bytes())),
    "bytes in memory": lambda path: io.BytesIO(path.read_bytes()),
    "an array": lambda path: read_audio(path).samples,
    "an array of doubles": lambda path: read_audio(path).samples.astype(np.float64),
    "an array of 16 bits": lambda path: soundfile.read(path, dtype="int16")[0],
    "an array of 32 bits": lambda path: soundfile.read(path, dtype="int32")[0],
    "two channels": lambda path: np.stack([read_audio(path).samples] * 2, axis=1),
    "a tensor": lambda path: torch.from_numpy(read_audio(path).samples),
    "a tensor of channels": lambda path: torch.from_numpy(read_audio(path).samples).repeat(2, 1),
    "samples and their rate": lambda path: (read_audio(path).samples, RATE),
    "the rate first": lambda path: (RATE, read_audio(path).samples),
    "a data set's row": lambda path: {"array": read_audio(path).samples, "sampling_rate": RATE, "path": "x"},
    "a row that was not decoded": lambda path: {"bytes": path.read_bytes(), "path": None},
    "a row with a path": lambda path: {"bytes": None, "path": str(path)},
    "decoded audio": read_audio,
}


@pytest.mark.parametrize("kind", INPUTS)
def test_everything_that_holds_a_recording_is_the_recording(
    kind: str, tmp_path: Path, transcriber: Transcriber
) -> None:
    path = write_speech(tmp_path / "a.wav", 2.0, 5)
    item = INPUTS[kind](path)
    assert is_input(item)
    (alone,) = transcriber.transcribe(item, beams=1)
    assert alone.seconds == pytest.approx(2.0)
    found = opened_input(INPUTS[kind](path), None, "audio 1")
    samples = read_audio(found).samples if isinstance(found, Path) else found.samples
    np.testing.assert_allclose(samples, read_audio(path).samples, atol=1e-4)


def test_several_of_any_kind_are_several_recordings(tmp_path: Path, transcriber: Transcriber) -> None:
    path = write_speech(tmp_path / "a.wav", 1.0)
    items = [path, path.read_bytes(), (speech(1.0, 2, 8_000), 8_000), torch.zeros(RATE), {"path": str(path)}]
    found = transcriber.transcribe(items, beams=1)
    assert [round(item.seconds, 1) for item in found] == [1.0] * 5
    assert found[0].tokens == found[1].tokens == found[4].tokens


def test_a_rate_is_believed_whoever_brings_it(transcriber: Transcriber) -> None:
    samples = speech(3.0, 1, 8_000)
    by_name = transcriber.transcribe(samples, sample_rate=8_000, beams=1)[0]
    by_pair = transcriber.transcribe((samples, 8_000), beams=1)[0]
    by_row = transcriber.transcribe({"array": samples, "sampling_rate": 8_000}, beams=1)[0]
    assert by_name.seconds == by_pair.seconds == by_row.seconds == pytest.approx(3.0)
    assert by_name.tokens == by_pair.tokens == by_row.tokens
    segments = list(transcriber.stream(samples, sample_rate=8_000, beams=1))
    assert [segment.text for segment in segments] == [segment.text for segment in by_name.segments]


@pytest.mark.parametrize("item", [7, 0.5, None, object(), [0.1, 0.2], [[0.1, 0.2]], [None]])
def test_what_is_no_recording_is_refused_at_once(item: Any, transcriber: Transcriber) -> None:
    with pytest.raises(InvalidInputError, match=r" as a recording; expected a path, bytes") as refused:
        transcriber.transcribe(item)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("item", "said"),
    [
        ("nowhere.wav", "nowhere.wav: no such audio file"),
        (b"not audio at all", "audio 1: cannot be read as audio"),
        (np.full(RATE, np.nan, dtype=np.float32), "audio 1: sample 0 is NaN or infinite"),
        (WHOLE.astype(np.float32), "audio 1: samples up to"),
        (np.full(RATE, 1e30), "audio 1: samples up to 1e+30"),
        ({"sampling_rate": RATE}, "audio 1: a mapping of sampling_rate"),
        (io.StringIO("text"), "audio 1: a file of text"),
        ((SAMPLES, 0), "audio 1: sample rate 0"),
    ],
)
def test_one_bad_recording_raises_and_one_of_many_is_its_own_error(
    item: Any, said: str, tmp_path: Path, transcriber: Transcriber
) -> None:
    with pytest.raises(InvalidInputError, match=re.escape(said)):
        transcriber.transcribe(item)
    good = write_speech(tmp_path / "a.wav")
    first, second = transcriber.transcribe([item, good], beams=1)
    assert said in str(first.error)
    assert (second.error, second.seconds) == (None, 1.0)


def test_channels_that_cancel_each_other_out_are_heard(transcriber: Transcriber) -> None:
    opposite = np.stack([SAMPLES, -SAMPLES], axis=1)
    (both,) = transcriber.transcribe(opposite, beams=1)
    (one,) = transcriber.transcribe(SAMPLES, beams=1)
    assert both.tokens == one.tokens


def test_a_wrong_word_gets_a_sentence(transcriber: Transcriber) -> None:
    with pytest.raises(InvalidInputError, match="no option 'beam'; did you mean beams?"):
        transcriber.transcribe(SAMPLES, beam=3)  # type: ignore[call-arg]
    with pytest.raises(InvalidInputError, match="list as an adapter; expected one reference"):
        load(["mini/da", "mini/pl"])  # type: ignore[arg-type]
