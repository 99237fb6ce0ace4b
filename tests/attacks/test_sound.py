"""Audio files that promise more than they hold: found out in their headers, one line each, little memory."""

from __future__ import annotations

import io
import os
import resource
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from small_whisper import write_speech

from adapter_hub.cli import main
from adapter_hub.errors import AdapterHubError
from adapter_hub.speech.audio import audio_blocks, decode_audio, read_audio


def low_rate(path: Path) -> None:
    soundfile.write(path, np.zeros(195_000), 1, subtype="PCM_U8", format="WAV")


def highest_rate(path: Path) -> None:
    soundfile.write(path, np.zeros(1000), 2**31 - 1, subtype="PCM_U8", format="WAV")


def many_channels(path: Path) -> None:
    soundfile.write(path, np.zeros((100, 1024), dtype="i2"), 16_000, format="WAV")


def two_hours(path: Path) -> None:
    soundfile.write(path, np.zeros(7200 * 8000, dtype="i2"), 8_000, format="FLAC")


def stated_hours(path: Path) -> None:
    _stated_samples(path, 2**36 - 1)


def _stated_samples(path: Path, samples: int) -> None:
    write_speech(path.with_suffix(".flac"), 1.0)
    data = bytearray(path.with_suffix(".flac").read_bytes())
    data[21] = data[21] & 0xF0 | samples >> 32
    data[22:26] = (samples & 0xFFFFFFFF).to_bytes(4, "big")
    path.write_bytes(data)


def pipe(path: Path) -> None:
    os.mkfifo(path)


def device(path: Path) -> None:
    path.symlink_to("/dev/zero")


HOSTILE: dict[Callable[[Path], None], str] = {
    low_rate: "1 samples per second; expected 1000 to 768000",
    highest_rate: "2147483647 samples per second",
    many_channels: "1024 channels; expected up to 256",
    two_hours: "7200.0 s of audio; at most 3600 s are read at once: cut it into pieces, or allow more with",
    stated_hours: "4294967.3 s of audio; at most 3600 s",
    pipe: "not an ordinary file",
    device: "not an ordinary file",
}


@pytest.mark.parametrize("make", HOSTILE, ids=lambda make: make.__name__)
def test_what_a_header_promises_is_looked_at_before_it_is_decoded(
    make: Callable[[Path], None], tmp_path: Path
) -> None:
    path = tmp_path / "bad.wav"
    make(path)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(AdapterHubError, match=HOSTILE[make]) as caught:
        read_audio(path)
    assert "\n" not in str(caught.value)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000


@pytest.mark.parametrize("make", [low_rate, many_channels, pipe, device])
def test_transcribe_says_so_in_one_line(
    make: Callable[[Path], None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make(tmp_path / "bad.wav")
    assert main(["--device", "cpu", "transcribe", "mini/da", str(tmp_path / "bad.wav"), "--beams", "1"]) == 1
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert HOSTILE[make] in err


def test_longer_recordings_may_be_allowed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_speech(tmp_path / "a.wav", 3.0)
    monkeypatch.setenv("ADAPTER_HUB_LONGEST_AUDIO", "2")
    with pytest.raises(AdapterHubError, match="3.0 s of audio; at most 2 s are read at once"):
        read_audio(path)
    assert sum(map(len, audio_blocks(path))) == 48_000  # block by block any length is read
    monkeypatch.setenv("ADAPTER_HUB_LONGEST_AUDIO", "3")
    assert read_audio(path).seconds == 3.0
    monkeypatch.setenv("ADAPTER_HUB_LONGEST_AUDIO", "many")
    with pytest.raises(AdapterHubError, match="ADAPTER_HUB_LONGEST_AUDIO=many: expected a number"):
        read_audio(path)


def test_names_that_are_no_utf_8_are_read(tmp_path: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff\xfe.wav"))
    try:
        path.write_bytes(write_speech(tmp_path / "a.wav", 1.0).read_bytes())
    except OSError:
        pytest.skip("this file system has no such names")
    assert read_audio(path).seconds == 1.0
    assert sum(map(len, audio_blocks(path))) == 16_000


@pytest.mark.parametrize("form", ["WAV", "FLAC", "OGG", "AIFF", "AU", "CAF", "W64"])
def test_damaged_headers_are_one_line_that_names_the_file(form: str) -> None:
    data, random = io.BytesIO(), np.random.default_rng(1)
    soundfile.write(data, random.normal(0, 0.1, 4000), 16_000, format=form)
    told = []
    for _ in range(150):
        damaged = bytearray(data.getvalue())
        for place in random.integers(0, 80, 3):
            damaged[place] = random.choice([0, 1, 127, 128, 255])
        try:
            decode_audio(bytes(damaged), Path("clip.wav"))
        except AdapterHubError as error:
            told.append(str(error))
    assert told
    assert all(line.startswith("clip.wav") and "BytesIO" not in line and "\n" not in line for line in told)
