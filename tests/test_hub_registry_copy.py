"""The copy of a registry on the Hub: what is used when the Hub cannot be asked, and what costs no request."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hub_registries import LABEL, REPO, adding, hub_registry
from killing import in_child, kill_before
from loopback_hub import LoopbackHub
from making import make_artifact, make_places

from adapter_hub.errors import IntegrityError, NotFoundError, StatusError, UnreachableError
from adapter_hub.exchange import Places, publish, pull
from adapter_hub.formats.reference import AdapterRef
from adapter_hub.formats.registry_file import Adapters, Location, parse_registry
from adapter_hub.hub import HubClient, RetryPolicy
from adapter_hub.registry.copy import Known, RegistryCopy
from adapter_hub.registry.file import FileRegistry
from adapter_hub.registry.namespaces import trust_namespace
from adapter_hub.registry.on_hub import HubRegistry
from adapter_hub.registry.resolution import resolve
from adapter_hub.stores.cache import Cache

HOUR = 3600.0


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[LoopbackHub]:
    with LoopbackHub(tmp_path / "hub") as hub:
        yield hub


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """The cache of a machine that has seen the registry."""
    return tmp_path / "here"


@pytest.fixture
def registry(hub: LoopbackHub, here: Path) -> HubRegistry:
    """Alice's registry with test/da 1.0.0, seen by `here`."""
    registry = hub_registry(hub, here)
    registry.update(adding("test/da", "1.0.0"))
    hub.log.clear()
    return registry


def impatient(hub: LoopbackHub, cache: Path) -> HubRegistry:
    patience = RetryPolicy(request=2.0, total=0.05, first_wait=0.02)
    return HubRegistry(LABEL, client=HubClient(hub.endpoint, hub.token(), patience), cache=cache)


def age(registry: HubRegistry, hours: float) -> None:
    path = registry.path.with_name("state.json")
    state = json.loads(path.read_bytes())
    path.write_text(json.dumps({**state, "fetched": time.time() - hours * HOUR}))


# the Hub cannot be asked


@pytest.mark.parametrize("kind", ["down", "offline", "failing", "silent"])
def test_a_hub_that_cannot_be_asked_leaves_the_copy_with_its_age_or_an_error(
    registry: HubRegistry,
    hub: LoopbackHub,
    here: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
) -> None:
    age(registry, 3.0)
    if kind == "down":
        hub.stop()
    elif kind == "offline":
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    elif kind == "failing":
        hub.faults.add("status", status=503, times=None)
    else:
        hub.faults.add("drop", times=None)
    copied = impatient(hub, here)
    (warning,) = copied.warnings
    assert set(copied.adapters) == {"test/da"}
    assert warning.startswith(f"registry {LABEL} could not be asked (")
    assert "its copy is used, which is 3 hours old: statuses may have changed since" in warning
    assert ("HF_HUB_OFFLINE is set" in warning) == (kind == "offline")
    assert resolve(AdapterRef.parse("test/da"), (copied,)).warnings == (warning,)
    with pytest.raises(
        NotFoundError, match=rf"no such version; test/da has 1\.0\.0; registry {LABEL} could not"
    ):
        resolve(AdapterRef.parse("test/da@1.1.0"), (copied,))
    with pytest.raises(UnreachableError, match=f"registry {LABEL}: this machine has no copy of it"):
        _ = impatient(hub, tmp_path / "there").adapters
    with pytest.raises(UnreachableError, match=r"HF_HUB_OFFLINE|cannot be used|did not answer"):
        copied.update(adding("test/da", "1.1.0"))


def test_the_hub_is_asked_again_when_it_is_back(
    registry: HubRegistry, hub: LoopbackHub, here: Path, tmp_path: Path
) -> None:
    hub.stop()
    copied = impatient(hub, here)
    assert copied.warnings != ()
    hub.start(hub.port)
    hub_registry(hub, tmp_path / "there").update(adding("test/el", "1.0.0"))
    copied.refresh()
    assert copied.sequence == 2
    assert copied.warnings == ()


def test_a_copy_that_is_older_than_what_this_machine_saw_is_not_used(
    registry: HubRegistry, hub: LoopbackHub, here: Path, tmp_path: Path
) -> None:
    shutil.copytree(registry.path.parent, tmp_path / "old")
    registry.update(adding("test/da", "1.1.0"))
    shutil.rmtree(registry.path.parent)
    shutil.copytree(tmp_path / "old", registry.path.parent)
    hub.stop()
    with pytest.raises(UnreachableError, match="no copy of it that can be used"):
        _ = impatient(hub, here).adapters


def test_a_cache_that_cannot_be_written_is_a_warning(hub: LoopbackHub, here: Path, tmp_path: Path) -> None:
    hub_registry(hub, tmp_path / "there").update(adding("test/da", "1.0.0"))
    here.write_text("in the way")
    registry = hub_registry(hub, here)
    assert set(registry.adapters) == {"test/da"}
    assert registry.warnings[0].startswith(f"no copy of registry {LABEL} could be kept for later")


# the copy on the disk


def test_a_damaged_copy_is_fetched_anew(registry: HubRegistry, hub: LoopbackHub, here: Path) -> None:
    whole = registry.path.read_bytes()
    for damage in (b"", whole[:100], whole.replace(b'"sequence": 1', b'"sequence": 9')):
        registry.path.write_bytes(damage)
        assert hub_registry(hub, here).sequence == 1
        assert registry.path.read_bytes() == whole
    for damage in (b"", b"{}", b"[1"):
        registry.path.with_name("state.json").write_bytes(damage)
        assert hub_registry(hub, here).sequence == 1
    hub.log.clear()
    assert hub_registry(hub, here).sequence == 1
    assert len(hub.log) == 1


def test_a_process_killed_while_it_keeps_a_copy_leaves_the_old_or_the_new(
    registry: HubRegistry, hub: LoopbackHub, here: Path, tmp_path: Path
) -> None:
    old = registry.path.read_bytes()
    registry.update(adding("test/da", "1.1.0"))
    new, head = registry.path.read_bytes(), hub.refs(REPO).branches["main"]
    for number in range(1, 100):
        folder = tmp_path / f"copy{number}"
        copy = RegistryCopy(folder)
        copy.keep(old, "0" * 40, parse_registry(old, "old").file)

        def action(copy: RegistryCopy = copy, number: int = number) -> None:
            kill_before(number)
            copy.keep(new, head, parse_registry(new, "new").file)

        status = in_child(action)
        found = copy.read()
        assert found is not None
        assert (found.raw, found.commit) in [(old, "0" * 40), (new, None), (new, head)]
        copy.keep(new, head, parse_registry(new, "new").file)
        again = copy.read()
        assert again is not None
        assert (again.raw, again.commit) == (new, head)
        if status == 0:
            break
        assert os.WTERMSIG(status) == signal.SIGKILL
    assert number > 4


def test_a_process_that_was_slower_does_not_replace_a_later_copy(registry: HubRegistry, here: Path) -> None:
    old = registry.path.read_bytes()
    registry.update(adding("test/da", "1.1.0"))
    copy = RegistryCopy(registry.path.parent)
    copy.keep(old, "0" * 40, parse_registry(old, "old").file)
    assert copy.known() == Known(registry.registry_id, 2)
    assert registry.path.read_bytes() != old


# what costs no request


@pytest.fixture
def pulled(registry: HubRegistry, hub: LoopbackHub, here: Path, tmp_path: Path) -> AdapterRef:
    """test/el 1.0.0: listed in the registry on the Hub, and pulled into the cache of `here`."""
    file, store = make_places(tmp_path)
    publish(make_artifact(tmp_path / "el", "test/el").path, Places(file, store))
    place = (Location(store=str(store.path), path="test/el/1.0.0"),)
    entry = file.adapters["test/el"]["1.0.0"].model_copy(update={"locations": place})
    registry.update(lambda adapters: adapters.update({"test/el": {"1.0.0": entry}}))
    Cache(here).add(make_artifact(tmp_path / "again", "test/el"))
    trust_namespace("test", registry)  # this user saw it first in the file
    hub.log.clear()
    return AdapterRef.parse("test/el@1.0.0")


def test_a_pinned_version_in_the_cache_costs_no_request_and_tells_an_old_copy_s_age(
    pulled: AdapterRef, registry: HubRegistry, hub: LoopbackHub, here: Path
) -> None:
    told: list[str] = []
    digest = registry.adapters["test/el"]["1.0.0"].digest
    for ref in (pulled, AdapterRef.parse(f"test/el#{digest}")):
        artifact = pull(ref, Places([hub_registry(hub, here)], cache=Cache(here), tell=told.append))
        assert artifact.digest == digest
    age(registry, 23.0)
    pull(pulled, Places([hub_registry(hub, here)], cache=Cache(here), tell=told.append))
    assert len(hub.log) == 0
    assert told == []
    age(registry, 30.0)
    pull(pulled, Places([hub_registry(hub, here)], cache=Cache(here), tell=told.append))
    assert told == [f"the copy of registry {LABEL} is 30 hours old; statuses may have changed since"]
    hub.stop()
    pull(pulled, Places([impatient(hub, here)], cache=Cache(here)))


def test_anything_else_asks_the_hub(pulled: AdapterRef, hub: LoopbackHub, here: Path, tmp_path: Path) -> None:
    registries = [hub_registry(hub, here)]
    pull(pulled, Places(registries, cache=Cache(here)))
    assert len(hub.log) == 0
    pull("test/el", Places(registries, cache=Cache(here)))  # the newest may be another by now
    assert [entry.endpoint for entry in hub.log] == ["refs"]
    hub.log.clear()
    with pytest.raises(NotFoundError, match=r"test/el@9\.0\.0: no such version"):
        pull("test/el@9.0.0", Places([hub_registry(hub, here)], cache=Cache(here)))
    assert [entry.endpoint for entry in hub.log] == ["refs"]
    with pytest.raises(IntegrityError, match="names a folder"):  # not in this cache, and it is in a folder
        pull(pulled, Places([hub_registry(hub, tmp_path / "there")], cache=Cache(tmp_path / "there")))


def test_what_a_copy_refuses_is_asked_for_anew(
    pulled: AdapterRef, registry: HubRegistry, hub: LoopbackHub, here: Path, tmp_path: Path
) -> None:
    def becoming(status: str, since: str) -> None:
        def change(adapters: Adapters) -> None:
            entry = adapters["test/el"]["1.0.0"]
            changes = {"status": status, "reason": "bad", "since": since}
            adapters["test/el"]["1.0.0"] = entry.model_copy(update=changes)

        hub_registry(hub, tmp_path / "there").update(change)

    becoming("quarantined", "2026-03-01T00:00:00Z")
    pull(pulled, Places([hub_registry(hub, here)], cache=Cache(here)))  # the copy does not know it yet
    with pytest.raises(StatusError, match="is quarantined"):
        pull("test/el", Places([hub_registry(hub, here)], cache=Cache(here)))
    with pytest.raises(StatusError, match="is quarantined"):  # now the copy does
        pull(pulled, Places([hub_registry(hub, here)], cache=Cache(here)))
    becoming("active", "2026-03-02T00:00:00Z")
    pull(pulled, Places([hub_registry(hub, here)], cache=Cache(here)))


def test_a_file_is_no_copy_and_is_read_as_ever(tmp_path: Path) -> None:
    registry = FileRegistry(tmp_path / "registry.json")
    registry.settle_for_copy()
    assert not registry.is_copy
    registry.update(adding("test/da", "1.0.0"))
    FileRegistry(tmp_path / "registry.json").update(adding("test/da", "1.1.0"))
    registry.refresh()
    assert registry.sequence == 2
