"""A registry on the Hub: what is read, what is written, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hub_places import hub_client
from hub_registries import LABEL, REPO, adding, block, hub_registry
from loopback_hub import LoopbackHub

from adapter_hub.errors import AccessError, IntegrityError, InvalidInputError, NotFoundError
from adapter_hub.formats.registry_file import Adapters, registry_bytes
from adapter_hub.registry.file import FileRegistry
from adapter_hub.registry.on_hub import HubRegistry


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[LoopbackHub]:
    with LoopbackHub(tmp_path / "hub") as hub:
        yield hub


@pytest.fixture
def registry(hub: LoopbackHub, tmp_path: Path) -> HubRegistry:
    """Alice's registry with test/da 1.0.0, on the machine `here`."""
    registry = hub_registry(hub, tmp_path / "here")
    registry.update(adding("test/da", "1.0.0"))
    hub.log.clear()
    return registry


def content(hub: LoopbackHub) -> bytes:
    return hub.files(REPO)["registry.json"]


def edit(hub: LoopbackHub, change: Any) -> None:
    """Change the file on the Hub as its owner could with an editor."""
    tree = json.loads(content(hub))
    tree["sequence"] += 1  # whoever writes a registry does so
    change(tree)
    hub.write(REPO, {"registry.json": registry_bytes(tree)})


# reading and writing


def test_what_was_written_is_read_on_another_machine(
    registry: HubRegistry, hub: LoopbackHub, tmp_path: Path
) -> None:
    other = hub_registry(hub, tmp_path / "there", "bob")
    assert other.adapters == {"test/da": {"1.0.0": block("test/da@1.0.0")}}
    assert (other.registry_id, other.sequence, other.label) == (registry.registry_id, 1, LABEL)
    assert other.warnings == ()


def test_the_file_on_the_hub_is_spelled_as_a_file_on_disk_would_be(
    registry: HubRegistry, hub: LoopbackHub, tmp_path: Path
) -> None:
    path = tmp_path / "registry.json"
    path.write_bytes(content(hub))
    registry.update(adding("test/da", "1.1.0"))
    FileRegistry(path, cache=tmp_path / "other").update(adding("test/da", "1.1.0"))
    assert content(hub) == path.read_bytes()
    assert registry.path.read_bytes() == content(hub)


def test_a_change_costs_one_commit_and_a_change_of_nothing_none(
    registry: HubRegistry, hub: LoopbackHub
) -> None:
    assert registry.update(adding("test/da", "1.1.0"))
    assert hub.log.count(endpoint="commit") == 1
    assert not registry.update(adding("test/da", "1.1.0"))
    assert hub.log.count(endpoint="commit") == 1
    assert registry.sequence == 2


def test_what_did_not_change_is_asked_for_with_one_request(hub: LoopbackHub, registry: HubRegistry) -> None:
    again = HubRegistry(LABEL, client=registry.client, cache=registry.path.parents[2])
    assert set(again.adapters) == {"test/da"}
    assert again.sequence == 1
    assert [entry.endpoint for entry in hub.log] == ["refs"]


def test_a_change_that_raises_writes_nothing(registry: HubRegistry, hub: LoopbackHub) -> None:
    def change(adapters: Adapters) -> None:
        adapters.clear()
        raise IntegrityError("not like this")

    before = hub.refs(REPO)
    with pytest.raises(IntegrityError, match="not like this"):
        registry.update(change)
    assert hub.refs(REPO) == before
    assert set(registry.adapters) == {"test/da"}


def test_a_version_cannot_change_its_digest_or_vanish_by_an_update(
    registry: HubRegistry, hub: LoopbackHub
) -> None:
    before = content(hub)
    with pytest.raises(IntegrityError, match=rf"{LABEL}: published.*test/da@1\.0\.0 would vanish"):
        registry.update(lambda adapters: adapters.clear())
    with pytest.raises(IntegrityError, match=r"test/da@1\.0\.0 would become"):
        registry.update(lambda adapters: adapters["test/da"].update({"1.0.0": block("other")}))
    assert content(hub) == before


def test_blocks_of_a_later_schema_are_preserved(registry: HubRegistry, hub: LoopbackHub) -> None:
    strange = {"schema": "version/7", "digest": "blake9:123"}
    edit(hub, lambda tree: tree["adapters"]["test/da"].update({"2.0.0": strange}))
    registry.update(adding("test/el", "1.0.0"))
    assert registry.unreadable == {("test/da", "2.0.0"): "written by a newer program"}
    assert json.loads(content(hub))["adapters"]["test/da"]["2.0.0"] == strange


# a registry that is not there


def test_a_registry_that_nobody_wrote_yet_is_a_clear_error_to_readers(
    hub: LoopbackHub, tmp_path: Path
) -> None:
    with pytest.raises(NotFoundError, match=f"{LABEL}: there is none on {hub.endpoint}.*the first publish"):
        _ = hub_registry(hub, tmp_path / "here").adapters
    hub.create(REPO)
    with pytest.raises(NotFoundError, match=f"{LABEL}: there is none"):
        _ = hub_registry(hub, tmp_path / "here").adapters


@pytest.mark.parametrize("private", [False, True])
def test_the_first_write_makes_the_repository(hub: LoopbackHub, tmp_path: Path, private: bool) -> None:
    client = hub_client(hub, "alice")
    registry = HubRegistry(LABEL, client=client, cache=tmp_path / "here", private=private)
    with registry.locked():
        assert registry.adapters == {}
    assert registry.update(adding("test/da", "1.0.0"))
    assert hub.repository(REPO).meta["private"] is private
    assert json.loads(content(hub))["sequence"] == 1


def test_a_repository_with_other_files_keeps_them(hub: LoopbackHub, tmp_path: Path) -> None:
    hub.create(REPO)
    hub.write(REPO, {"README.md": b"# mine\n"})
    hub_registry(hub, tmp_path / "here").update(adding("test/da", "1.0.0"))
    assert hub.files(REPO)["README.md"] == b"# mine\n"


def test_who_may_not_write_is_told_so(registry: HubRegistry, hub: LoopbackHub, tmp_path: Path) -> None:
    reader = hub_registry(hub, tmp_path / "there", "reader")
    assert reader.sequence == 1
    with pytest.raises(AccessError, match="refuses access"):
        reader.update(adding("test/da", "1.1.0"))
    with pytest.raises(InvalidInputError, match="is read-only"):
        HubRegistry(LABEL, client=registry.client, read_only=True).update(adding("test/da", "1.1.0"))
    assert registry.sequence == 1


# not what was seen before


def test_a_registry_that_went_back_is_refused_for_good_where_it_was_seen(
    registry: HubRegistry, hub: LoopbackHub, tmp_path: Path
) -> None:
    old = hub.refs(REPO).branches["main"]
    registry.update(adding("test/da", "1.1.0"))
    new = hub.refs(REPO).branches["main"]
    hub.move_branch(REPO, "main", old)
    for _ in range(2):
        again = hub_registry(hub, tmp_path / "here")
        with pytest.raises(IntegrityError, match=f"{LABEL} is not the one.*went back from 2 to 1"):
            again.refresh()
        with pytest.raises(IntegrityError, match="went back from 2 to 1"):
            again.update(adding("test/da", "1.2.0"))
    assert hub_registry(hub, tmp_path / "there").sequence == 1  # a machine that saw nothing
    hub.move_branch(REPO, "main", new)
    assert hub_registry(hub, tmp_path / "here").sequence == 2


def test_the_error_names_what_to_delete_if_the_older_state_is_meant(
    registry: HubRegistry, hub: LoopbackHub, tmp_path: Path
) -> None:
    old = hub.refs(REPO).branches["main"]
    registry.update(adding("test/da", "1.1.0"))
    hub.move_branch(REPO, "main", old)
    with pytest.raises(IntegrityError, match="if this is meant, delete") as caught:
        hub_registry(hub, tmp_path / "here").refresh()
    copy, memory = (Path(text) for text in str(caught.value).rpartition(" delete ")[2].split(" and "))
    for path in copy.iterdir():
        path.unlink()
    memory.unlink()
    assert hub_registry(hub, tmp_path / "here").sequence == 1


def test_a_changed_and_a_vanished_version_are_noticed(
    registry: HubRegistry, hub: LoopbackHub, tmp_path: Path
) -> None:
    registry.update(adding("test/el", "1.0.0"))

    def tamper(tree: Any) -> None:
        tree["adapters"]["test/da"]["1.0.0"]["digest"] = "sha256:" + "0" * 64
        del tree["adapters"]["test/el"]

    edit(hub, tamper)
    with pytest.raises(IntegrityError, match=r"test/da@1\.0\.0 changed its digest.*test/el@1\.0\.0 vanished"):
        hub_registry(hub, tmp_path / "here").refresh()


def test_a_repository_that_was_deleted_or_made_anew_is_not_taken_for_an_empty_one(
    registry: HubRegistry, hub: LoopbackHub, tmp_path: Path
) -> None:
    hub.delete(REPO)
    here = hub_registry(hub, tmp_path / "here")
    with pytest.raises(IntegrityError, match="it is gone; this machine saw it with sequence 1"):
        _ = here.adapters
    with pytest.raises(IntegrityError, match="it is gone"):
        here.update(adding("test/da", "1.1.0"))
    assert not hub.has(REPO)
    hub_registry(hub, tmp_path / "there").update(adding("evil/da", "1.0.0"))
    with pytest.raises(IntegrityError, match="another registry"):
        here.refresh()
    with pytest.raises(IntegrityError, match="another registry"):
        here.update(adding("test/da", "1.1.0"))


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"{", f"{LABEL}.*Expecting property name"),
        (b"[]", f"{LABEL}: not a registry"),
        (b'{"adapters": {}, "schema": "registry/2"}', "registry/2 is newer than this program.*pip install"),
        (b"\xff\xfe", f"{LABEL}"),
    ],
)
def test_a_damaged_or_newer_registry_is_one_clear_error(
    registry: HubRegistry, hub: LoopbackHub, tmp_path: Path, raw: bytes, message: str
) -> None:
    hub.write(REPO, {"registry.json": raw})
    for machine in ("here", "there"):
        with pytest.raises(InvalidInputError, match=message) as caught:
            _ = hub_registry(hub, tmp_path / machine).adapters
        assert "\n" not in str(caught.value)
        with pytest.raises(InvalidInputError, match=message):
            hub_registry(hub, tmp_path / machine).update(adding("test/da", "1.1.0"))
    assert content(hub) == raw


# names


@pytest.mark.parametrize(
    "text",
    [
        "hf://alice/registry",
        "hf://datasets/alice",
        "hf://datasets/alice/../x",
        "hf:/datasets/alice/registry",
        "hf://datasets/alice/registry@main",
        "https://huggingface.co/datasets/alice/registry",
    ],
)
def test_a_malformed_address_is_one_clear_error(text: str) -> None:
    with pytest.raises(InvalidInputError, match="expected a file, or hf://datasets/namespace/name") as caught:
        HubRegistry(text)
    assert str(caught.value).startswith(f"registry {text}: ")
    assert "\n" not in str(caught.value)
