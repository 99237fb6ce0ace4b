"""JSONL files that name audio: whole files, parts of long recordings, and every way to get one wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from command_line import Run
from small_training import places, recipe
from small_whisper import speech, write_speech

from adapter_hub.data.dataset import data_sha256, read_dataset
from adapter_hub.errors import InvalidInputError, NotFoundError
from adapter_hub.model.base_model import BaseModel
from adapter_hub.speech.audio import read_audio
from adapter_hub.trainers.data.check import check_data, sources_at
from adapter_hub.trainers.data.preparing import prepare
from adapter_hub.trainers.data.rows import RowRules
from adapter_hub.trainers.data.sources import Source
from adapter_hub.trainers.training import train


def write_list(path: Path, *rows: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [row if isinstance(row, str) else json.dumps(row, ensure_ascii=False) for row in rows]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """One second of speech."""
    return write_speech(tmp_path / "clip.wav", seconds=1.0, seed=3)


def test_paths_are_absolute_or_relative_to_the_file(tmp_path: Path, clip: Path) -> None:
    (tmp_path / "lists").mkdir()
    inside = write_speech(tmp_path / "lists" / "b.wav", seed=4)
    dataset = read_dataset(
        write_list(
            tmp_path / "lists" / "train.jsonl",
            {
                "audio_filepath": str(clip),
                "duration": 1,
                "text": "én",
                "lang": "da",
                "speaker": 7,
                "domain": "noisy",
            },
            {
                "audio_filepath": "b.wav",
                "duration": 1.0,
                "text": "to",
                "language": "sv",
                "other": [1],
                "domain": "",
            },
        )
    )
    first, second = dataset.rows
    assert (dataset.name, dataset.split) == ("lists", "train")
    assert (first.domain, second.domain) == ("noisy", None)
    assert (first.id, first.text, first.language, first.speaker) == ("../clip.wav", "én", "da", "7")
    assert (second.id, second.language, second.line, second.path) == ("b.wav", "sv", 2, inside)
    assert (first.stated_seconds, read_dataset(write_list(tmp_path / "mine.jsonl", {
        "audio_filepath": "clip.wav", "text": "en"
    })).name) == (1, "mine")  # fmt: skip


def test_the_content_of_a_list_is_that_of_the_same_folder(tmp_path: Path, clip: Path) -> None:
    (tmp_path / "metadata.jsonl").write_text('{"file_name": "clip.wav", "text": "en"}\n')
    listed = write_list(tmp_path / "a.jsonl", {"audio_filepath": "clip.wav", "duration": 1, "text": "en"})
    assert data_sha256(read_dataset(listed)) == data_sha256(read_dataset(tmp_path))


@pytest.mark.parametrize(("suffix", "rate"), [("wav", 16_000), ("flac", 16_000), ("flac", 44_100)])
def test_a_part_of_a_long_recording_is_the_part_itself(tmp_path: Path, suffix: str, rate: int) -> None:
    samples = speech(6.0, seed=1, rate=rate)
    soundfile.write(tmp_path / f"long.{suffix}", samples, rate)
    start, stop = round(2.25 * rate), round(2.25 * rate) + round(1.5 * rate)
    soundfile.write(tmp_path / f"cut.{suffix}", samples[start:stop], rate)
    dataset = read_dataset(
        write_list(
            tmp_path / "nemo.jsonl",
            {"audio_filepath": f"long.{suffix}", "offset": 2.25, "duration": 1.5, "text": "tre"},
            {"audio_filepath": f"long.{suffix}", "offset": 0, "duration": 2.25, "text": "fire"},
        )
    )
    part, other = dataset.rows
    assert part.id == f"long.{suffix}@2.25+1.5"
    assert part.clip.seconds() == 1.5
    audio = part.clip.read()
    np.testing.assert_array_equal(audio.samples, read_audio(tmp_path / f"cut.{suffix}").samples)
    assert audio.sha256 == part.clip.sha256() != other.clip.sha256()
    assert other.clip.read().seconds == pytest.approx(2.25)


def test_the_content_of_a_part_follows_its_recording(tmp_path: Path, clip: Path) -> None:
    row = {"audio_filepath": "clip.wav", "offset": 0.25, "duration": 0.5, "text": "en"}
    dataset = read_dataset(write_list(tmp_path / "a.jsonl", row))
    before = dataset.rows[0].clip.sha256()
    assert dataset.rows[0].clip.sha256() == before
    write_speech(clip, seconds=1.0, seed=99)
    assert dataset.rows[0].clip.sha256() != before


BAD_ROWS = {
    "no audio_filepath": ({"text": "en"}, "line 1: no audio_filepath"),
    "a missing file": ({"audio_filepath": "gone.wav", "text": "en"}, "line 1: gone.wav: no such audio file"),
    "no text": ({"audio_filepath": "clip.wav", "duration": 1}, "line 1: clip.wav: no text"),
    "a blank text": ({"audio_filepath": "clip.wav", "text": " "}, "an empty reference; remove the row"),
    "two lines of text": ({"audio_filepath": "clip.wav", "text": "a\nb"}, "a line break in the text"),
    "a negative duration": (
        {"audio_filepath": "clip.wav", "duration": -1, "text": "en"},
        "clip.wav: duration -1, expected seconds above 0",
    ),
    "a duration in words": (
        {"audio_filepath": "clip.wav", "duration": "1.0", "text": "en"},
        "clip.wav: duration '1.0', expected seconds above 0",
    ),
    "an endless duration": (
        '{"audio_filepath": "clip.wav", "duration": Infinity, "text": "en"}',
        "duration inf",
    ),
    "a duration beyond all numbers": (
        {"audio_filepath": "clip.wav", "duration": 10**400, "text": "en"},
        "clip.wav: duration 10+…, expected seconds above 0",
    ),
    "an offset beyond all numbers": (
        {"audio_filepath": "clip.wav", "duration": 1, "offset": 10**400, "text": "en"},
        "clip.wav: offset 10+…, duration 1, expected seconds in both",
    ),
    "the home of nobody": (
        {"audio_filepath": "~nosuchuser/a.wav", "text": "en"},
        "line 1: ~nosuchuser/a.wav: ~ names an unknown user",
    ),
    "a path of two lines": ({"audio_filepath": "clip\n.wav", "text": "en"}, "a line break in audio_filepath"),
    "half a character": (
        r'{"audio_filepath": "clip.wav", "text": "\ud800"}',
        "line 1: clip.wav: a lone surrogate .* in the text",
    ),
    "an offset without duration": (
        {"audio_filepath": "clip.wav", "offset": 0.5, "text": "en"},
        "offset 0.5, duration None, expected seconds in both",
    ),
    "a negative offset": (
        {"audio_filepath": "clip.wav", "offset": -0.5, "duration": 1, "text": "en"},
        "offset -0.5, duration 1, expected seconds in both, offset from 0",
    ),
    "a language that is not text": (
        {"audio_filepath": "clip.wav", "text": "a", "lang": 3},
        "language is not text",
    ),
    "a list": ("[1, 2]", "line 1: not a JSON object"),
    "not JSON": ("clip.wav\ten", r"line 1: not JSON \(Expecting value"),
}


@pytest.mark.parametrize("sentence", BAD_ROWS)
def test_a_wrong_row_is_named_with_its_line(sentence: str, tmp_path: Path, clip: Path) -> None:
    row, message = BAD_ROWS[sentence]
    path = write_list(tmp_path / "train.jsonl", row)
    with pytest.raises(InvalidInputError, match=message) as caught:
        read_dataset(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_all_wrong_rows_are_told_at_once_and_doubles_are_wrong(tmp_path: Path, clip: Path) -> None:
    row = {"audio_filepath": "clip.wav", "text": "en"}
    path = write_list(tmp_path / "train.jsonl", row, {"text": "to"}, row)
    with pytest.raises(
        InvalidInputError, match=r"line 2: no audio_filepath; line 3: clip.wav is listed twice"
    ):
        read_dataset(path)


def test_other_encodings_and_no_rows_and_no_file_are_told(tmp_path: Path) -> None:
    text = '{"audio_filepath": "clip.wav", "text": "én"}\n'
    for encoding in ("utf-16", "latin-1"):
        (tmp_path / "train.jsonl").write_bytes(text.encode(encoding))
        with pytest.raises(InvalidInputError, match=r"train.jsonl: not UTF-8 \(byte \d+\)"):
            read_dataset(tmp_path / "train.jsonl")
    (tmp_path / "train.jsonl").write_text("\n\n")
    with pytest.raises(InvalidInputError, match="no rows; expected one per audio file"):
        read_dataset(tmp_path / "train.jsonl")
    with pytest.raises(NotFoundError, match="expected JSONL with audio_filepath, duration and text"):
        read_dataset(tmp_path / "gone.jsonl")
    (tmp_path / "clips.txt").write_text(text)
    with pytest.raises(InvalidInputError, match=r"clips.txt: not a data set; expected a folder, or JSONL"):
        read_dataset(tmp_path / "clips.txt")


def test_a_list_with_a_mark_at_its_start_can_be_read(tmp_path: Path, clip: Path) -> None:
    text = '{"audio_filepath": "clip.wav", "text": "én"}\n'
    (tmp_path / "train.jsonl").write_bytes(text.encode("utf-8-sig"))
    assert read_dataset(tmp_path / "train.jsonl").rows[0].text == "én"


def test_durations_that_are_not_the_files_are_dropped_and_told(
    tmp_path: Path, clip: Path, base: BaseModel
) -> None:
    write_speech(tmp_path / "b.wav", seconds=1.0, seed=5)
    write_speech(tmp_path / "c.wav", seconds=1.0, seed=6)
    path = write_list(
        tmp_path / "train.jsonl",
        {"audio_filepath": "clip.wav", "duration": 1.08, "text": "en"},
        {"audio_filepath": "b.wav", "duration": 2.5, "text": "to"},
        {"audio_filepath": "c.wav", "offset": 0.5, "duration": 0.8, "text": "tre"},
        {"audio_filepath": "c.wav", "offset": 0.5, "duration": 0.5, "text": "tre"},
    )
    prepared = prepare([Source(read_dataset(path))], base, RowRules(language="da"))
    assert [example.id for example in prepared.examples] == ["clip.wav", "c.wav@0.5+0.5"]
    reasons = {row.id: row.reason for row in prepared.dropped}
    assert (
        "duration 2.5 s is stated, but the file holds 1.00 s; correct it, or add an offset"
        in reasons["b.wav"]
    )
    assert "0.8 s from 0.5 s on, but it ends after 1.00 s" in reasons["c.wav@0.5+0.8"]
    sources, rules = sources_at(path, tmp_path)
    report = check_data(sources, base, rules)
    assert {row.id: row.reason for row in report.splits[0].dropped} == reasons
    assert (report.splits[0].split, report.splits[0].usable) == ("train", 2)


@pytest.fixture
def lists(data: Path) -> Path:
    """The small data set as JSONL files beside its folder."""
    for split in ("train", "dev"):
        rows = [json.loads(line) for line in (data / split / "metadata.jsonl").read_text().splitlines()]
        write_list(
            data / f"{split}.jsonl",
            *({"audio_filepath": f"{split}/{row['file_name']}", "text": row["text"]} for row in rows),
        )
    return data


MIXTURE = """
[[data.train]]
manifest = "data/train.jsonl"
[[data.dev]]
manifest = "data/dev.jsonl"
"""


def use_lists(path: Path) -> Path:
    text = path.read_text().replace('train = "data/train"\n', "").replace('dev = "data/dev"\n', "")
    path.write_text(text + MIXTURE)
    return path


def test_training_on_a_list_gives_the_weights_of_the_same_folder(
    tmp_path: Path, lists: Path, base_folder: Path
) -> None:
    folder = train(recipe(tmp_path, base_folder), tmp_path / "one", **places(tmp_path))
    listed = train(use_lists(recipe(tmp_path, base_folder)), tmp_path / "two", **places(tmp_path))
    assert listed.manifest.weights_digest == folder.manifest.weights_digest
    assert listed.manifest.data == folder.manifest.data


def test_a_folder_is_no_list_and_a_list_no_folder(tmp_path: Path, lists: Path, base_folder: Path) -> None:
    path = use_lists(recipe(tmp_path, base_folder))
    path.write_text(path.read_text().replace("data/train.jsonl", "data/train"))
    with pytest.raises(InvalidInputError, match="manifest = 'data/train' is a folder, expected a JSONL file"):
        train(path, tmp_path / "out", **places(tmp_path))
    path.write_text(path.read_text().replace('manifest = "data/train"', 'folder = "data/train.jsonl"'))
    with pytest.raises(InvalidInputError, match="is a file; name it with manifest"):
        train(path, tmp_path / "out", **places(tmp_path))


def test_data_check_looks_at_a_list_and_at_all_sources_of_a_recipe(
    tmp_path: Path, lists: Path, base_folder: Path, run: Run
) -> None:
    found = run("data", "check", lists / "train.jsonl", "--base-model", base_folder, "--json").json
    assert [(split["split"], split["usable"]) for split in found["splits"]] == [("train", 12)]
    assert found["splits"][0]["domains"] == {}
    lengths = found["splits"][0]["input_seconds"]  # that the encoder is given for a clip
    assert lengths["chunk"] == 4.0
    assert found["splits"][0]["median_seconds"] <= lengths["batch"] < 4.0
    told = run("data", "check", lists / "train.jsonl", "--base-model", base_folder).out
    assert 'train: audio_length "chunk" gives the encoder 4.0 s a clip, "batch" ' in told
    path = use_lists(recipe(tmp_path, base_folder))
    extra = '[[data.train]]\nfolder = "data/dev"\nlanguage = "pl"\n'
    path.write_text(path.read_text() + extra)
    found = run("data", "check", path, "--base-model", base_folder, "--json").json
    assert [(split["split"], split["usable"]) for split in found["splits"]] == [
        ("train 1", 12),
        ("train 2", 4),
        ("dev", 4),
    ]
    path.write_text(path.read_text().replace('language = "pl"', 'language = "mdw"'))
    outcome = run("data", "check", path, "--base-model", base_folder)
    assert outcome.code == 1
    assert "dropped from train 2: 0.wav: " in outcome.out
    assert "language 'mdw': the base model has no token for it; borrow" in outcome.out


def test_evaluate_takes_a_list(tmp_path: Path, lists: Path, base_folder: Path, run: Run) -> None:
    options = ("--base-model", base_folder, "--language", "da", "--beams", "1", "--json")
    listed = run("evaluate", "base-model", "--data", lists / "dev.jsonl", *options).json
    folder = run("evaluate", "base-model", "--data", lists, "--split", "dev", *options).json
    assert listed["data_sha256"] == folder["data_sha256"]
    assert [row["hypothesis"] for row in listed["rows"]] == [row["hypothesis"] for row in folder["rows"]]
    assert (listed["data"], listed["split"]) == ("data", "dev")
    (lists / "dev.jsonl").write_text('{"audio_filepath": "dev/0.wav", "duration": 9, "text": "en"}\n')
    outcome = run("evaluate", "base-model", "--data", lists / "dev.jsonl", *options)
    assert outcome.code == 1
    assert "duration 9 s is stated, but the file holds 0.50 s" in outcome.err
