"""Which version does a reference mean, and what does each status allow?"""

from __future__ import annotations

from pathlib import Path

import pytest
from making import make_artifact, make_child, make_places

from adapter_hub.artifact.folder import Artifact
from adapter_hub.errors import IntegrityError, InvalidInputError, NotFoundError, StatusError
from adapter_hub.exchange import Places, publish, retire
from adapter_hub.formats.claims import Status
from adapter_hub.formats.reference import AdapterRef
from adapter_hub.registry.file import FileRegistry
from adapter_hub.registry.resolution import look_up, resolve
from adapter_hub.stores.folder import FolderStore


class Hub:
    """A registry with its store, and a short way to fill and ask it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.registry, self.store = make_places(folder)

    def add(self, name: str, version: str, seed: float = 1.0) -> Artifact:
        artifact = make_artifact(self.folder / f"{name}-{version}", name, version, seed=seed)
        publish(artifact.path, Places(self.registry, self.store))
        return artifact

    def add_child(self, parent: Artifact, name: str, version: str = "1.0.0") -> Artifact:
        child = make_child(self.folder / f"{name}-{version}", parent, name, version)
        publish(child.path, Places(self.registry, self.store))
        return child

    def set(self, ref: str, status: Status) -> list[str]:
        return retire(AdapterRef.parse(ref), status, "bad text", Places(self.registry, self.store))

    def version(self, ref: str, allow: str | None = None) -> str:
        return resolve(AdapterRef.parse(ref), (self.registry,), allow_quarantined=allow).version

    def warnings(self, ref: str, allow: str | None = None) -> tuple[str, ...]:
        return resolve(AdapterRef.parse(ref), (self.registry,), allow_quarantined=allow).warnings


@pytest.fixture
def hub(tmp_path: Path) -> Hub:
    return Hub(tmp_path)


@pytest.fixture
def filled(hub: Hub) -> Hub:
    """test/da 1.0.0, 1.2.0, 1.10.0, 2.0.0rc1."""
    for number, version in enumerate(("1.0.0", "1.2.0", "1.10.0", "2.0.0rc1")):
        hub.add("test/da", version, seed=number + 1.0)
    return hub


@pytest.mark.parametrize(
    ("ref", "version"),
    [
        ("test/da", "1.10.0"),
        ("test/da~=1.1", "1.10.0"),
        ("test/da~=1.2.0", "1.2.0"),
        ("test/da@1.0.0", "1.0.0"),
        ("test/da@2.0.0rc1", "2.0.0rc1"),
    ],
)
def test_a_reference_means_the_newest_version_that_it_admits(filled: Hub, ref: str, version: str) -> None:
    assert filled.version(ref) == version


def test_a_digest_pins_alone_or_with_a_version(filled: Hub) -> None:
    digest = filled.registry.adapters["test/da"]["1.0.0"].digest
    assert filled.version(f"test/da#{digest}") == "1.0.0"
    assert filled.version(f"test/da@1.0.0#{digest}") == "1.0.0"
    with pytest.raises(IntegrityError, match=r"test/da@1\.2\.0 has digest .*, expected .*, the pinned one"):
        filled.version(f"test/da@1.2.0#{digest}")
    with pytest.raises(NotFoundError, match="no such version"):
        filled.version(f"test/da#sha256:{'0' * 64}")


@pytest.mark.parametrize(
    ("ref", "message"),
    [
        ("test/dq", r"no such adapter in .*did you mean test/da\?"),
        ("zzz/qqq", "`adapter-hub list` shows what there is"),
        ("test/da@3.0.0", "no such version; test/da has 1.0.0, 1.2.0, 1.10.0, 2.0.0rc1"),
        ("test/da~=2.0", "a pre-release has to be named exactly"),
    ],
)
def test_what_is_not_there_is_said_with_what_is(filled: Hub, ref: str, message: str) -> None:
    with pytest.raises(NotFoundError, match=message):
        filled.version(ref)


def test_a_reference_past_the_registry_is_not_answered_by_it(filled: Hub) -> None:
    with pytest.raises(InvalidInputError, match="bypasses the registry"):
        filled.version("hf://test/da")


# the table of statuses


def test_deprecated_is_resolved_with_a_warning(hub: Hub) -> None:
    hub.add("test/da", "1.0.0")
    hub.set("test/da@1.0.0", "deprecated")
    for ref in ("test/da", "test/da@1.0.0"):
        assert hub.warnings(ref) == ("test/da@1.0.0 is deprecated (bad text)",)


def test_yanked_is_not_resolved_anew_but_an_exact_pin_gets_it_with_a_warning(filled: Hub) -> None:
    filled.set("test/da@1.10.0", "yanked")
    assert filled.version("test/da") == "1.2.0"
    assert filled.version("test/da@1.10.0") == "1.10.0"
    assert filled.warnings("test/da@1.10.0") == ("test/da@1.10.0 is yanked (bad text)",)


def test_a_digest_is_an_exact_pin(filled: Hub) -> None:
    filled.set("test/da@1.10.0", "yanked")
    digest = filled.registry.adapters["test/da"]["1.10.0"].digest
    assert filled.version(f"test/da#{digest}") == "1.10.0"


def test_if_every_version_is_yanked_the_error_says_how_to_get_one(hub: Hub) -> None:
    hub.add("test/da", "1.0.0")
    hub.set("test/da@1.0.0", "yanked")
    with pytest.raises(StatusError, match=r"is yanked \(bad text\); an exact version, like NAME@VERSION"):
        hub.version("test/da")


def test_quarantined_is_refused_unless_its_digest_is_allowed(hub: Hub) -> None:
    artifact = hub.add("test/da", "1.0.0")
    hub.set("test/da@1.0.0", "quarantined")
    with pytest.raises(StatusError, match=f"--allow-quarantined {artifact.digest}"):
        hub.version("test/da@1.0.0")
    with pytest.raises(StatusError, match="is quarantined"):
        hub.version("test/da@1.0.0", f"sha256:{'0' * 64}")
    assert hub.warnings("test/da@1.0.0", artifact.digest) == ("test/da@1.0.0 is quarantined (bad text)",)
    how = f"use it anyway, name the version and --allow-quarantined {artifact.digest}"
    with pytest.raises(StatusError, match=how):
        hub.version("test/da", artifact.digest)  # a new resolve never chooses it


def test_withdrawn_is_gone_for_every_use(hub: Hub) -> None:
    hub.add("test/da", "1.0.0")
    hub.set("test/da@1.0.0", "withdrawn")
    for ref in ("test/da", "test/da@1.0.0"):
        with pytest.raises(StatusError, match="withdrawn"):
            hub.version(ref)


def test_descendants_of_a_quarantined_version_are_refused_transitively(hub: Hub) -> None:
    parent = hub.add("test/pl", "1.0.0")
    child = hub.add_child(parent, "test/cs")
    hub.add_child(child, "test/sk")
    assert hub.set("test/pl@1.0.0", "quarantined") == ["test/cs@1.0.0", "test/sk@1.0.0"]
    for ref in ("test/cs", "test/sk", "test/sk@1.0.0"):
        with pytest.raises(StatusError, match=r"made from a quarantined version: test/pl@1\.0\.0"):
            hub.version(ref)
    assert "test/pl@1.0.0 is quarantined" in hub.warnings("test/sk", parent.digest)[0]


def test_a_newer_version_with_a_quarantined_ancestor_is_skipped_with_a_warning(hub: Hub) -> None:
    parent = hub.add("test/pl", "1.0.0", seed=3.0)
    hub.add("test/cs", "1.0.0")
    hub.add_child(parent, "test/cs", "1.1.0")
    hub.set("test/pl@1.0.0", "quarantined")
    assert hub.version("test/cs") == "1.0.0"
    assert hub.warnings("test/cs")[0].startswith("test/cs@1.1.0 was skipped: ")


@pytest.mark.parametrize("status", ["deprecated", "yanked", "withdrawn"])
def test_descendants_of_other_retired_versions_come_with_a_warning(hub: Hub, status: Status) -> None:
    parent = hub.add("test/pl", "1.0.0")
    child = hub.add_child(parent, "test/cs")
    hub.add_child(child, "test/sk")
    hub.set("test/pl@1.0.0", status)
    expected = f"test/sk@1.0.0 was made from a retired version: test/pl@1.0.0 is {status} (bad text)"
    assert hub.warnings("test/sk") == (expected,)


def test_a_version_can_come_back(hub: Hub) -> None:
    hub.add("test/da", "1.0.0")
    hub.set("test/da@1.0.0", "quarantined")
    hub.set("test/da@1.0.0", "active")
    assert hub.warnings("test/da") == ()
    statuses = [entry.status for entry in hub.store.claims("test/da").statuses]
    assert statuses == ["active", "quarantined", "active"]


def test_looking_up_refuses_nothing_and_tells_the_status(hub: Hub) -> None:
    hub.add("test/da", "1.0.0")
    hub.set("test/da@1.0.0", "quarantined")
    found = look_up(AdapterRef.parse("test/da"), [hub.registry])
    assert found.ref == "test/da@1.0.0"
    assert found.warnings[0].startswith("test/da@1.0.0 is quarantined")


# several registries


def second_registry(hub: Hub, tmp_path: Path) -> tuple[FileRegistry, FolderStore]:
    return make_places(tmp_path / "second")


def test_the_first_registry_that_has_the_version_answers(filled: Hub, tmp_path: Path) -> None:
    other, store = second_registry(filled, tmp_path)
    artifact = make_artifact(tmp_path / "x", "test/da", "1.20.0", seed=9.0)
    publish(artifact.path, Places(other, store))
    both = (filled.registry, other)
    assert resolve(AdapterRef.parse("test/da"), both).version == "1.10.0"
    assert resolve(AdapterRef.parse("test/da@1.20.0"), both).registry is other
    assert resolve(AdapterRef.parse("test/da"), (other, filled.registry)).version == "1.20.0"


def test_registries_that_disagree_on_a_digest_are_an_error(filled: Hub, tmp_path: Path) -> None:
    other, store = second_registry(filled, tmp_path)
    artifact = make_artifact(tmp_path / "x", "test/da", "1.0.0", seed=9.0)
    publish(artifact.path, Places(other, store))
    with pytest.raises(IntegrityError, match=r"test/da@1\.0\.0: sha256:.*a version never changes"):
        resolve(AdapterRef.parse("test/da@1.0.0"), (filled.registry, other))


def test_the_strictest_status_of_any_registry_counts(hub: Hub, tmp_path: Path) -> None:
    artifact = hub.add("test/da", "1.0.0")
    other, store = second_registry(hub, tmp_path)
    publish(artifact.path, Places(other, store))
    retire(AdapterRef.parse("test/da@1.0.0"), "quarantined", "bad", Places(other, store))
    with pytest.raises(StatusError, match="is quarantined"):
        resolve(AdapterRef.parse("test/da@1.0.0"), (hub.registry, other))
