"""What the Hub is asked for: each thing once in an operation, and how often in all."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hub_places import hub_client, hub_store
from hub_registries import hub_registry
from loopback_hub import LoopbackHub
from making import make_artifact

from adapter_hub.exchange import Places, publish, retire
from adapter_hub.formats.reference import AdapterRef
from adapter_hub.hub import RepoId
from adapter_hub.registry.contract import WritableRegistry
from adapter_hub.registry.file import FileRegistry
from adapter_hub.stores.hub import HubStore

DA = RepoId("alice/da")


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[LoopbackHub]:
    with LoopbackHub(tmp_path / "hub") as hub:
        yield hub


def registry_of(hub: LoopbackHub, tmp_path: Path, shared: bool) -> WritableRegistry:
    return hub_registry(hub, tmp_path / "cache") if shared else FileRegistry(tmp_path / "registry.json")


@pytest.mark.parametrize(("shared", "most"), [(False, 20), (True, 25)])
def test_publishing_a_second_version_asks_for_nothing_twice(
    hub: LoopbackHub, tmp_path: Path, shared: bool, most: int
) -> None:
    for version, seed in (("1.0.0", 1.0), ("1.1.0", 2.0)):
        hub.log.clear()
        places = Places(registry_of(hub, tmp_path, shared), hub_store(hub, "alice", tmp_path / "cache"))
        publish(make_artifact(tmp_path / version, "alice/da", version, seed=seed).path, places)
    asked = hub.log.entries()
    assert len(asked) <= most, "\n".join(map(str, asked))
    reads = [
        (entry.path, entry.query) for entry in asked if entry.method == "GET" and "/refs" not in entry.path
    ]
    assert len(reads) == len(set(reads))
    assert len(hub.log.entries("GET", "alice/da/refs")) == 2  # at the start, and to see the tag


def test_what_others_wrote_between_two_operations_is_seen(hub: LoopbackHub, tmp_path: Path) -> None:
    mine, theirs = (hub_store(hub, "alice", tmp_path / name) for name in ("mine", "theirs"))
    registry = FileRegistry(tmp_path / "registry.json")
    publish(make_artifact(tmp_path / "one", "alice/da", "1.0.0").path, Places(registry, mine))
    publish(make_artifact(tmp_path / "two", "alice/da", "1.1.0", seed=2.0).path, Places(registry, theirs))
    assert mine.versions("alice/da") == ["1.0.0", "1.1.0"]
    retire(AdapterRef.parse("alice/da@1.1.0"), "yanked", "a test", Places(registry, theirs))
    status = mine.claims("alice/da").status_of("1.1.0")
    assert status is not None
    assert status.status == "yanked"


def test_a_writer_that_knows_an_old_branch_notices_it_and_plans_again(
    hub: LoopbackHub, tmp_path: Path
) -> None:
    registry, store = FileRegistry(tmp_path / "registry.json"), hub_store(hub, "alice", tmp_path / "cache")
    publish(make_artifact(tmp_path / "one", "alice/da", "1.0.0").path, Places(registry, store))
    with store.asking_once():
        assert store.versions("alice/da") == ["1.0.0"]  # remembered from here
        head = hub.refs("alice/da").branches["main"]
        notes = hub_client(hub, "alice").commit(
            DA, additions={"notes.txt": b"1"}, message="others", parent=head
        )
        two = make_artifact(tmp_path / "two", "alice/da", "1.1.0", seed=2.0)
        assert store.push(two)
        assert store.versions("alice/da") == ["1.0.0", "1.1.0"]
    assert hub.refs("alice/da").branches["main"] != notes
    assert isinstance(store, HubStore)
    assert store.fetch("alice/da", "1.1.0", tmp_path / "fetched").digest == two.digest
