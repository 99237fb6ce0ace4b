"""Silence skipped: speech is found in noise, whatever the blocks, and the extra is asked for by name."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import adapter_hub
from adapter_hub.cli import main
from adapter_hub.speech.audio import read_audio
from adapter_hub.transcription.voice_activity import Detectors

RATE = 16_000
CLIPS = Path(__file__).parent / "clips"


def noise(seconds: float, loudness: float = 0.003) -> np.ndarray:
    random = np.random.default_rng(1)
    return (loudness * random.standard_normal(round(seconds * RATE))).astype(np.float32)


@pytest.fixture(scope="module")
def detectors() -> Detectors:
    pytest.importorskip("silero_vad")
    threads = torch.get_num_threads()
    found = Detectors()
    assert torch.get_num_threads() == threads
    return found


@pytest.fixture(scope="module")
def meeting() -> np.ndarray:
    """Noise with speech at 5.0 to 6.7 s, 10.7 to 13.0 s and 14.5 to 16.2 s."""
    danish, polish = (read_audio(CLIPS / f"{language}.flac").samples for language in ("da", "pl"))
    parts = [noise(5), danish, noise(4), polish, noise(1.5), danish, noise(6)]
    return np.concatenate(parts)


@pytest.mark.parametrize("size", [500, 16_000, 10**9])
def test_speech_is_found_and_noise_is_not(detectors: Detectors, meeting: np.ndarray, size: int) -> None:
    blocks = [meeting[start : start + size] for start in range(0, len(meeting), size)]
    pieces = list(detectors.speech(iter(blocks), longest=8.0))
    found = [(piece.start / RATE, piece.end / RATE) for piece in pieces]
    assert len(found) == 3
    for (start, end), wanted in zip(found, [(5.0, 6.7), (10.7, 13.0), (14.5, 16.2)], strict=True):
        assert wanted[0] - 0.4 < start < wanted[0] + 0.3
        assert wanted[1] - 0.3 < end < wanted[1] + 0.7
    for piece in pieces:
        np.testing.assert_array_equal(piece.samples, meeting[piece.start : piece.end])


def test_speech_without_a_pause_is_cut_to_what_fits(detectors: Detectors) -> None:
    samples = np.concatenate([read_audio(CLIPS / "pl.flac").samples] * 8)
    pieces = list(detectors.speech([samples], longest=4.0))
    assert len(pieces) >= 5
    assert all(piece.seconds <= 4.1 for piece in pieces)
    assert sum(piece.seconds for piece in pieces) > 0.9 * len(samples) / RATE
    assert all(a.end <= b.start for a, b in zip(pieces, pieces[1:], strict=False))
    assert pieces[-1].end <= len(samples)


def test_nothing_is_found_where_nobody_speaks(detectors: Detectors) -> None:
    assert list(detectors.speech([noise(20)], longest=8.0)) == []
    assert list(detectors.speech([], longest=8.0)) == []


def test_recordings_that_are_open_together_have_a_detector_each(
    detectors: Detectors, meeting: np.ndarray
) -> None:
    alone = [(piece.start, piece.end) for piece in detectors.speech([meeting], longest=8.0)]
    first, second = (detectors.speech([meeting], longest=8.0) for _ in range(2))
    for a, b, wanted in zip(first, second, alone, strict=True):
        assert (a.start, a.end) == (b.start, b.end) == wanted


def test_noise_makes_no_text_where_silence_is_skipped(meeting: np.ndarray, detectors: Detectors) -> None:
    auto = adapter_hub.load("auto", languages=["da", "pl"], device="cpu")
    whole, skipped = (
        auto.transcribe(noise(20), beams=1, temperatures=(0.0,), skip_silence=skip)[0]
        for skip in (False, True)
    )
    assert whole.text
    assert (skipped.text, skipped.segments, skipped.seconds) == ("", (), 20.0)
    (found,) = auto.transcribe(meeting, beams=2, skip_silence=True)
    assert [segment.language for segment in found.segments] == ["da", "pl", "da"]
    assert found.segments[0].text == "firetusind trehundrede og otteogtredive"


def test_without_the_extra_the_error_holds_the_command_that_installs_it() -> None:
    code = (
        "import sys; sys.modules['silero_vad'] = None; from adapter_hub.cli import main; "
        "raise SystemExit(main(sys.argv[1:]))"
    )
    words = ["--device", "cpu", "transcribe", "mini/da", str(CLIPS / "da.flac"), "--skip-silence"]
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == (
        "error: finding speech needs silero-vad: run `pip install '.[vad]'` in the project's checkout, "
        "or transcribe without --skip-silence\n"
    )


def test_the_command_line_skips_silence(
    detectors: Detectors, meeting: np.ndarray, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import soundfile

    soundfile.write(tmp_path / "meeting.flac", meeting, RATE)
    words = ["--device", "cpu", "transcribe", "auto", str(tmp_path / "meeting.flac"), "--skip-silence"]
    assert main([*words, "--format", "vtt", "--languages", "da,pl"]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("WEBVTT\n\n00:00:0")
    assert out.count("-->") == 3
    assert err.count("mini/da@1.0.0") == 2
