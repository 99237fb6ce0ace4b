"""Reading audio: what comes out of good files, and what is said about bad ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
from small_whisper import speech, write_speech

from adapter_hub.errors import AdapterHubError
from adapter_hub.files.reading import file_sha256
from adapter_hub.speech.audio import audio_from_samples, audio_seconds, check_seconds, find_audio, read_audio


def test_a_file_comes_as_float32_mono_at_16_khz_with_the_hash_of_its_bytes(tmp_path: Path) -> None:
    path = write_speech(tmp_path / "a.flac", seconds=1.5)
    audio = read_audio(path)
    assert (audio.samples.dtype, audio.samples.shape, audio.sample_rate) == (np.float32, (24_000,), 16_000)
    assert audio.seconds == audio_seconds(path) == 1.5
    assert audio.sha256 == file_sha256(path)


@pytest.mark.parametrize("rate", [8_000, 44_100, 96_000])
def test_other_rates_are_resampled(tmp_path: Path, rate: int) -> None:
    time = np.arange(rate) / rate
    soundfile.write(tmp_path / "a.wav", 0.5 * np.sin(2 * np.pi * 440 * time), rate, subtype="FLOAT")
    audio = read_audio(tmp_path / "a.wav")
    assert len(audio.samples) == 16_000
    wanted = 0.5 * np.sin(2 * np.pi * 440 * np.arange(16_000) / 16_000)
    assert np.abs(audio.samples - wanted)[500:-500].max() < 2e-3


def test_stereo_is_mixed_to_one_channel(tmp_path: Path) -> None:
    left, right = speech(0.5, 1), speech(0.5, 2)
    soundfile.write(tmp_path / "a.wav", np.stack([left, right], axis=1), 16_000, subtype="FLOAT")
    np.testing.assert_allclose(read_audio(tmp_path / "a.wav").samples, (left + right) / 2, atol=1e-6)


def bad_file(folder: Path, kind: str) -> Path:
    path = folder / "bad.wav"
    match kind:
        case "empty":
            path.write_bytes(b"")
        case "no samples":
            soundfile.write(path, np.zeros(0, dtype=np.float32), 16_000)
        case "text":
            path.write_text("this is not audio\n")
        case "NaN":
            samples = speech(0.5, 1)
            samples[7] = np.nan
            soundfile.write(path, samples, 16_000, subtype="FLOAT")
        case "folder":
            path.mkdir()
        case "header only":
            write_speech(path)
            path.write_bytes(path.read_bytes()[:20])
    return path


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("missing", r"bad\.wav: no such audio file"),
        ("empty", r"bad\.wav: an empty file \(0 bytes\); expected audio"),
        ("no samples", r"bad\.wav: it holds no samples; expected at least 0\.1 s"),
        ("text", r"bad\.wav: cannot be read as audio \(.*\); expected WAV, FLAC, MP3 or OGG"),
        ("NaN", r"bad\.wav: sample 7 is NaN or infinite"),
        ("folder", r"bad\.wav: a folder; expected an audio file"),
        ("header only", r"bad\.wav: (cannot be read as audio|no samples)"),
    ],
)
def test_a_bad_file_is_refused_in_one_line(tmp_path: Path, kind: str, message: str) -> None:
    path = bad_file(tmp_path, kind)
    with pytest.raises(AdapterHubError, match=message) as caught:
        read_audio(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("seconds", "message"),
    [
        (0.05, r"a\.wav: 0\.050 s of audio; expected at least 0\.1 s"),
        (60.0, r"a\.wav: 60\.0 s of audio, but the base model takes at most 8 s"),
    ],
)
def test_audio_that_is_too_short_or_too_long_is_refused_with_the_limit(seconds: float, message: str) -> None:
    with pytest.raises(AdapterHubError, match=message):
        check_seconds(seconds, 8.0, "a.wav")
    check_seconds(0.1, 8.0, "a.wav")
    check_seconds(8.0, 8.0, "a.wav")


def test_arrays_are_checked_as_files_are() -> None:
    assert audio_from_samples(speech(1.0, 1, rate=8_000), 8_000).seconds == 1.0
    with pytest.raises(AdapterHubError, match=r"audio: int16 samples of shape \[5\]; expected floats"):
        audio_from_samples(np.zeros(5, dtype=np.int16), 16_000)
    with pytest.raises(AdapterHubError, match="sample rate 0"):
        audio_from_samples(np.zeros(5), 0)


def test_a_folder_stands_for_its_audio_files_in_order(tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    for name in ("b.wav", "a.flac", "inner/c.WAV", "notes.txt"):
        (tmp_path / name).write_bytes(b"x")
    found = [str(path.relative_to(tmp_path)) for path in find_audio(tmp_path)]
    assert found == ["a.flac", "b.wav", "inner/c.WAV"]
    assert find_audio(tmp_path / "absent.wav") == [tmp_path / "absent.wav"]
    (tmp_path / "none").mkdir()
    with pytest.raises(AdapterHubError, match="no audio files in this folder"):
        find_audio(tmp_path / "none")
