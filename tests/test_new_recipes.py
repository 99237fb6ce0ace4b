"""`recipe new`: what is given or shown by the data is checked and filled in; `train` refuses what is left."""

from __future__ import annotations

import json
import shutil
import tomllib
from pathlib import Path
from typing import Any

import pytest
from command_line import Outcome, Run
from readme import ROOT

from adapter_hub.embedded import base_model_path
from adapter_hub.trainers.drafting import spdx
from adapter_hub.trainers.recipe import read_recipe

CLIP = ROOT / "tests/clips/da.flac"
MINE = ("--namespace", "alice", "--author", "Alice", "--license", "cc-by-4.0")


def write_split(folder: Path, **columns: Any) -> Path:
    folder.mkdir(parents=True)
    shutil.copy(CLIP, folder / "a.flac")
    (folder / "metadata.jsonl").write_text(json.dumps({"file_name": "a.flac", "text": "en to", **columns}))
    return folder


def made(done: Outcome, file: str = "r.toml") -> dict[str, Any]:
    assert done.code == 0, done.err
    return tomllib.loads(Path(file).read_text())


def new(run: Run, *words: str, method: str = "lora") -> Outcome:
    return run("recipe", "new", method, *words, "--out", "r.toml")


@pytest.mark.parametrize("method", ["lora", "warm-start", "expert-pair", "full-fine-tuning"])
def test_what_the_folder_shows_is_filled_in(run: Run, tmp_path: Path, method: str) -> None:
    for split in ("train", "validation"):
        write_split(tmp_path / "data" / split, language="da")
    (tmp_path / "data" / "README.md").write_text("---\nlanguage: da\nlicense: cc0-1.0\n---\n# Numbers\n")
    recipe = made(new(run, "--data", "data", *MINE, method=method))
    assert recipe["adapter"]["name"].startswith("alice/da")
    assert (recipe["adapter"]["language"], recipe["adapter"]["license"]) == ("da", "CC-BY-4.0")
    assert recipe["adapter"]["authors"] == ["Alice"]
    assert recipe["data"] == {"train": "data/train", "dev": "data/validation", "license": "CC0-1.0"}
    assert "Your Name" not in Path("r.toml").read_text()


def test_paths_lead_from_the_recipe_to_the_data_and_the_base_model(run: Run, tmp_path: Path) -> None:
    write_split(tmp_path / "clips", language="da")
    shutil.copytree(base_model_path(), "whisper")
    Path("recipes").mkdir()
    done = run(
        "recipe", "new", "lora", "--data", "clips", "--base-model", "./whisper", "--out", "recipes/r.toml"
    )
    recipe = made(done, "recipes/r.toml")
    assert (recipe["data"], recipe["base_model"]) == ({"train": "../clips"}, {"id": "../whisper"})
    assert read_recipe(Path("recipes/r.toml")).resolve("../clips").resolve() == tmp_path / "clips"


@pytest.mark.parametrize(
    ("words", "tag", "name"),
    [
        ("pt-BR", "pt-BR", "pt-br"),
        ("danish", "da", "da"),
        ("Portuguese", "pt", "pt"),
        ("zh-Hant-TW", "zh-Hant-TW", "zh-hant-tw"),
        ("nb", "nb", "nb"),
    ],
)
def test_a_language_is_written_as_training_takes_it(run: Run, words: str, tag: str, name: str) -> None:
    recipe = made(new(run, "--language", words, "--base-model", "openai/whisper-small", *MINE))
    assert (recipe["adapter"]["language"], recipe["adapter"]["name"]) == (tag, f"alice/{name}")


def test_a_recipe_s_own_language_names_and_regions_are_understood(run: Run) -> None:
    made(new(run, "--language", "pt", *MINE))
    text = Path("r.toml").read_text()
    for language, code in {"pt-BR": "pt", "Danish": "da", "nb-NO": "no"}.items():
        Path("s.toml").write_text(text.replace('language = "pt"', f'language = "{language}"'))
        assert read_recipe(Path("s.toml")).recipe.decode_language == code


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--language", "mdw"], "--language mdw: .* has no token for it; name one whose token it borrows"),
        (["--language", "mdw", "--decode-language", "mdw"], "--decode-language mdw: .* nearest"),
        (["--language", "da", "--namespace", "a b"], "'a b/x'"),
        (["--language", "da", "--license", "apache 2"], "licence 'apache 2': expected an SPDX expression"),
        (["--language", "da", "--data", "absent"], "absent: no such folder"),
        (["--language", "da", "--data", "data"], "the rows of data/train are in sv"),
        (["--language", "da", "--base-model", "./absent"], "absent"),
    ],
)
def test_what_training_would_refuse_is_refused_before_anything_is_written(
    run: Run, tmp_path: Path, words: list[str], message: str
) -> None:
    import re

    write_split(tmp_path / "data" / "train", language="sv")
    words = ["data/train" if word == "data" else word for word in words]
    done = new(run, *words)
    assert (done.code, done.err.count("error: "), Path("r.toml").exists()) == (1, 1, False)
    assert re.search(message, done.err)


def test_a_language_without_a_token_borrows_one(run: Run) -> None:
    recipe = made(new(run, "--language", "mdw", "--decode-language", "Italian", *MINE))
    assert (recipe["adapter"]["language"], recipe["adapter"]["decode_language"]) == ("mdw", "it")


def test_rows_in_several_languages_ask_for_the_adapter_s(run: Run, tmp_path: Path) -> None:
    folder = write_split(tmp_path / "data", language="sv")
    rows = [{"file_name": "a.flac", "text": "en", "language": "sv"}]
    shutil.copy(CLIP, folder / "b.flac")
    rows.append({"file_name": "b.flac", "text": "to", "language": "da"})
    (folder / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    done = new(run, "--data", "data")
    assert "its rows are in da, sv; name the adapter's --language" in done.err


def test_training_refuses_every_placeholder_that_is_left(run: Run, tmp_path: Path) -> None:
    write_split(tmp_path / "data", language="da")
    done = new(run, "--data", "data")
    assert "write your own adapter.name, adapter.license, adapter.authors in it" in done.err
    done = run("train", "r.toml", "--out", "out")
    assert (done.code, done.err.count("error: ")) == (1, 1)
    assert "adapter.name, adapter.license, adapter.authors: still an example of `recipe new`" in done.err
    assert not any(Path().glob("out*"))
    Path("r.toml").unlink()
    assert "write your own adapter.name, adapter.language" in new(run).err
    assert "adapter.language" in run("train", "r.toml", "--out", "out").err


def test_a_licence_is_an_spdx_expression_in_any_case() -> None:
    assert [spdx(text) for text in ("mit", "Apache-2.0 or MIT", "LicenseRef-mine")] == [
        "MIT",
        "Apache-2.0 OR MIT",
        "LicenseRef-mine",
    ]
