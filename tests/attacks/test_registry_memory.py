"""What this machine saw of a registry: another, an older and a changed one in its place are refused."""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from command_line import Outcome, Run
from hub_registries import LABEL, REPO, adding, hub_registry
from loopback_hub import LoopbackHub
from making import make_artifact

from adapter_hub.errors import IntegrityError
from adapter_hub.formats.registry_file import registry_bytes
from adapter_hub.paths import cache_folder
from adapter_hub.registry.file import FileRegistry


@pytest.fixture
def path(tmp_path: Path, run: Run) -> Path:
    """A registry with test/da 1.0.0 in quarantine, as this machine knows."""
    assert run("publish", make_artifact(tmp_path / "da").path).code == 0
    words = ("test/da@1.0.0", "--status", "quarantined", "--reason", "bad text")
    assert run("retire", *words).code == 0
    return tmp_path / "registry.json"


def edit(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    tree = json.loads(path.read_bytes())
    change(tree)
    path.write_bytes(registry_bytes(tree))


def flip(tree: dict[str, Any]) -> None:
    block = tree["adapters"]["test/da"]["1.0.0"]
    block["status"] = "active"
    del block["reason"]


def another(tree: dict[str, Any]) -> None:
    flip(tree)
    tree["registry_id"] = str(uuid.uuid4())


def older(tree: dict[str, Any]) -> None:
    flip(tree)
    tree["sequence"] = 1


def nothing_written_yet(tree: dict[str, Any]) -> None:
    flip(tree)
    tree["sequence"] = 0


def longer(tree: dict[str, Any]) -> None:
    tree["adapters"]["test/da"]["1.0.0"]["license"] = "MIT"


def refusal(outcome: Outcome) -> str:
    assert outcome.code == 1
    assert outcome.err.startswith("error: ")
    assert outcome.err.count("\n") == 1
    return outcome.err


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (flip, "its content changed, but its sequence is still 2"),
        (longer, "its content changed, but its sequence is still 2"),
        (another, "another registry"),
        (older, "its sequence went back from 2 to 1"),
        (nothing_written_yet, "its sequence went back from 2 to 0"),
    ],
)
def test_what_is_not_the_registry_that_was_seen_is_refused_with_the_way_to_accept_it(
    path: Path, run: Run, tmp_path: Path, change: Callable[[dict[str, Any]], Any], what: str
) -> None:
    edit(path, change)
    more = make_artifact(tmp_path / "more", "test/el", seed=3.0)
    for words in (("list",), ("pull", "test/da"), ("publish", more.path), ("registry", "rebuild")):
        assert what in refusal(run(*words))
    Path(refusal(run("list")).strip().rpartition(" delete ")[2]).unlink()
    assert run("list").code == 0


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"schema": "another/9"}', b"\xff", "pipe", "folder"])
@pytest.mark.parametrize("of", ["id", "place"])
def test_a_damaged_memory_is_told_and_never_taken_for_none(
    path: Path, run: Run, content: bytes | str, of: str
) -> None:
    edit(path, older)
    names = sorted((cache_folder() / "remembered").glob("*.json"))
    (memory,) = [name for name in names if name.name.startswith("at-") == (of == "place")]
    memory.unlink()
    if content == "pipe":
        os.mkfifo(memory)
    elif content == "folder":
        memory.mkdir()
    else:
        assert isinstance(content, bytes)
        memory.write_bytes(content)
    text = refusal(run("list"))
    assert "what this machine remembers of it cannot be read" in text
    assert text.strip().endswith(f"if you trust it as it is now, delete {memory}")
    memory.rmdir() if memory.is_dir() else memory.unlink()
    assert run("list").code == (1 if of == "place" else 0)  # the id's memory still knows the sequence


def test_a_registry_that_is_gone_is_no_empty_one_to_publish_into(
    path: Path, run: Run, tmp_path: Path
) -> None:
    path.unlink()
    more = make_artifact(tmp_path / "more", "test/el", seed=3.0)
    assert "it is gone; this machine saw it with sequence 2" in refusal(run("publish", more.path))
    assert not path.exists()
    assert run("registry", "rebuild").code == 0
    assert run("publish", more.path).code == 0
    assert json.loads(path.read_bytes())["adapters"]["test/da"]["1.0.0"]["status"] == "quarantined"


def test_line_endings_of_another_system_are_the_same_registry(path: Path, run: Run) -> None:
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    assert run("list").code == 0


def test_a_registry_that_moves_to_another_folder_is_still_known(path: Path, run: Run, tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere" / "registry.json"
    moved.parent.mkdir()
    shutil.copyfile(path, moved)
    assert run("--registry", moved, "list").code == 0
    edit(moved, older)
    assert "went back from 2 to 1" in refusal(run("--registry", moved, "list"))


def test_a_cache_that_cannot_be_written_is_a_warning(path: Path, run: Run, tmp_path: Path) -> None:
    in_the_way = tmp_path / "file"
    in_the_way.write_bytes(b"")
    listed = run("--cache", in_the_way, "list")
    assert listed.code == 0
    assert "warning: could not write down which versions" in listed.err


def test_the_memory_of_many_versions_stays_small(path: Path, tmp_path: Path) -> None:
    tree = json.loads(path.read_bytes())
    block = tree["adapters"]["test/da"]["1.0.0"]
    many = {
        f"many/n{name}": {f"1.{n}.0": {**block, "digest": f"sha256:{name * 50 + n:064x}"} for n in range(50)}
        for name in range(220)
    }
    large = tmp_path / "large.json"
    large.write_bytes(registry_bytes({**tree, "registry_id": "large", "adapters": many}))
    for _ in range(2):
        assert len(FileRegistry(large, cache=tmp_path / "cache").adapters) == 220
    (memory,) = [p for p in (tmp_path / "cache" / "remembered").glob("*.json") if p.name[:3] != "at-"]
    assert memory.stat().st_size < 120 * 11_000


# on a Hub


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[LoopbackHub]:
    with LoopbackHub(tmp_path / "hub") as hub:
        yield hub


def test_a_registry_on_the_hub_is_known_by_its_place_without_its_copy(
    hub: LoopbackHub, tmp_path: Path
) -> None:
    here = hub_registry(hub, tmp_path / "here")
    here.update(adding("test/da", "1.0.0"))
    shutil.rmtree(tmp_path / "here" / "registries")
    hub.recreate(REPO)
    with pytest.raises(IntegrityError, match="it is gone; this machine saw it with sequence 1"):
        hub_registry(hub, tmp_path / "here").update(adding("evil/da", "1.0.0"))
    hub_registry(hub, tmp_path / "there").update(adding("evil/da", "1.0.0"))
    with pytest.raises(IntegrityError, match="another registry.* delete "):
        _ = hub_registry(hub, tmp_path / "here").adapters


def test_a_flipped_status_at_the_same_sequence_is_refused_on_the_hub(
    hub: LoopbackHub, tmp_path: Path
) -> None:
    here = hub_registry(hub, tmp_path / "here")
    here.update(adding("test/da", "1.0.0"))
    tree = json.loads(hub.files(REPO)["registry.json"])
    tree["adapters"]["test/da"]["1.0.0"].update(status="quarantined", reason="bad")
    hub.write(REPO, {"registry.json": registry_bytes(tree)})
    with pytest.raises(IntegrityError, match="its content changed, but its sequence is still 1"):
        hub_registry(hub, tmp_path / "here").refresh()


def test_the_last_sequence_on_the_hub_is_refused_before_writing_and_a_rebuild_begins_anew(
    hub: LoopbackHub, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
    monkeypatch.setenv("HF_TOKEN", hub.token("alice"))
    monkeypatch.setenv("ADAPTER_HUB_REGISTRY", LABEL)
    assert run("publish", make_artifact(tmp_path / "da", "alice/da").path).code == 0
    tree = json.loads(hub.files(REPO)["registry.json"])
    last = registry_bytes({**tree, "sequence": 2**53 - 1})
    hub.write(REPO, {"registry.json": last})
    more = make_artifact(tmp_path / "el", "alice/el", seed=3.0)
    assert "`adapter-hub registry rebuild` makes it from scratch" in refusal(run("publish", more.path))
    assert hub.files(REPO)["registry.json"] == last
    assert run("pull", "alice/da").code == 0
    rebuilt = run("registry", "rebuild")
    assert rebuilt.code == 0
    assert "was started from scratch, with the id" in rebuilt.err
    assert run("publish", more.path).code == 0
    assert json.loads(hub.files(REPO)["registry.json"])["sequence"] == 2
    assert {row["name"] for row in run("list", "--json").json} >= {"alice/da", "alice/el"}
