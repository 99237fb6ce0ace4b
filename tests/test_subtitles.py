"""Subtitles and JSON of transcripts, and what the command line writes where."""

from __future__ import annotations

import json
from pathlib import Path

import jiwer
import numpy as np
import pytest
import soundfile

from adapter_hub.cli import main
from adapter_hub.speech.audio import read_audio
from adapter_hub.transcription.subtitles import to_srt, to_vtt
from adapter_hub.transcription.transcript import Segment, joined_text

CLIPS = Path(__file__).parent / "clips"
RATE = 16_000
DANISH, POLISH = "firetusind trehundrede og otteogtredive", "siedem tysięcy jeden osiem tysięcy dziewięć"
OPENAI = {"task", "language", "duration", "text", "segments"}
OPENAI_SEGMENT = {
    *("id", "seek", "start", "end", "text", "tokens"),
    *("temperature", "avg_logprob", "compression_ratio", "no_speech_prob"),
}


@pytest.fixture(scope="module")
def switching(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file that goes from Danish to Polish and back."""
    danish, polish = (read_audio(CLIPS / f"{language}.flac").samples for language in ("da", "pl"))
    pause = np.zeros(round(0.8 * RATE), np.float32)
    samples = np.concatenate([danish, pause, polish, pause, polish, pause, danish])
    path = tmp_path_factory.mktemp("audio") / "switching.flac"
    soundfile.write(path, samples, RATE)
    return path


def test_a_cue_is_one_line_and_holds_no_markup() -> None:
    segments = [Segment(0.0, 1.5, "a <b> & c --> d"), Segment(3661.5, 3662.25, "one\n\ntwo")]
    assert to_vtt(segments) == (
        "WEBVTT\n\n00:00:00.000 --> 00:00:01.500\na &lt;b&gt; &amp; c --&gt; d\n\n"
        "01:01:01.500 --> 01:01:02.250\none two"
    )
    assert to_srt(segments).endswith("2\n01:01:01,500 --> 01:01:02,250\none two")
    assert (to_vtt([]), to_srt([])) == ("WEBVTT", "")


def test_text_is_joined_as_the_languages_write_it() -> None:
    def text(*pairs: tuple[str, str]) -> str:
        return joined_text([Segment(0, 1, word, language=language) for language, word in pairs])

    assert text(("zh", "零一"), ("zh", "二")) == "零一二"
    assert text(("zh", "零一"), ("en", "two"), ("en", "three"), ("ja", "し")) == "零一 two three し"


def test_auto_transcribes_a_file_that_switches_between_two_languages(
    switching: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--device", "cpu", "transcribe", "auto", str(switching)]) == 0
    out, err = capsys.readouterr()
    # the adapters mishear a word now and then; another language's would mishear most
    assert jiwer.wer(f"{DANISH} {POLISH} {POLISH} {DANISH}", out.strip()) < 0.1
    first, *lines = err.splitlines()
    assert first.startswith("base model: ")
    assert [line.rsplit(", ", 1)[1] for line in lines] == ["mini/da@1.0.0", "mini/pl@1.0.0", "mini/da@1.0.0"]
    assert lines[0].startswith(f"{switching}: 0.0 - 1.7 s: da 0.9")


def test_json_has_the_fields_of_openai_and_where_they_come_from(
    switching: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--device", "cpu", "transcribe", "auto", str(switching), "--json", "--words", "--beams", "2"]
    assert main(words) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert set(row) >= OPENAI | {"words", "source", "adapter", "language_probability"}
    assert (row["task"], row["language"], row["adapter"]) == ("transcribe", "pl", "mini/pl@1.0.0")
    assert row["duration"] == pytest.approx(10.37, abs=0.1)
    assert {"da", "pl"} <= set(row["language_probabilities"])
    assert [segment["id"] for segment in row["segments"]] == [0, 1, 2, 3]
    for segment in row["segments"]:
        assert set(segment) >= OPENAI_SEGMENT | {"language", "adapter", "language_probability"}
        assert 0 <= segment["start"] < segment["end"] <= row["duration"]
        assert segment["avg_logprob"] <= 0
    assert [word["word"] for word in row["words"]] == row["text"].split()
    assert all(word["start"] <= word["end"] for word in row["words"])


@pytest.mark.parametrize("form", ["srt", "vtt"])
def test_subtitles_go_to_a_file_each(form: str, switching: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    files = [str(switching), str(CLIPS / "da.flac")]
    words = ["--device", "cpu", "transcribe", "auto", *files, "--beams", "1", "--format", form]
    assert main(words) == 2
    assert main([*words, "--out", str(out)]) == 0
    assert {path.name for path in out.iterdir()} == {f"switching.{form}", f"da.{form}"}
    assert (out / f"switching.{form}").read_text(encoding="utf-8").count("-->") == 4


def test_lines_with_times_are_asked_for(switching: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--device", "cpu", "transcribe", "mini/da", str(CLIPS / "da.flac"), "--timestamps"]
    assert main(words) == 0
    assert capsys.readouterr().out == f"[0.00 - 1.68] {DANISH}\n"


def test_a_minute_of_audio_is_told_with_its_speed(
    switching: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    samples = read_audio(switching).samples
    soundfile.write(tmp_path / "long.flac", np.concatenate([samples, np.zeros(RATE, np.float32)] * 6), RATE)
    assert (
        main(["--device", "cpu", "transcribe", "mini/da", str(tmp_path / "long.flac"), "--beams", "1"]) == 0
    )
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("68 s of audio, ")
    assert line.endswith(" s of audio per second")
