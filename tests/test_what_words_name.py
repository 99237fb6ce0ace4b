"""The same words name the same adapter in every command: a name, a folder in any spelling, `hf://`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from command_line import Run
from small_whisper import write_speech

from adapter_hub.errors import InvalidInputError, NotFoundError
from adapter_hub.formats.reference import AdapterRef, is_local, parse_source
from adapter_hub.transcription.opening import load

SPELLINGS = ["out", "out/", "./out", "out/adapter.json", "~/out"]
COMMANDS = {
    "show": ["show", "{}"],
    "card": ["card", "{}"],
    "lineage": ["lineage", "{}"],
    "audit": ["audit", "{}"],
    "diff": ["diff", "{}", "mini/da"],
    "publish": ["publish", "{}"],
    "pull": ["pull", "{}"],
    "pull several": ["pull", "{}", "mini/pl", "--to", "pulled"],
    "transcribe": ["transcribe", "{}", "a.wav"],
    "transcribe auto": ["transcribe", "auto", "a.wav", "--adapter", "{}", "--fallback", "{}"],
    "evaluate": ["evaluate", "{}", "--data", "data"],
    "average": ["average", "{}", "mini/pl", "--as", "me/both@1.0.0", "--out", "both"],
    "a weighted sum": ["transcribe", "{}*0.5+mini/pl*0.5", "a.wav", "--language", "da"],
}


@pytest.fixture
def here(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is the home folder, too, with an artifact, a recording and a data set."""
    assert run("pull", "mini/da", "--to", "out").code == 0
    write_speech(tmp_path / "a.wav", seconds=1.0, seed=1)
    (tmp_path / "data").mkdir()
    write_speech(tmp_path / "data" / "a.wav", seconds=1.0, seed=1)
    (tmp_path / "data" / "metadata.jsonl").write_text(json.dumps({"file_name": "a.wav", "text": "en"}))
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("command", COMMANDS)
def test_a_folder_without_any_prefix_is_understood_by_every_command(
    run: Run, here: Path, command: str
) -> None:
    done = run(*(word.replace("{}", "out") for word in COMMANDS[command]))

    assert done.code == 0, done.err


def test_fold_understands_a_folder_and_says_that_it_is_no_pair(run: Run, here: Path) -> None:
    assert "mini/da@1.0.0" in run("fold", "out", "--out", "folded").err


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_every_spelling_of_a_folder_is_that_folder(run: Run, here: Path, spelling: str) -> None:
    assert isinstance(parse_source(spelling), Path)
    for command in ("show", "audit", "pull"):
        assert run(command, spelling).code == 0


def test_several_folders_are_copied_below_the_names_of_their_adapters(run: Run, here: Path) -> None:
    assert run("pull", here / "out", "mini/pl", "--to", "both").code == 0
    assert (here / "both" / "mini" / "da" / "adapter.json").is_file()


def test_a_path_object_is_a_folder_whatever_its_name(run: Run, here: Path) -> None:
    (here / "mini").mkdir()
    (here / "out").rename(here / "mini" / "da")
    write_speech(here / "mini" / "da" / "stray.wav", seconds=0.1, seed=1)

    assert parse_source(Path("mini/da")) == Path("mini/da")
    assert parse_source("mini/da") == AdapterRef("mini/da")
    with pytest.raises(Exception, match="stray"):
        load(Path("mini/da"), device="cpu")


def test_a_bare_folder_of_a_recipe_is_beside_the_recipe(tmp_path: Path) -> None:
    (tmp_path / "recipes" / "parent").mkdir(parents=True)

    assert is_local("parent", tmp_path / "recipes")
    assert not is_local("parent", tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "oot",
            "adapter name 'oot': expected namespace/name, or an artifact's folder; no folder of that name",
        ),
        ("https://huggingface.co/bob/da", "write hf://bob/da for that repository"),
        ("https://huggingface.co/bob/da/tree/main", "write hf://bob/da for that repository"),
        ("https://hf.co/bob/da", "write hf://bob/da for that repository"),
        ("~nobody-at-all/out", "no such user here"),
    ],
)
def test_what_names_nothing_is_answered_with_the_form_that_would(text: str, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        parse_source(text)


def test_recordings_that_are_not_there_cost_no_model(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "empty.wav").touch()
    words = ["base-model", "nope.wav", "empty.wav", "--base-model", "./absent"]  # a load would fail

    plain, structured = run("transcribe", *words), run("transcribe", *words, "--json")

    assert (plain.code, plain.out) == (1, "")
    assert plain.err.splitlines() == [
        "error: nope.wav: no such audio file",
        "error: empty.wav: an empty file (0 bytes); expected audio",
    ]
    assert structured.code == 1
    assert [item["source"] for item in structured.json] == ["nope.wav", "empty.wav"]


def test_a_registry_that_is_not_there_is_a_mistake_where_it_is_read(run: Run, tmp_path: Path) -> None:
    for words in (["list"], ["show", "mini/da"], ["pull", "mini/da"], ["audit"], ["registry", "check"]):
        done = run("--registry", "registy.json", *words)
        assert (done.code, done.out) == (1, ""), words
        assert done.err == (
            "error: --registry registy.json: no such file; check the path (`publish` makes a new registry "
            "there)\n"
        )
        assert run(*words, "--registry", "registy.json").err == done.err
    assert not (tmp_path / "registy.json").exists()


def test_a_registry_is_made_where_it_is_written(run: Run, here: Path) -> None:
    assert run("--registry", "new/registry.json", "publish", "out").code == 0
    assert run("publish", "out", "--registry", "other/registry.json").code == 0
    assert run("--registry", "third/registry.json", "registry", "rebuild").code == 0
    assert run("list").code == 0, "one of the environment need not be there yet"
    assert run("--registry", "new/registry.json", "list").code == 0
    assert run("list", "--registry", "hf://datasets/nobody/at-all").code == 1


@pytest.mark.parametrize("options", [["--device", "nope"], ["--dtype", "int4"], ["--cache", ""]])
def test_global_options_may_stand_behind_the_command(run: Run, here: Path, options: list[str]) -> None:
    words = ["transcribe", "base-model", "a.wav", "--language", "da"]

    before, behind = run(*options, *words), run(*words, *options)

    assert behind.code == before.code != 0
    assert options[0].strip("-") in behind.err


def test_a_cache_named_behind_the_command_is_the_cache(run: Run, here: Path) -> None:
    assert run("pull", "mini/pl", "--cache", "mine").code == 0
    assert (here / "mine" / "artifacts").is_dir()
    assert run("cache", "list", "--cache", "mine", "--json").json


def test_the_catalogue_of_a_checkout_is_not_written_to_by_chance(
    run: Run, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from adapter_hub import embedded

    monkeypatch.delenv("ADAPTER_HUB_REGISTRY")
    before = embedded.registry_path().read_bytes()
    (here / "registry.json").write_bytes(before)

    done = run("publish", "out", "--as", "me/da@1.0.0")

    assert done.code == 0, done.err
    assert "registry.json is not used" not in done.err
    assert (here / "registry.json").read_bytes() == before
    assert run("show", "me/da").code == 0
    named = run("publish", "out", "--as", "me/da@1.0.1", "--registry", "registry.json")
    assert named.code == 1
    assert "is the embedded catalogue" in named.err
    assert (here / "registry.json").read_bytes() == before


def test_a_folder_that_is_not_there_is_named_as_such(run: Run) -> None:
    with pytest.raises(NotFoundError, match="absent"):
        load("./absent")
