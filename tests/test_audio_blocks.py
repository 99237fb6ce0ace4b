"""Audio a block at a time: the samples that reading at once gives, and what is said about bad files."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from small_whisper import speech, write_speech

from adapter_hub.errors import AdapterHubError, InvalidInputError
from adapter_hub.speech.audio import audio_blocks, audio_seconds, read_audio


@pytest.mark.parametrize("rate", [8_000, 16_000, 44_100, 96_000])
@pytest.mark.parametrize("channels", [1, 2])
def test_blocks_together_are_what_is_read_at_once(tmp_path: Path, rate: int, channels: int) -> None:
    samples = np.stack([speech(23.7, seed, rate) for seed in range(channels)], axis=1)
    soundfile.write(tmp_path / "a.wav", samples, rate, subtype="FLOAT")
    blocks = list(audio_blocks(tmp_path / "a.wav"))
    assert len(blocks) >= 3
    together = np.concatenate(blocks)
    np.testing.assert_array_equal(together, read_audio(tmp_path / "a.wav").samples)
    assert together.dtype == np.float32


def cut(path: Path, share: float) -> Path:
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    return path


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("a.wav", r"a\.wav: \d+ of the \d+ bytes that its header states are there; the file is truncated"),
        ("a.aiff", r"a\.aiff: \d+ of the \d+ bytes that its header states are there"),
        ("a.flac", r"a\.flac: ends after 1\d\.\d s of the 30\.0 s that its header states; .* truncated"),
    ],
)
def test_a_truncated_file_is_refused(tmp_path: Path, name: str, message: str) -> None:
    path = cut(write_speech(tmp_path / name, 30.0), 0.6)
    with pytest.raises(InvalidInputError, match=message):
        list(audio_blocks(path))
    with pytest.raises(InvalidInputError, match=message):
        read_audio(path)


def test_a_truncated_flac_file_gives_what_is_there_first(tmp_path: Path) -> None:
    path = cut(write_speech(tmp_path / "a.flac", 30.0), 0.6)
    blocks: list[np.ndarray] = []
    with pytest.raises(InvalidInputError, match="truncated or damaged"):
        blocks.extend(audio_blocks(path))
    assert sum(map(len, blocks)) >= 10 * 16_000


def test_a_header_of_unknown_size_is_not_truncated(tmp_path: Path) -> None:
    path = write_speech(tmp_path / "piped.wav", 1.0)
    data = bytearray(path.read_bytes())
    place = data.index(b"data") + 4
    data[4:8] = data[place : place + 4] = b"\xff\xff\xff\xff"  # as programs do that write to a pipe
    path.write_bytes(data)
    assert audio_seconds(path) == 1.0
    assert len(read_audio(path).samples) == 16_000


def test_a_bad_sample_is_named_by_its_place_in_the_file(tmp_path: Path) -> None:
    samples = speech(25.0, 1)
    samples[340_007] = np.inf
    soundfile.write(tmp_path / "a.wav", samples, 16_000, subtype="FLOAT")
    with pytest.raises(InvalidInputError, match=r"a\.wav: sample 340007 is NaN or infinite"):
        list(audio_blocks(tmp_path / "a.wav"))


def test_no_samples_are_refused(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.zeros(0), 44_100)
    with pytest.raises(AdapterHubError, match=r"a\.wav: it holds no samples"):
        list(audio_blocks(tmp_path / "a.wav"))


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
def test_memory_does_not_grow_with_the_length(tmp_path: Path) -> None:
    path = tmp_path / "long.wav"
    with soundfile.SoundFile(path, "w", 44_100, 1) as file:
        for _ in range(60):
            file.write(np.zeros(44_100 * 30, dtype=np.float32))
    code = (
        "import sys; from pathlib import Path; from adapter_hub.speech.audio import audio_blocks\n"
        "def peak(): return [int(l.split()[1]) for l in open('/proc/self/status') if 'VmHWM' in l][0]\n"
        "blocks = audio_blocks(Path(sys.argv[1])); next(blocks); before = peak()\n"
        "print(sum(map(len, blocks)) / 16000, peak() - before)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True, env=os.environ
    )
    seconds, kilobytes = map(float, done.stdout.split())
    assert seconds >= 1780
    assert kilobytes < 20_000  # the samples are 115 MB
