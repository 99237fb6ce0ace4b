"""Lock and sync with a registry, a store and bare repositories on a Hub, and after it went away."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from hub_places import hub_store
from huggingface_hub import HfApi
from loopback_hub import LoopbackHub
from making import make_artifact, make_child

from adapter_hub.artifact.folder import Artifact
from adapter_hub.errors import AdapterHubError, IntegrityError
from adapter_hub.exchange import Places, lock, publish, retire, sync, update_lock
from adapter_hub.formats.claims import Status, StatusEntry
from adapter_hub.formats.lock_file import LockFile
from adapter_hub.formats.reference import AdapterRef
from adapter_hub.formats.times import utc_now
from adapter_hub.registry.file import FileRegistry
from adapter_hub.registry.on_hub import HubRegistry
from adapter_hub.stores.cache import Cache

LABEL = "hf://datasets/test/registry"


@dataclass
class OnHub:
    """test/da, listed in a registry on the Hub, and test/el, listed nowhere; both are locked."""

    hub: LoopbackHub
    folder: Path
    told: list[str]

    @property
    def cache(self) -> Cache:
        return Cache(self.folder / "cache")

    @property
    def path(self) -> Path:
        return self.folder / "adapters.lock"

    def registry(self, machine: str = "cache") -> HubRegistry:
        return HubRegistry(LABEL, cache=self.folder / machine)

    def publish(self, artifact: Artifact) -> None:
        publish(artifact.path, Places(self.registry(), hub_store(self.hub)))

    def say(self, artifact: Artifact, status: Status) -> None:
        """Change the status of an adapter in its repository alone."""
        name, version = artifact.manifest.name, artifact.manifest.version
        values = {"version": version, "digest": artifact.digest, "status": status, "reason": "bad text"}
        store = hub_store(self.hub, cache=self.folder / "owner")
        store.attach(name, StatusEntry.model_validate({**values, "time": utc_now()}))

    def lock(self, *requirements: str) -> LockFile:
        return lock(requirements, Places([self.registry()], cache=self.cache), path=self.path)

    def sync(self, *registries: FileRegistry) -> list[str]:
        found = sync(
            self.path, Places(registries or [self.registry()], cache=self.cache, tell=self.told.append)
        )
        return [artifact.ref for artifact in found]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[OnHub]:
    with LoopbackHub(tmp_path / "hub") as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
        monkeypatch.setenv("HF_TOKEN", hub.token("test"))
        monkeypatch.setenv("ADAPTER_HUB_RETRY_SECONDS", "0.5")
        here = OnHub(hub, tmp_path, [])
        here.publish(make_artifact(tmp_path / "da", "test/da"))
        hub_store(hub).push(make_artifact(tmp_path / "el", "test/el", seed=3.0))
        here.lock("test/da~=1.0", "hf://test/el~=1.0")
        yield here


def test_what_is_locked_on_a_hub_is_installed_on_another_machine(place: OnHub) -> None:
    text = place.path.read_text(encoding="utf-8")
    assert f'"label": "{LABEL}"' in text
    assert str(place.folder) not in text
    shutil.rmtree(place.folder / "cache")
    assert place.sync() == ["test/da@1.0.0", "test/el@1.0.0"]


def test_everything_in_the_cache_is_installed_while_the_hub_is_away(place: OnHub) -> None:
    place.hub.stop()
    assert place.sync() == ["test/da@1.0.0", "test/el@1.0.0"]
    assert [line for line in place.told if "its copy is used" in line]
    assert place.sync(place.registry("a machine without a copy")) == ["test/da@1.0.0", "test/el@1.0.0"]
    assert [line for line in place.told if "its statuses are not known" in line]
    shutil.rmtree(place.cache.folder)
    with pytest.raises(
        IntegrityError, match=r"2 of 2 adapters .* cannot be fetched: store hf://test: .*try again"
    ):
        place.sync()


def test_a_quarantine_reaches_what_is_in_the_cache_with_and_without_a_registry(place: OnHub) -> None:
    ref = AdapterRef.parse("test/da@1.0.0")
    other = place.registry("owner")
    retire(ref, "quarantined", "bad text", Places(other, hub_store(place.hub)))
    place.say(Artifact.open(place.folder / "el"), "quarantined")
    failed: dict[str, AdapterHubError] = {}
    assert sync(place.path, Places([place.registry()], cache=place.cache), failed=failed.__setitem__) == []
    assert str(failed["test/da@1.0.0"]).startswith("test/da@1.0.0 is quarantined (bad text)")
    assert str(failed["test/el@1.0.0"]).startswith("test/el@1.0.0 is quarantined (bad text)")


def test_a_yanked_version_of_a_bare_repository_gives_way_to_the_next(place: OnHub) -> None:
    parent = Artifact.open(place.folder / "da")
    hub_store(place.hub).push(make_child(place.folder / "el2", parent, "test/el", "1.1.0"))
    place.say(Artifact.open(place.folder / "el"), "yanked")
    assert place.sync() == ["test/da@1.0.0", "test/el@1.0.0"]
    assert "test/el@1.0.0 is yanked (bad text)" in place.told
    after = update_lock(place.path, Places([place.registry()], cache=place.cache))
    assert [adapter.ref for adapter in after.adapters] == ["test/da@1.0.0", "test/el@1.1.0"]


def test_a_tag_that_was_moved_to_other_bytes_is_noticed(place: OnHub) -> None:
    shutil.rmtree(place.folder / "cache")
    other = make_artifact(place.folder / "other", "test/el", seed=8.0)
    HfApi(endpoint=place.hub.endpoint, token=place.hub.token("test")).delete_repo("test/el")
    hub_store(place.hub, cache=place.folder / "thief").push(other)
    with pytest.raises(IntegrityError, match=r"test/el@1\.0\.0"):
        place.sync()
    assert not place.cache.place(other.digest).exists()
