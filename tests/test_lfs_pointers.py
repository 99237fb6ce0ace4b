"""What git left in the place of a large file is told apart from a damaged one, wherever sound is read."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from command_line import Run
from hub_speech import parquet, publish_data, reader, rows_of_speech
from loopback_hub import LoopbackHub
from small_whisper import write_speech

from adapter_hub.data.clips import FileClip
from adapter_hub.data.dataset import read_dataset
from adapter_hub.data.hub_dataset import HubSplit, read_hub_dataset
from adapter_hub.data.parquet_shard import unpack
from adapter_hub.errors import InvalidInputError
from adapter_hub.hub import RepoId
from adapter_hub.model.base_model import BaseModel
from adapter_hub.speech.audio import audio_blocks, audio_seconds, decode_audio, read_audio, read_audio_part
from adapter_hub.trainers.data.preparing import prepare
from adapter_hub.trainers.data.rows import RowRules
from adapter_hub.trainers.data.sources import Source

POINTER = (
    b"version https://git-lfs.github.com/spec/v1\n"
    b"oid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\nsize 12345\n"
)
SAID = r"a Git LFS pointer in the file's place; run `git lfs pull`"
READERS: dict[str, Callable[[Path], Any]] = {
    "whole": read_audio,
    "bytes": lambda path: decode_audio(path.read_bytes(), path),
    "a part": lambda path: read_audio_part(path, 1.0, 2.0, sha256="0" * 64),
    "in blocks": lambda path: list(audio_blocks(path, lambda flaw: None)),
    "its length": audio_seconds,
    "a clip": lambda path: FileClip(path).read(),
}


def pointer(path: Path) -> Path:
    path.write_bytes(POINTER)
    return path


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("suffix", ["wav", "flac", "mp3", "opus", "m4a"])
def test_a_pointer_in_the_place_of_sound_is_one(reader: str, suffix: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match=rf"clip\.{suffix}: {SAID}") as caught:
        READERS[reader](pointer(tmp_path / f"clip.{suffix}"))
    assert "\n" not in str(caught.value)


def test_transcribe_says_so_and_goes_on(run: Run, tmp_path: Path) -> None:
    write_speech(tmp_path / "a.wav", 1.0)
    pointer(tmp_path / "b.wav")
    said = run("transcribe", "base-model", "a.wav", "b.wav", "--language", "da", "--beams", "1", "--json")
    assert said.code == 1
    assert ["error" in row for row in json.loads(said.out)] == [False, True]
    errors = [line for line in said.err.splitlines() if line.startswith("error:")]
    assert len(errors) == 1
    assert "b.wav: a Git LFS pointer in the file's place; run `git lfs pull` in that folder" in errors[0]


@pytest.mark.parametrize("command", ["data check", "evaluate"])
def test_a_data_set_says_which_row(command: str, run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "speech"
    folder.mkdir()
    write_speech(folder / "0.wav", 1.0)
    pointer(folder / "1.wav")
    rows = [{"file_name": f"{i}.wav", "text": "en", "language": "da"} for i in range(2)]
    (folder / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = ["speech"] if command == "data check" else ["mini/da", "--data", "speech", "--beams", "1"]
    said = run(*command.split(), *words)
    assert "1.wav: a Git LFS pointer in the file's place; run `git lfs pull`" in said.out + said.err
    assert "cannot be read as audio" not in said.out + said.err


@pytest.mark.parametrize("name", ["metadata.jsonl", "metadata.csv", "speech.jsonl", "train.tsv"])
def test_a_list_of_recordings_may_be_a_pointer_too(name: str, tmp_path: Path) -> None:
    path = pointer(tmp_path / name)
    with pytest.raises(InvalidInputError, match=rf"{name}: {SAID}"):
        read_dataset(tmp_path if name.startswith("metadata") else path)


def test_a_parquet_file_and_the_sound_in_one_may_be_pointers(tmp_path: Path, base: BaseModel) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(InvalidInputError, match=rf"train\.parquet: {SAID}"):
        unpack(pointer(tmp_path / "train.parquet"), tmp_path / "out", "audio", "train.parquet")
    rows = rows_of_speech(2)
    rows[1]["audio"] = {"bytes": POINTER, "path": "1.flac"}
    with LoopbackHub(tmp_path / "hub") as hub:
        commit = publish_data(hub, "alice/speech", {"da_dk/train/0000.parquet": parquet(rows)})
        wanted = HubSplit(RepoId("alice/speech", "dataset"), commit, "train", "da_dk")
        dataset = read_hub_dataset(wanted, tmp_path / "cache", reader(hub))
        prepared = prepare([Source(dataset)], base, RowRules(language="da"))
    assert [example.id for example in prepared.examples] == ["0.flac"]
    assert SAID in prepared.dropped[0].reason
