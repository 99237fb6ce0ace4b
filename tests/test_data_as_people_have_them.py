"""Data sets and recipes as other programs write them; an error about a column says which there are."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from command_line import Run
from readme import ROOT

from adapter_hub.data.dataset import read_dataset
from adapter_hub.embedded import base_model_path
from adapter_hub.errors import InvalidInputError, NotFoundError
from adapter_hub.formats.reference import is_local, parse_source
from adapter_hub.speech.normalisers import normalise
from adapter_hub.trainers.recipe import read_recipe
from adapter_hub.trainers.recipe_template import new_recipe

CLIP = ROOT / "tests/clips/da.flac"
HEADER = "client_id\tpath\tsentence_id\tsentence\tup_votes\tlocale"


def common_voice(folder: Path) -> Path:
    """Write a data set as Mozilla's Common Voice has them."""
    (folder / "clips").mkdir(parents=True)
    for name, sentence in {"train": 'Hun sagde "hej"', "dev": "to", "test": "tre"}.items():
        shutil.copy(CLIP, folder / "clips" / f"{name}.mp3")
        row = f"c0ffee\t{name}.mp3\t1a\t{sentence}\t2\tda"
        (folder / f"{name}.tsv").write_text(f"{HEADER}\n{row}\n", encoding="utf-8")
    return folder


def test_common_voice_is_read_as_it_is_unpacked(tmp_path: Path) -> None:
    folder = common_voice(tmp_path / "cv" / "da")
    dataset = read_dataset(folder, "train")
    (row,) = dataset.rows
    assert (dataset.name, dataset.split) == ("da", "train")
    assert (row.text, row.speaker, row.language) == ('Hun sagde "hej"', "c0ffee", "da")
    assert row.path == folder / "clips" / "train.mp3"
    assert read_dataset(folder / "train.tsv").rows == dataset.rows
    with pytest.raises(NotFoundError, match="splits here: dev, test, train"):
        read_dataset(folder, "validated")


def test_common_voice_goes_through_the_commands(run: Run, tmp_path: Path) -> None:
    common_voice(tmp_path / "cv")
    done = run("data", "check", "cv")
    assert [line.split()[0] for line in done.out.splitlines()[1:4]] == ["train", "dev", "test"], done.err
    done = run("recipe", "new", "lora", "--data", "cv", "--out", "r.toml")
    assert done.code == 0, done.err
    recipe = read_recipe(Path("r.toml")).recipe
    assert (recipe.data.train, recipe.data.dev) == ("cv/train.tsv", "cv/dev.tsv")
    assert recipe.adapter.language == "da"
    done = run("evaluate", "mini/da", "--data", "cv", "--beams", "1", "--json")
    assert done.code == 0, done.err
    assert (done.json["split"], done.json["rows"][0]["reference"]) == ("test", "tre")


@pytest.mark.parametrize("column", ["text", "transcription"])
def test_an_audio_folder_s_columns_are_understood(tmp_path: Path, column: str) -> None:
    shutil.copy(CLIP, tmp_path / "a.flac")
    (tmp_path / "metadata.csv").write_text(f"\ufefffile_name,{column}\na.flac,en to\n", encoding="utf-8")
    assert read_dataset(tmp_path).rows[0].text == "en to"


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        (
            "metadata.csv",
            "audio,words\na.flac,to\n",
            "no file_name; the columns of the first such row are audio, words",
        ),
        (
            "metadata.csv",
            "file_name,words\na.flac,to\n",
            r"a\.flac: no text; the columns of .* are file_name, words",
        ),
        (
            "metadata.jsonl",
            '{"path": "a.flac", "label": "to"}',
            "no file_name; the columns of .* are path, label",
        ),
        (
            "list.jsonl",
            '{"audio": "a.flac", "text": "to"}',
            "no audio_filepath; the columns of .* are audio, text",
        ),
        ("train.tsv", "path\tlocale\na.flac\tda\n", "no file_name; the columns of .* are path, locale"),
    ],
)
def test_a_missing_column_is_told_with_those_that_are_there(
    tmp_path: Path, name: str, text: str, message: str
) -> None:
    shutil.copy(CLIP, tmp_path / "a.flac")
    (tmp_path / name).write_text(text)
    with pytest.raises(InvalidInputError, match=message):
        read_dataset(tmp_path if name.startswith("metadata") else tmp_path / name)


def test_a_recipe_of_a_windows_editor_is_read(tmp_path: Path) -> None:
    text = new_recipe("lora", language="da", namespace="alice")
    (tmp_path / "r.toml").write_text(text.replace("\n", "\r\n"), encoding="utf-8-sig", newline="")
    assert read_recipe(tmp_path / "r.toml").recipe.adapter.name == "alice/da"


def test_a_home_folder_is_one_in_recipes_and_references(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    shutil.copytree(base_model_path(), home / "whisper")
    monkeypatch.setenv("HOME", str(home))
    assert is_local("~/whisper")
    assert parse_source("~/out/da") == home / "out" / "da"
    shutil.copytree(common_voice(tmp_path / "cv"), home / "cv")
    text = new_recipe("lora", language="da", namespace="alice", authors=["A"], license="MIT")
    text = text.replace("adapter-hub/whisper-mini", "~/whisper").replace("data/da/train", "~/cv/train.tsv")
    Path("r.toml").write_text(text.replace("data/da/dev", "~/cv/dev.tsv") + "steps = 1\n")
    done = run("train", "r.toml", "--out", "out")
    assert "unknown key" not in done.err
    assert "no such" not in done.err
    assert "is not here" not in done.err


@pytest.mark.parametrize(
    ("language", "text", "wanted"),
    [
        ("en", "Mr. Park's colour, twenty-one days!", "mister park is color 21 days"),
        ("en-GB", "We're going to analyse it (laughs)", "we are going to analyze it"),
        ("en", "It costs $5.50, doesn't it?", "it costs $5.50 does not it"),
        ("de", "Grüße, Herr Müller!", "grüße herr müller"),
        ("ja", "二十一", "二 十 一"),
    ],
)
def test_whisper_1_is_the_normaliser_of_the_paper(language: str, text: str, wanted: str) -> None:
    assert normalise("whisper/1", text, language) == wanted


def test_a_report_names_the_normaliser_of_the_paper(run: Run, tmp_path: Path) -> None:
    common_voice(tmp_path / "cv")
    done = run("evaluate", "mini/da", "--data", "cv", "--beams", "1", "--normaliser", "whisper/1", "--json")
    assert json.loads(done.out)["normaliser"] == "whisper/1"
