"""Publishing into a registry on the Hub: what goes with it, races, and rebuilding it from the Hub."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from hub_places import hub_store
from hub_registries import LABEL, REPO, adding, hub_registry
from loopback_hub import LoopbackHub
from making import make_artifact, make_child, make_places, make_report

from adapter_hub.cli import main
from adapter_hub.errors import ConflictError, InvalidInputError, StatusError
from adapter_hub.exchange import Places, attach, check, publish, pull, rebuild, retire
from adapter_hub.exchange.locations import open_location
from adapter_hub.formats.reference import AdapterRef
from adapter_hub.formats.registry_file import Location
from adapter_hub.registry.file import FileRegistry
from adapter_hub.registry.on_hub import HubRegistry
from adapter_hub.registry.opening import open_registry
from adapter_hub.stores.cache import Cache
from adapter_hub.stores.hub import HubStore

DA = AdapterRef.parse("alice/da@1.0.0")


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LoopbackHub]:
    """A Hub that the environment names, with alice logged in."""
    with LoopbackHub(tmp_path / "hub") as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
        monkeypatch.setenv("HF_TOKEN", hub.token("alice"))
        yield hub


def places(hub: LoopbackHub, tmp_path: Path, machine: str) -> tuple[HubRegistry, HubStore]:
    cache = tmp_path / machine
    return hub_registry(hub, cache), hub_store(hub, "alice", cache)


@pytest.fixture
def here(hub: LoopbackHub, tmp_path: Path) -> tuple[HubRegistry, HubStore]:
    """Alice's registry and store, with alice/da 1.0.0."""
    registry, store = places(hub, tmp_path, "here")
    publish(make_artifact(tmp_path / "da", "alice/da").path, Places(registry, store))
    return registry, store


# which registry, which store


def test_the_registry_is_named_by_option_or_variable_and_its_namespace_is_the_store(
    hub: LoopbackHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    artifact = make_artifact(tmp_path / "da", "alice/da")
    assert main(["--registry", LABEL, "publish", str(artifact.path)]) == 0
    assert hub.has("alice/da")
    monkeypatch.setenv("ADAPTER_HUB_REGISTRY", LABEL)
    assert main(["retire", "alice/da@1.0.0", "--status", "deprecated", "--reason", "old"]) == 0
    assert [type(registry) for registry in Places().registries()] == [HubRegistry, FileRegistry]
    capsys.readouterr()
    assert main(["list", "--json"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert rows["alice/da"]["registry"] == LABEL
    assert rows["alice/da"]["status"] == "deprecated"
    assert {location["store"] for location in rows["alice/da"]["locations"]} == {"hf://alice"}
    for command in (["registry", "check"], ["registry", "rebuild"]):
        assert main(command) == 0
    told = capsys.readouterr()
    assert told.err == f"{LABEL}: registry and stores agree\n"
    assert told.out.startswith(f"{LABEL}: unchanged, 1 version, sequence 2")
    assert main(["show", "alice/da", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["registry"] == LABEL


@pytest.mark.parametrize("text", ["hf://alice/registry", "hf:datasets/alice/x", "s3://bucket/registry.json"])
def test_an_address_is_never_taken_for_a_file(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InvalidInputError, match="hf://datasets/namespace/name"):
        open_registry(text)
    assert main(["--registry", text, "list"]) == 1
    assert capsys.readouterr().err.startswith(f"error: registry {text}: ")
    assert main(["--store", "s3://bucket", "registry", "check"]) == 1
    assert "error: store s3://bucket: expected a folder, or hf://namespace" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_registry_on_the_hub_lists_no_folders(hub: LoopbackHub, tmp_path: Path) -> None:
    registry, _ = places(hub, tmp_path, "here")
    artifact = make_artifact(tmp_path / "da", "alice/da")
    _, folder = make_places(tmp_path)
    with pytest.raises(InvalidInputError, match=f"{LABEL} is on the Hub.*folder.*--store hf://alice"):
        publish(artifact.path, Places(registry, folder))
    assert not folder.path.exists()
    assert not hub.has(REPO)
    with pytest.raises(InvalidInputError, match=r"on the Hub and names a folder, /etc"):
        open_location(Location(store="/etc", path="x"), registry)


def test_a_file_lists_folders_and_the_hub_alike(hub: LoopbackHub, tmp_path: Path) -> None:
    registry, folder = make_places(tmp_path)
    artifact = make_artifact(tmp_path / "da", "alice/da")
    store = hub_store(hub, "alice", tmp_path / "cache")
    for place in (folder, store):
        publish(artifact.path, Places(registry, place))
    stores = [location.store for location in registry.adapters["alice/da"]["1.0.0"].locations]
    assert sorted(stores) == ["./store", "hf://alice"]
    assert check(registry, [folder, store]) == []


# the whole way, and races


def test_what_one_machine_publishes_another_pulls(
    here: tuple[HubRegistry, HubStore], hub: LoopbackHub, tmp_path: Path
) -> None:
    registry, _ = places(hub, tmp_path, "there")
    artifact = pull("alice/da", Places([registry], cache=Cache(tmp_path / "there")))
    assert artifact.digest == registry.adapters["alice/da"]["1.0.0"].digest
    hub.log.clear()
    again, _ = places(hub, tmp_path, "there")
    pull("alice/da@1.0.0", Places([again], cache=Cache(tmp_path / "there")))
    assert len(hub.log) == 0


def test_publishing_again_changes_nothing_and_other_bytes_are_refused(
    here: tuple[HubRegistry, HubStore], hub: LoopbackHub, tmp_path: Path
) -> None:
    registry, store = places(hub, tmp_path, "there")
    before = hub.refs(REPO)
    assert not publish(tmp_path / "da", Places(registry, store)).is_new
    other = make_artifact(tmp_path / "other", "alice/da", seed=5.0)
    with pytest.raises(ConflictError, match=rf"alice/da@1\.0\.0 exists in {LABEL} with other bytes"):
        publish(other.path, Places(registry, store))
    assert hub.refs(REPO) == before


def test_a_version_that_somebody_lists_with_other_bytes_during_the_push_is_not_overwritten(
    here: tuple[HubRegistry, HubStore], hub: LoopbackHub, tmp_path: Path
) -> None:
    registry, store = here
    artifact = make_artifact(tmp_path / "el", "alice/el")
    rival = hub_registry(hub, tmp_path / "rival")
    hub.faults.add("before", endpoint="create-tag", action=lambda: rival.update(adding("alice/el", "1.0.0")))
    with pytest.raises(ConflictError, match=r"alice/el@1\.0\.0 exists in .* with other bytes"):
        publish(artifact.path, Places(registry, store))
    assert registry.adapters["alice/el"]["1.0.0"] == rival.adapters["alice/el"]["1.0.0"]
    assert registry.sequence == 2


def test_a_parent_that_is_quarantined_during_the_push_stops_its_child(
    here: tuple[HubRegistry, HubStore], hub: LoopbackHub, tmp_path: Path
) -> None:
    registry, store = here
    child = make_child(tmp_path / "child", make_artifact(tmp_path / "parent", "alice/da"), "alice/child")
    there = places(hub, tmp_path, "there")

    def quarantine() -> None:
        retire(DA, "quarantined", "bad", Places(there[0], there[1]))

    hub.faults.add("before", endpoint="create-tag", action=quarantine)
    with pytest.raises(StatusError, match=r"made from a quarantined version: alice/da@1\.0\.0"):
        publish(child.path, Places(registry, store))
    assert "alice/child" not in there[0].adapters


def test_two_reports_attached_at_once_are_both_listed(
    here: tuple[HubRegistry, HubStore], hub: LoopbackHub, tmp_path: Path
) -> None:
    artifact = make_artifact(tmp_path / "again", "alice/da")
    there = places(hub, tmp_path, "there")

    def other() -> None:
        attach(make_report(artifact, data="letters"), Places(there[0], there[1]))

    commits = f"api/{REPO}/commit"
    hub.faults.add("before", "POST", commits, action=other)
    attach(make_report(artifact), Places(here[0], here[1]))
    scores = here[0].adapters["alice/da"]["1.0.0"].scores
    assert {score.data for score in scores} == {"numbers", "letters"}
    assert check(here[0], [here[1]]) == []


def test_a_withdrawal_is_final_whoever_was_faster(
    here: tuple[HubRegistry, HubStore], hub: LoopbackHub, tmp_path: Path
) -> None:
    there = places(hub, tmp_path, "there")

    def withdraw() -> None:
        retire(DA, "withdrawn", "licence", Places(there[0], there[1]))

    hub.faults.add("before", "POST", f"api/{REPO}/commit", action=withdraw)
    with pytest.raises(StatusError, match=r"was withdrawn: its files are gone"):
        retire(DA, "deprecated", "old", Places(here[0], here[1]))
    assert here[0].adapters["alice/da"]["1.0.0"].status == "withdrawn"
    assert not rebuild(here[0], [here[1]]).changed


def test_the_registry_is_made_anew_from_the_hub_s_own_listing(
    here: tuple[HubRegistry, HubStore], hub: LoopbackHub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    registry, store = here
    publish(make_artifact(tmp_path / "el", "alice/el", "1.1.0").path, Places(registry, store))
    attach(make_report(make_artifact(tmp_path / "again", "alice/da")), Places(registry, store))
    lost = json.loads(hub.files(REPO)["registry.json"])["adapters"]
    hub.delete(REPO)
    command = ["--registry", LABEL, "--cache", str(tmp_path / "another"), "registry", "rebuild"]
    assert main(command) == 0
    assert "rebuilt, 2 versions, sequence 1" in capsys.readouterr().out
    assert json.loads(hub.files(REPO)["registry.json"])["adapters"] == lost


def test_a_rebuild_knows_what_is_published_meanwhile(
    here: tuple[HubRegistry, HubStore], hub: LoopbackHub, tmp_path: Path
) -> None:
    registry, store = here
    there = places(hub, tmp_path, "there")
    artifact = make_artifact(tmp_path / "el", "alice/el")

    def meanwhile() -> None:
        publish(artifact.path, Places(there[0], there[1]))

    registry.update(  # something for the rebuild to mend
        lambda adapters: adapters["alice/da"].update(
            {"1.0.0": adapters["alice/da"]["1.0.0"].model_copy(update={"license": "MIT"})}
        )
    )
    hub.faults.add("before", "POST", f"api/{REPO}/commit", action=meanwhile)
    assert rebuild(registry, [store]).changed
    assert registry.adapters.keys() == {"alice/da", "alice/el"}
    assert check(registry, [store]) == []
