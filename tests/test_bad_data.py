"""Data that cannot be trained on: one line that says what, where and what to do, and nothing left behind."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from command_line import Run
from small_training import recipe

from adapter_hub.errors import InvalidInputError
from adapter_hub.trainers.recipe import read_recipe

Spoil = Callable[[Path, Path], None]  # the data set's folder, the recipe


def rewrite(data: Path, text: str) -> None:
    rows = [json.loads(line) for line in (data / "train" / "metadata.jsonl").read_text().splitlines()]
    lines = [json.dumps(row | {"text": text}) + "\n" for row in rows]
    (data / "train" / "metadata.jsonl").write_text("".join(lines))


def no_audio_files(data: Path, _: Path) -> None:
    for path in (data / "train").glob("*.wav"):
        path.unlink()


def nothing_but_silence_of_no_length(data: Path, _: Path) -> None:
    for path in (data / "train").glob("*.wav"):
        soundfile.write(path, np.zeros(0, np.float32), 16_000)


def text_files_named_wav(data: Path, _: Path) -> None:
    for path in (data / "train").glob("*.wav"):
        path.write_text("this is not audio")


def texts_longer_than_the_decoder(data: Path, _: Path) -> None:
    rewrite(data, "tre " * 60)


def a_language_without_token(_: Path, path: Path) -> None:
    path.write_text(path.read_text().replace('language = "da"', 'language = "mdw"'))


def rows_of_a_language_without_token(data: Path, _: Path) -> None:
    rows = [json.loads(line) for line in (data / "train" / "metadata.jsonl").read_text().splitlines()]
    rows[3]["language"] = "mdw"
    (data / "train" / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def no_folder_at_all(data: Path, _: Path) -> None:
    os.rename(data / "train", data / "elsewhere")  # noqa: PTH104


def every_row_too_short(_: Path, path: Path) -> None:
    path.write_text(path.read_text().replace("[lora]", "shortest_seconds = 3\n[lora]"))


BAD: dict[Spoil, str] = {
    no_audio_files: "metadata.jsonl: line 1: 0.wav: no such audio file; line 2: .*; and 7 more",
    nothing_but_silence_of_no_length: "train: no row can be used, the first because of: .*0.wav",
    text_files_named_wav: "no row can be used, the first because of: .*0.wav: cannot be read as audio",
    texts_longer_than_the_decoder: "the first because of: text of .* tokens, the decoder holds 40; split",
    a_language_without_token: "decode language 'mdw': .* has no token for it",
    rows_of_a_language_without_token: r"3.wav: language 'mdw': .*borrow .* with decode_language = \"…\"",
    no_folder_at_all: "data/train: no such folder; expected a data set with metadata.jsonl or",
    every_row_too_short: "the first because of: 0.wav: 0.50 s of audio; data.shortest_seconds is 3",
}


@pytest.mark.parametrize("spoil", BAD, ids=lambda spoil: spoil.__name__)
def test_data_that_cannot_be_trained_on_is_one_line(
    spoil: Spoil, tmp_path: Path, data: Path, base_folder: Path, run: Run
) -> None:
    path = recipe(tmp_path, base_folder)
    spoil(data, path)
    outcome = run("--cache", tmp_path / "cache", "--device", "cpu", "train", path, "--out", tmp_path / "out")
    assert outcome.code == 1
    (line,) = [line for line in outcome.err.splitlines() if line.startswith("error: ")]
    assert re.search(BAD[spoil], line), line
    assert "Traceback" not in outcome.err
    assert outcome.out == ""
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "out.training").exists()


METADATA: dict[str, tuple[str, str, str]] = {
    "a quote left open": (
        "metadata.csv",
        'file_name,text\n0.wav,"tre\n' + "1.wav,tre\n" * 20_000,
        "line 2: not CSV .*; is a quote left open",
    ),
    "half a character": (
        "metadata.jsonl",
        r'{"file_name": "0.wav", "text": "tre \ud800"}',
        "line 1: 0.wav: a lone surrogate .* in the text",
    ),
}


@pytest.mark.parametrize("sentence", METADATA)
def test_metadata_that_cannot_be_read_is_one_line_of_evaluate_and_of_data_check(
    sentence: str, data: Path, base_folder: Path, run: Run
) -> None:
    name, text, message = METADATA[sentence]
    (data / "dev" / "metadata.jsonl").unlink()
    (data / "dev" / name).write_text(text)
    options = ("--base-model", base_folder)
    for command in (("evaluate", "base-model", "--data"), ("data", "check")):
        outcome = run("--device", "cpu", *command, data / "dev", *options)
        assert outcome.code == 1
        (line,) = outcome.err.splitlines()
        assert re.match(f"error: .*{name}: {message}", line), line


BAD_TABLES = {
    "two places at once": (
        'folder = "a"\nmanifest = "b"',
        "exactly one of folder, manifest, dataset; found folder",
    ),
    "no place": ('language = "da"', "exactly one of folder, manifest, dataset; found none of them"),
    "a split of a folder": (
        'folder = "a"\nsplit = "train"',
        "config, split and revision of a source go with `datas",
    ),
    "a data set without revision": ('dataset = "a/b"\nsplit = "train"', "needs its revision"),
    "a data set at a branch": (
        'dataset = "a/b"\nsplit = "train"\nrevision = "main"',
        "revision 'main' of a/b: expected a commit's 40 hexadecimal digits.*git ls-remote",
    ),
    "no weight": ('folder = "a"\nweight = 0', "weight: .*greater than 0.*'0'"),
    "no hours": ('folder = "a"\nhours = -1', "hours: .*greater than 0"),
    "a typo": ('foldr = "a"', r"unknown key 'data.train\[1\].foldr', did you mean 'folder'\?"),
}


@pytest.mark.parametrize("sentence", BAD_TABLES)
def test_a_wrong_source_is_told_with_its_key(sentence: str, tmp_path: Path, base_folder: Path) -> None:
    source, message = BAD_TABLES[sentence]
    path = recipe(tmp_path, base_folder)
    text = path.read_text().replace('train = "data/train"\n', "")
    path.write_text(f"{text}[[data.train]]\n{source}\n")
    with pytest.raises(InvalidInputError, match=message) as caught:
        read_recipe(path)
    assert "\n" not in str(caught.value)


def test_what_does_not_go_with_sources_or_dev_is_told(tmp_path: Path, base_folder: Path) -> None:
    path = recipe(tmp_path, base_folder)
    good = path.read_text()
    text = good.replace('train = "data/train"\n', 'id = "mine"\n')
    path.write_text(f'{text}[[data.train]]\nfolder = "a"\n')
    with pytest.raises(InvalidInputError, match="data: .*id and revision go with one folder"):
        read_recipe(path)
    text = good.replace('dev = "data/dev"\n', "")
    path.write_text(f'{text}[[data.dev]]\nfolder = "a"\nweight = 2\n')
    with pytest.raises(InvalidInputError, match=r"dev\[1\].weight: every row of dev is evaluated once"):
        read_recipe(path)
    path.write_text(good.replace("[lora]", "shortest_seconds = 3\nlongest_seconds = 2\n[lora]"))
    with pytest.raises(InvalidInputError, match="longest_seconds 2 is not above shortest_seconds"):
        read_recipe(path)
