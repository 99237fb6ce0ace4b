"""What `transcribe` says about input that cannot be transcribed, in one line each, and about odd input."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from small_whisper import make_adapter, make_base_model, speech, write_speech

from adapter_hub.cli import main
from adapter_hub.model.base_model import BaseModel, load_base_model
from adapter_hub.speech.audio import read_audio

CLIPS = Path(__file__).parent / "clips"
RATE = 16_000


def bad_file(folder: Path, kind: str) -> Path:
    path = folder / "bad.wav"
    match kind:
        case "zero length":
            path.write_bytes(b"")
        case "no samples":
            soundfile.write(path, np.zeros(0), RATE)
        case "text":
            path.write_text("Dear diary, this is not audio.\n" * 40)
        case "unsupported":
            path = folder / "bad.m4a"
            path.write_bytes(b"\0\0\0\x20ftypM4A \0\0\0\0" + bytes(range(200)))
        case "corrupt header":
            data = bytearray(write_speech(path).read_bytes())
            data[16:20] = b"\xff\xff\xff\x7f"  # the size of the format
            path.write_bytes(data)
        case "NaN":
            samples = speech(2.0, 1)
            samples[100] = np.nan
            soundfile.write(path, samples, RATE, subtype="FLOAT")
        case "too short":
            write_speech(path, 0.05)
        case "folder":
            path = folder / "bad"
            path.mkdir()
    return path


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("missing", "bad.wav: no such audio file"),
        ("zero length", "bad.wav: an empty file (0 bytes); expected audio"),
        ("no samples", "bad.wav: it holds no samples; expected at least 0.1 s"),
        ("text", "bad.wav: cannot be read as audio ("),
        ("unsupported", "bad.m4a: cannot be read as audio ("),
        ("corrupt header", "bad.wav: cannot be read as audio ("),
        ("NaN", "bad.wav: sample 100 is NaN or infinite; expected values between -1 and 1"),
        ("too short", "bad.wav: 0.050 s of audio; expected at least 0.1 s"),
        ("folder", "bad: no audio files in this folder"),
    ],
)
def test_a_bad_file_is_one_line_and_exit_code_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str, message: str
) -> None:
    path = bad_file(tmp_path, kind)
    assert main(["--device", "cpu", "transcribe", "mini/da", str(path), "--beams", "1"]) == 1
    out, err = capsys.readouterr()
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert message in err
    assert out == ""


def test_a_truncated_file_is_transcribed_as_far_as_it_goes_marked_and_warned_of(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "cut.flac"
    path.write_bytes(write_speech(path, 30.0).read_bytes()[:-200_000])
    words = ["--device", "cpu", "transcribe", "mini/da", str(path), "--beams", "1", "--json"]
    assert main(words) == 0
    out, err = capsys.readouterr()
    assert err.startswith(f"warning: {path}: ends after ")
    assert err.count("\n") == 1
    (transcript,) = json.loads(out)
    assert f"warning: {transcript['truncated']}\n" == err
    assert "error" not in transcript
    assert 5 < transcript["duration"] < 30


def test_one_bad_file_among_good_ones_leaves_theirs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad, absent = bad_file(tmp_path, "text"), tmp_path / "absent.wav"
    clip = CLIPS / "da.flac"
    files = [str(path) for path in (clip, bad, absent, clip)]
    assert main(["--device", "cpu", "transcribe", "mini/da", *files, "--json"]) == 1
    out, err = capsys.readouterr()
    rows = json.loads(out)
    assert [sorted(row)[:1] == ["adapter"] for row in rows] == [True, False, False, True]
    assert rows[0]["text"] == rows[3]["text"] == "firetusind trehundrede og otteogtredive"
    assert rows[2] == {"source": str(absent), "error": f"{absent}: no such audio file"}
    assert err.count("error: ") == 2


@pytest.mark.parametrize("kind", ["stereo", "8 kHz", "96 kHz", "loud", "8 bit"])
def test_odd_audio_says_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str) -> None:
    import soxr

    samples, path = read_audio(CLIPS / "da.flac").samples, tmp_path / "odd.wav"
    match kind:
        case "stereo":
            soundfile.write(path, np.stack([samples, samples], axis=1), RATE)
        case "8 kHz":
            soundfile.write(path, soxr.resample(samples, RATE, 8_000), 8_000)
        case "96 kHz":
            soundfile.write(path, soxr.resample(samples, RATE, 96_000), 96_000)
        case "loud":
            soundfile.write(path, samples * 4, RATE, subtype="FLOAT")
        case "8 bit":
            soundfile.write(path, samples / np.abs(samples).max(), RATE, subtype="PCM_U8")
    assert main(["--device", "cpu", "transcribe", "mini/da", str(path)]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    # above 4 kHz there is nothing left of 8 kHz audio: it may be recognised less well
    assert out.strip() == "firetusind trehundrede og otteogtredive" or kind == "8 kHz"
    assert out.strip()


@pytest.mark.parametrize("ref", ["mini/da", "auto", "base-model"])
@pytest.mark.parametrize("seconds", [0.5, 30.0])
def test_silence_has_no_text(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], ref: str, seconds: float
) -> None:
    soundfile.write(tmp_path / "silence.wav", np.zeros(round(seconds * RATE)), RATE)
    words = ["--device", "cpu", "transcribe", ref, str(tmp_path / "silence.wav"), "--json"]
    assert main(words) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["text"], row["segments"], row["duration"]) == ("", [], seconds)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["mini/nobody"], "mini/nobody: no such adapter"),
        (["./nowhere"], "nowhere: no adapter.json"),
        (["auto", "--adapter", "mini/nobody"], "mini/nobody: no such adapter"),
        (["auto", "--languages", "da,mdw"], "decode language 'mdw'"),
        (["auto", "--language", "da"], "auto identifies the language itself"),
        (["mini/da", "--fallback", "mini/pl"], "are for auto"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_cannot_be_used_is_one_line(
    capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    assert main(["--device", "cpu", "transcribe", *words, str(CLIPS / "da.flac")]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert message in err


@pytest.mark.parametrize(
    "words",
    [
        ["--threshold", "2"],
        ["--window-seconds", "0"],
        ["--task", "sing"],
        ["--temperatures", "warm"],
        ["--temperatures", "0,-1"],
    ],
    ids=" ".join,
)
def test_options_without_sense_are_wrong_usage(words: list[str]) -> None:
    assert main(["transcribe", "auto", str(CLIPS / "da.flac"), *words]) == 2


def test_an_adapter_of_another_base_model_is_refused(
    base: BaseModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    artifact = make_adapter(tmp_path / "a", base, seed=1)
    other = load_base_model(make_base_model(tmp_path / "other", seed=2), device="cpu")
    clip = str(CLIPS / "da.flac")
    capsys.readouterr()
    for words in ([str(artifact.path)], ["auto", "--adapter", str(artifact.path)]):
        code = main(["--device", "cpu", "transcribe", *words, clip, "--base-model", str(other.folder)])
        err = capsys.readouterr().err
        assert code == 1
        assert err.startswith("error: small/da-1@1.0.0")
        assert "base model" in err
        assert err.count("\n") == 1


LIMITED = """
import resource, sys
from adapter_hub.cli import main
from adapter_hub.transcription import opening

load = opening.load
def load_then_limit(*arguments, **options):
    transcriber = load(*arguments, **options)
    transcriber.transcribe(sys.argv[1], beams=1)   # what is allocated once is there
    used = [int(l.split()[1]) for l in open("/proc/self/status") if l.startswith("VmSize")][0] * 1024
    resource.setrlimit(resource.RLIMIT_AS, (used + int(sys.argv[2]) * 2**20, -1))
    return transcriber

opening.load = load_then_limit
raise SystemExit(main(sys.argv[3:]))
"""


def limited(megabytes: int, *words: str) -> subprocess.CompletedProcess[str]:
    clip = str(CLIPS / "da.flac")
    return subprocess.run(
        [sys.executable, "-c", LIMITED, clip, str(megabytes), "--device", "cpu", "transcribe", *words],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_THRESHOLD_": "65536"},
    )


@pytest.mark.slow  # without a real limit: tests/test_long_form.py
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="memory is limited by setrlimit")
def test_out_of_memory_goes_on_with_smaller_batches_and_says_so() -> None:
    files = [str(CLIPS / "da.flac")] * 96
    done = limited(130, "mini/da", *files, "--beams", "5", "--batch-size", "96")
    assert "warning: out of memory with 96 windows at once; going on with 48 (--batch-size 48" in done.stderr
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("firetusind trehundrede og otteogtredive") == 96


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="memory is limited by setrlimit")
def test_out_of_memory_with_one_window_is_one_line_with_advice() -> None:
    done = limited(8, "mini/da", str(CLIPS / "da.flac"), "--beams", "400", "--batch-size", "1")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "error: out of memory with 1 windows with 400 beams on cpu; use fewer --beams" in done.stderr
