"""A registry that somebody else writes: bad entries, files without end, and what this machine remembers."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from command_line import Run
from making import make_artifact

from adapter_hub.errors import AdapterHubError, InvalidInputError
from adapter_hub.formats.registry_file import Adapters, registry_bytes
from adapter_hub.registry.file import FileRegistry

LAST = 2**53 - 1


@pytest.fixture
def path(tmp_path: Path, run: Run) -> Path:
    """A registry with test/da 1.0.0 and test/el 1.0.0, published by command."""
    for number, name in enumerate(("test/da", "test/el")):
        artifact = make_artifact(tmp_path / name.replace("/", "-"), name, seed=number + 1.0)
        assert run("publish", artifact.path).code == 0
    return tmp_path / "registry.json"


def edit(path: Path, change: Callable[[dict[str, Any]], Any], *, raises: int = 1) -> None:
    tree = json.loads(path.read_bytes())
    tree["sequence"] += raises
    change(tree)
    path.write_bytes(registry_bytes(tree))


def one_line(text: str) -> bool:
    return text.startswith("error: ") and text.count("\n") == 1


# one write must not make a registry unreadable


def test_the_last_sequence_is_refused_before_writing_and_a_rebuild_begins_anew(
    path: Path, run: Run, tmp_path: Path
) -> None:
    edit(path, lambda tree: tree.update(sequence=LAST))
    before, more = path.read_bytes(), make_artifact(tmp_path / "more", "test/pl", seed=5.0)
    for words in (("publish", more.path), ("retire", "test/da@1.0.0", "--status", "yanked", "--reason", "x")):
        refused = run(*words)
        assert refused.code == 1
        assert one_line(refused.err)
        assert "`adapter-hub registry rebuild` makes it from scratch, under a new id" in refused.err
        assert path.read_bytes() == before
    assert run("pull", "test/da").code == 0
    rebuilt = run("registry", "rebuild")
    assert rebuilt.code == 0
    assert "was started from scratch, with the id" in rebuilt.err
    assert path.with_name("registry.json.damaged").read_bytes() == before
    after = json.loads(path.read_bytes())
    assert after["sequence"] == 1
    assert after["registry_id"] != json.loads(before)["registry_id"]
    assert run("publish", more.path).code == 0
    assert {row["name"] for row in run("list", "--json").json} >= {"test/da", "test/el", "test/pl"}


def test_whoever_saw_a_registry_is_told_once_that_it_began_anew(path: Path, run: Run, tmp_path: Path) -> None:
    there = ("--cache", str(tmp_path / "there"))
    assert run(*there, "list").code == 0
    edit(path, lambda tree: tree.update(sequence=LAST))
    assert run("registry", "rebuild").code == 0
    refused = run(*there, "list")
    assert refused.code == 1
    assert one_line(refused.err)
    assert "another registry" in refused.err
    Path(refused.err.strip().rpartition(" delete ")[2]).unlink()
    assert run(*there, "list").code == 0


BAD_ENTRIES: dict[str, tuple[str, str, Any]] = {
    "a bad name": ("-upper/da", "1.0.0", {}),
    "a reserved name": ("auto/da", "1.0.0", {}),
    "a name of control characters": ("a\x1b[2J/b", "1.0.0", {}),
    "a bad version": ("test/bad", "01.0.0", {}),
    "an empty version": ("test/bad", "", {}),
    "an empty block": ("test/bad", "1.0.0", {"schema": "version/1"}),
    "a block that is a number": ("test/bad", "1.0.0", 5),
    "a block of a later schema": ("test/bad", "1.0.0", {"schema": "version/7", "digest": "blake9:1"}),
    "a block with an odd schema": ("test/bad", "1.0.0", {"schema": ["version/1"]}),
    "a block nested": ("test/bad", "1.0.0", json.loads("[" * 40 + "]" * 40)),
}


AUDITED = ("a bad name", "an empty block", "a block that is a number")  # by an audit of all, which is slow


@pytest.mark.parametrize("kind", BAD_ENTRIES)
def test_a_bad_entry_is_listed_skipped_and_preserved_and_the_others_go_on(
    path: Path, run: Run, tmp_path: Path, kind: str
) -> None:
    name, version, block = BAD_ENTRIES[kind]
    edit(path, lambda tree: tree["adapters"].update({name: {version: block}}))
    listed = run("list", "--json")
    assert listed.code == 0
    assert len([row for row in listed.json if row["status"] == "unreadable"]) == 1
    assert run("list").code == 0
    assert "\x1b" not in run("list").out
    assert run("pull", "test/da").code == 0
    more = make_artifact(tmp_path / "more", "test/pl", seed=5.0)
    assert run("publish", more.path).code == 0
    assert json.loads(path.read_bytes())["adapters"][name] == {version: block}
    if kind in AUDITED:
        assert any(f["code"] == "entry-unreadable" for f in run("audit", "--json").json)
    if name == "test/bad":
        refused = run("pull", f"{name}@1.0.0")
        assert refused.code == 1
        assert one_line(refused.err)


@pytest.mark.parametrize("value", [5, None, [], "text"])
def test_a_name_without_versions_is_one_bad_entry(path: Path, run: Run, value: Any) -> None:
    edit(path, lambda tree: tree["adapters"].update({"test/bad": value}))
    assert run("list").code == 0
    refused = run("pull", "test/bad")
    assert (refused.code, one_line(refused.err)) == (1, True)
    assert "cannot be read" in refused.err
    assert run("retire", "test/da@1.0.0", "--status", "yanked", "--reason", "x").code == 0
    assert json.loads(path.read_bytes())["adapters"]["test/bad"] == value


def test_a_rebuild_writes_a_bad_entry_anew_from_the_store(path: Path, run: Run) -> None:
    good = json.loads(path.read_bytes())["adapters"]
    edit(path, lambda tree: tree["adapters"]["test/da"]["1.0.0"].update(rank="eight"))
    refused = run("pull", "test/da")
    assert (refused.code, one_line(refused.err)) == (1, True)
    assert run("registry", "rebuild").code == 0
    assert json.loads(path.read_bytes())["adapters"] == good


@pytest.mark.parametrize("change", [{"registry_id": 5}, {"sequence": 2**53}, {"sequence": "1"}, {"more": 1}])
def test_a_rebuild_gets_out_of_a_header_that_nobody_can_read(
    path: Path, run: Run, change: dict[str, Any]
) -> None:
    good = json.loads(path.read_bytes())["adapters"]
    edit(path, lambda tree: tree.update(change))
    refused = run("list")
    assert (refused.code, one_line(refused.err)) == (1, True)
    assert "adapter-hub registry rebuild" in refused.err
    assert run("registry", "rebuild").code == 0
    assert json.loads(path.read_bytes())["adapters"] == good
    assert run("list").code == 0


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b"[]",
        b"[" * 5000,
        b'{"adapters": {"a/b": {"1.0.0": ' + b"[" * 400 + b"]" * 400 + b"}}}",
    ],
)
def test_a_rebuild_gets_out_of_a_file_that_is_no_registry(path: Path, run: Run, raw: bytes) -> None:
    good = json.loads(path.read_bytes())["adapters"]
    path.write_bytes(raw)
    assert run("list").code == 1
    rebuilt = run("registry", "rebuild")
    assert rebuilt.code == 0
    assert "was started from scratch" in rebuilt.err
    assert json.loads(path.read_bytes())["adapters"] == good
    assert path.with_name("registry.json.damaged").read_bytes() == raw


def test_a_rebuild_leaves_a_registry_of_a_later_program_alone(path: Path, run: Run) -> None:
    edit(path, lambda tree: tree.update(schema="registry/2"))
    before = path.read_bytes()
    refused = run("registry", "rebuild")
    assert (refused.code, one_line(refused.err)) == (1, True)
    assert "newer than this program" in refused.err
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("name", "version", "fields"),
    [
        ("-upper/da", "1.0.0", {}),
        ("test--x/da", "1.0.0", {}),
        ("test/x", "1.0", {}),
        ("test/x", "1.0.0", {"rank": 0}),
        ("test/x", "1.0.0", {"published": "yesterday"}),
        ("test/x", "1.0.0", {"license": "\ud800"}),
    ],
)
def test_what_could_not_be_read_again_is_never_written(
    path: Path, name: str, version: str, fields: dict[str, Any]
) -> None:
    before = path.read_bytes()

    def change(adapters: Adapters) -> None:
        block = adapters["test/da"]["1.0.0"].model_copy(update={"digest": f"sha256:{'1' * 64}", **fields})
        adapters[name] = {version: block}

    with pytest.raises(InvalidInputError, match="nothing was written"):
        FileRegistry(path).update(change)
    assert path.read_bytes() == before


# files that are meant to fill the memory or to stop the reader


@pytest.mark.parametrize("piece", [b"[]", b"{}", b"[[]]"])
def test_lists_without_end_are_refused_before_they_are_made(path: Path, run: Run, piece: bytes) -> None:
    filling = b",".join([piece] * 4_000_000)
    path.write_bytes(b'{"adapters": {"test/da": [' + filling + b"]}}")
    start = time.monotonic()
    refused = run("list")
    assert time.monotonic() - start < 2.0
    assert (refused.code, one_line(refused.err)) == (1, True)
    assert "lists and objects in" in refused.err


@pytest.mark.parametrize("kind", ["pipe", "folder", "endless"])
def test_what_is_no_ordinary_file_is_refused_at_once(path: Path, run: Run, kind: str) -> None:
    path.unlink()
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to("/dev/zero")
    refused = run("list")
    assert (refused.code, one_line(refused.err)) == (1, True)


def test_an_error_about_a_registry_is_short(path: Path, run: Run) -> None:
    edit(path, lambda tree: tree.update({f"field{n}": "x" * 100 for n in range(10_000)}))
    refused = run("list")
    assert (refused.code, one_line(refused.err)) == (1, True)
    assert len(refused.err) < 1000


@pytest.mark.parametrize("text", ["\x1b]52;c;eA==\x07", "x\nerror: all is lost"])
def test_an_id_is_shown_harmless(path: Path, run: Run, text: str) -> None:
    edit(path, lambda tree: tree.update(registry_id=text))
    refused = run("list")
    assert (refused.code, one_line(refused.err)) == (1, True)
    assert "another registry" in refused.err
    assert "\x1b" not in refused.err


def test_one_digest_under_two_names_has_the_strictest_status(path: Path, run: Run, tmp_path: Path) -> None:
    assert run("retire", "test/da@1.0.0", "--status", "quarantined", "--reason", "bad").code == 0

    def again(tree: dict[str, Any]) -> None:
        block = {**tree["adapters"]["test/da"]["1.0.0"], "status": "active"}
        tree["adapters"].update({"a/first": {"1.0.0": block}, "z/last": {"1.0.0": block}})

    edit(path, again)
    for ref in ("a/first", "z/last@1.0.0"):
        refused = run("pull", ref)
        assert (refused.code, one_line(refused.err)) == (1, True)
        assert "quarantined" in refused.err

    def more(adapters: Adapters) -> None:
        adapters["test/new"] = {"1.0.0": adapters["test/el"]["1.0.0"]}

    with pytest.raises(AdapterHubError, match="test/new@1.0.0 would have the digest of test/el@1.0.0"):
        FileRegistry(path).update(more)
