"""A folder that lies here by chance, or by intent, is never taken for an adapter of that name."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from command_line import Run
from making import make_artifact

from adapter_hub import embedded
from adapter_hub.errors import InvalidInputError
from adapter_hub.formats.reference import AdapterRef, is_folder_of_store, is_local, parse_source

COMMANDS = [["show"], ["card"], ["lineage"], ["audit"], ["diff", "mini/it"]]


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
def test_a_folder_named_like_an_adapter_does_not_take_its_place(
    run: Run, tmp_path: Path, command: list[str]
) -> None:
    before = run(*command, "mini/da")
    make_artifact(tmp_path / "mini" / "da", "evil/da", license="LicenseRef-evil")

    after = run(*command, "mini/da")

    assert (after.code, after.out) == (before.code, before.out)
    assert "evil" not in after.out


def test_a_name_that_no_registry_has_says_how_the_folder_is_named(run: Run, tmp_path: Path) -> None:
    make_artifact(tmp_path / "alice" / "da")

    outcome = run("show", "alice/da")

    assert outcome.code == 1
    assert "the folder here is named ./alice/da" in outcome.err
    assert run("show", "./alice/da").code == 0


@pytest.mark.parametrize("command", ["show", "audit", "lineage", "pull"])
def test_what_cannot_be_a_name_is_a_folder_if_there_is_one(run: Run, tmp_path: Path, command: str) -> None:
    shutil.copytree(embedded.store_path() / "mini" / "it" / "1.0.0", tmp_path / "Out")

    assert run(command, "Out").code == 0
    assert run(command, "Missing").code != 0


@pytest.mark.parametrize(
    "word", ["auto", "base-model", "mini/da", "mini/da@1.0.0", "hf://mini/da", "mini/da~=1"]
)
def test_words_with_a_meaning_are_never_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, word: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / word.replace(":", "")).mkdir(parents=True)

    assert not is_local(word)


@pytest.mark.parametrize("text", ["a\0b", "x" * 5000, ""])
def test_what_no_system_can_name_is_no_folder(text: str) -> None:
    assert not is_local(text)


def test_what_a_user_calls_an_adapter_is_a_reference_or_the_folder_of_its_manifest() -> None:
    assert parse_source("mini/da@1.0.0") == AdapterRef("mini/da", "1.0.0")
    assert parse_source("hf://mini/da") == AdapterRef("mini/da", hub=True)
    assert parse_source("out/adapter.json") == parse_source("./out") == Path("out")
    assert parse_source(Path("mini/da")) == Path("mini/da")
    assert parse_source(AdapterRef("mini/da")) == AdapterRef("mini/da")
    with pytest.raises(InvalidInputError, match=r"adapter name 'Out': expected namespace/name"):
        parse_source("Out")


@pytest.mark.parametrize(
    ("label", "folder"),
    [("./store", True), ("/srv/store", True), ("embedded", False), ("hf://alice", False), ("s3://a", False)],
)
def test_a_store_s_label_names_a_folder_unless_it_is_embedded_or_elsewhere(label: str, folder: bool) -> None:
    assert is_folder_of_store(label) == folder
