"""Names: all that the Hub allows, in the spelling of their owner; two that differ by case alone are one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hub_places import hub_store
from loopback_hub import LoopbackHub
from making import make_artifact, make_places

from adapter_hub.errors import ConflictError, InvalidInputError, NotFoundError
from adapter_hub.exchange import Places, lock, mirror, publish, retire
from adapter_hub.exchange.rebuilding import check, rebuild
from adapter_hub.formats.canonical import digest_of
from adapter_hub.formats.lock_file import read_lock
from adapter_hub.formats.reference import AdapterRef, check_name
from adapter_hub.formats.registry_file import parse_registry, registry_bytes
from adapter_hub.hub import RepoId
from adapter_hub.registry.file import FileRegistry
from adapter_hub.registry.namespaces import Namespaces
from adapter_hub.registry.resolution import look_up, resolve
from adapter_hub.stores.folder import FolderStore

OF_THE_HUB = ["Vaibhavs10/da", "alice/Whisper_LoRA.v2", "a_b/_x", "X/1", "sil-ai/DA-adapter", "a.b/c.d-e_f"]


@pytest.mark.parametrize("name", OF_THE_HUB)
def test_a_name_that_the_hub_allows_is_an_adapter_s_name(name: str) -> None:
    assert check_name(name) == RepoId(name).id == name
    assert str(AdapterRef.parse(f"hf://{name}@1.0.0")) == f"hf://{name}@1.0.0"


@pytest.mark.parametrize(
    "name",
    ["-a/b", "a/b-", ".a/b", "a/b.", "a--b/c", "a/b..c", "a/b.git", "a/b.GIT", "a", "a/b/c", "ä/b", "a/b c"],
)
def test_a_name_that_the_hub_refuses_is_none(name: str) -> None:
    with pytest.raises(InvalidInputError, match="expected namespace/name"):
        check_name(name)


@pytest.mark.parametrize(
    "part", ["nul", "NUL", "con", "Con.da", "aux", "prn.v1", "com1", "LPT9.tar", "Latest", "AUTO"]
)
def test_a_device_of_windows_and_a_reserved_word_are_no_names_in_either_place_and_case(part: str) -> None:
    for name in (f"{part}/da", f"alice/{part}"):
        with pytest.raises(InvalidInputError, match="is a device on Windows|is a reserved word"):
            check_name(name)
    assert check_name("console/null") == "console/null"


def test_an_adapter_s_own_file_is_no_name() -> None:
    with pytest.raises(InvalidInputError, match="is a file of every adapter"):
        check_name("alice/Adapter.json")


def test_a_hub_user_with_capitals_publishes_and_others_pull(tmp_path: Path) -> None:
    name = "Vaibhavs10/Whisper_da.v2"
    with LoopbackHub(tmp_path / "hub") as hub:
        store, registry = (
            hub_store(hub, "Vaibhavs10", tmp_path / "a"),
            FileRegistry(tmp_path / "registry.json"),
        )
        publish(make_artifact(tmp_path / "da", name).path, Places(registry, store))
        assert hub.files(name, "v1.0.0")["adapter.json"]
        fetched = store.fetch(name.lower(), "1.0.0", tmp_path / "b")
        assert fetched.manifest.name == name
        other = hub_store(hub, "vaibhavs10", tmp_path / "c")
        assert other.versions(name) == ["1.0.0"]


def test_a_second_spelling_is_refused_by_a_repository_of_the_hub_whatever_the_registry_knows(
    tmp_path: Path,
) -> None:
    with LoopbackHub(tmp_path / "hub") as hub:
        for number, name in enumerate(("alice/Da", "alice/dA", "alice/Da")):
            store = hub_store(hub, "alice", tmp_path / str(number))
            made = make_artifact(tmp_path / f"made{number}", name, f"1.{number}.0", seed=number + 1.0)
            places = Places(FileRegistry(tmp_path / f"registry{number}.json"), store)
            if name == "alice/dA":
                with pytest.raises(ConflictError, match="hf://alice has alice/Da, .* publish it as alice/Da"):
                    publish(made.path, places)
            else:
                publish(made.path, places)
        assert store.versions("alice/da") == ["1.0.0", "1.2.0"]


@pytest.fixture
def places(tmp_path: Path) -> tuple[FileRegistry, FolderStore]:
    registry, store = make_places(tmp_path)
    publish(make_artifact(tmp_path / "one", "Alice/Da").path, Places(registry, store))
    return registry, store


def test_a_reference_in_another_case_finds_the_name_as_it_is_spelt(
    places: tuple[FileRegistry, FolderStore], tmp_path: Path
) -> None:
    registry, store = places
    asked = AdapterRef.parse("alice/dA@1.0.0")
    assert resolve(asked, [registry]).ref == look_up(asked, [registry]).ref == "Alice/Da@1.0.0"
    lock(["alice/da"], Places(registry, store), path=tmp_path / "adapters.lock")
    locked = read_lock(tmp_path / "adapters.lock")
    assert locked.adapters[0].name == "Alice/Da"
    assert locked.staleness() == []
    retire(asked, "yanked", "a test", Places(registry, store))
    assert registry.adapters["Alice/Da"]["1.0.0"].status == "yanked"
    with pytest.raises(NotFoundError, match="did you mean Alice/Da"):
        resolve(AdapterRef.parse("alice/dab"), [registry])


def test_a_second_spelling_of_a_name_is_refused_before_anything_is_written(
    places: tuple[FileRegistry, FolderStore], tmp_path: Path
) -> None:
    registry, store = places
    before = registry.path.read_bytes()
    other = make_artifact(tmp_path / "two", "alice/da", "1.1.0", seed=2.0)
    with pytest.raises(
        ConflictError, match="alice/da: registry .* has Alice/Da, and .* publish it as Alice/Da"
    ):
        publish(other.path, Places(registry, store))
    assert registry.path.read_bytes() == before
    assert store.names() == ["Alice/Da"]
    with pytest.raises(ConflictError, match="has Alice/Da"):
        registry.update(lambda adapters: adapters.update({"ALICE/DA": adapters["Alice/Da"]}))
    with pytest.raises(ConflictError, match="has Alice/Da, and many disks"):
        store.push(other)


def test_a_mirror_copies_no_second_spelling_and_the_rest(
    places: tuple[FileRegistry, FolderStore], tmp_path: Path
) -> None:
    _, store = places
    theirs, source = make_places(tmp_path / "theirs")
    for name, seed in (("alice/da", 2.0), ("bob/pl", 3.0)):
        publish(make_artifact(tmp_path / name, name, seed=seed).path, Places(theirs, source))
    found = {item.ref: item for item in mirror(source=source, target=store)}
    assert found["bob/pl@1.0.0"].outcome == "copied"
    assert found["alice/da@1.0.0"].outcome == "failed"
    assert "has Alice/Da, and many disks" in str(found["alice/da@1.0.0"].problem)
    assert sorted(store.names()) == ["Alice/Da", "bob/pl"]


@pytest.mark.parametrize("listed", [True, False])
def test_a_rebuild_takes_in_no_second_spelling_and_says_which(
    listed: bool, places: tuple[FileRegistry, FolderStore], tmp_path: Path
) -> None:
    registry, store = places
    if not listed:
        registry = FileRegistry(tmp_path / "new.json")
    theirs, other = make_places(tmp_path / "theirs")
    for name, seed in (("alice/da", 2.0), ("bob/pl", 3.0)):
        publish(make_artifact(tmp_path / name, name, seed=seed).path, Places(theirs, other))
    found = rebuild(registry, [store, other])
    doubtful = ["alice/da@1.0.0"] if listed else ["Alice/Da@1.0.0", "alice/da@1.0.0"]
    assert [(item.code, item.ref) for item in found.findings] == [
        ("registry-spelling", ref) for ref in doubtful
    ]
    assert sorted(registry.adapters) == (["Alice/Da", "bob/pl"] if listed else ["bob/pl"])
    assert [(item.code, item.ref) for item in check(registry, [store, other])] == [
        ("registry-spelling", ref) for ref in doubtful
    ]


def test_two_new_spellings_at_once_are_refused(places: tuple[FileRegistry, FolderStore]) -> None:
    registry, _ = places
    (block,) = registry.adapters["Alice/Da"].values()
    before = registry.path.read_bytes()
    both = {name: {"2.0.0": block} for name in ("Bob/pl", "bob/PL")}
    with pytest.raises(ConflictError, match="names that differ by case alone are one name"):
        registry.update(lambda adapters: adapters.update(both))
    assert registry.path.read_bytes() == before


def test_two_spellings_in_a_file_are_neither_used(places: tuple[FileRegistry, FolderStore]) -> None:
    registry, _ = places
    tree = json.loads(registry.path.read_bytes())
    tree["adapters"]["alice/DA"] = tree["adapters"]["Alice/Da"]
    read = parse_registry(registry_bytes(tree), "registry.json")
    assert not read.file.adapters
    assert "names that differ by case alone are one name" in read.unreadable["Alice/Da", ""]
    assert {name for name, _ in read.unreadable} == {"Alice/Da", "alice/DA"}


def test_a_namespace_belongs_to_its_registry_in_every_case(
    places: tuple[FileRegistry, FolderStore], tmp_path: Path
) -> None:
    mine, _ = places
    theirs, their_store = make_places(tmp_path / "theirs")
    publish(make_artifact(tmp_path / "x", "aLICE/x").path, Places(theirs, their_store))
    publish(make_artifact(tmp_path / "y", "MINI/x").path, Places(theirs, their_store))
    tree = json.loads(theirs.path.read_bytes())
    for versions in tree["adapters"].values():
        versions["1.0.0"]["digest"] = digest_of(b"other bytes")
    other = FileRegistry(tmp_path / "other.json")
    other.path.write_bytes(registry_bytes({**tree, "registry_id": "other"}))
    for name in ("aLICE/x", "MINI/x"):
        assert other in Namespaces([mine, other]).foreign(name, lambda version: True)
