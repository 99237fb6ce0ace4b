"""What every store promises: one suite, run on each kind of store there is."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from hub_places import hub_store
from loopback_hub import LoopbackHub
from making import make_artifact, make_child, make_report

from adapter_hub.artifact.folder import Artifact
from adapter_hub.errors import ConflictError, IntegrityError, InvalidInputError, NotFoundError
from adapter_hub.formats.claims import Status, StatusEntry
from adapter_hub.stores.contract import Store
from adapter_hub.stores.folder import FolderStore
from adapter_hub.stores.opening import open_store


@pytest.fixture(params=["folder", "hub"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    if request.param == "folder":
        yield FolderStore(tmp_path / "store")
        return
    with LoopbackHub(tmp_path / "hub") as hub:
        yield hub_store(hub)


@pytest.fixture
def artifact(tmp_path: Path) -> Artifact:
    return make_artifact(tmp_path / "da")


def entry(artifact: Artifact, status: Status, reason: str = "why") -> StatusEntry:
    return StatusEntry(
        version=artifact.manifest.version,
        digest=artifact.digest,
        status=status,
        reason=reason,
        time="2026-03-01T00:00:00Z",
    )


def test_an_empty_store_has_nothing(store: Store, tmp_path: Path) -> None:
    assert store.names() == []
    assert store.versions("test/da") == []
    assert store.claims("test/da").reports == ()
    with pytest.raises(NotFoundError, match=r"no test/da@1\.0\.0"):
        store.manifest("test/da", "1.0.0")
    with pytest.raises(NotFoundError, match=r"no test/da@1\.0\.0"):
        store.fetch("test/da", "1.0.0", tmp_path / "new")


def test_what_was_pushed_is_fetched_the_same(store: Store, artifact: Artifact, tmp_path: Path) -> None:
    child = make_child(tmp_path / "child", artifact)
    for item in (artifact, child, artifact):
        store.push(item)
    assert store.names() == ["test/child", "test/da"]
    assert store.manifest("test/child", "1.0.0") == (child.manifest, child.digest)
    fetched = store.fetch("test/child", "1.0.0", tmp_path / "new", digest=child.digest)
    fetched.verify()
    assert fetched.digest == child.digest


def test_versions_come_from_oldest_to_newest(store: Store, tmp_path: Path) -> None:
    for version in ("1.10.0", "1.9.0", "1.10.0rc1"):
        store.push(make_artifact(tmp_path / version, version=version))
    assert store.versions("test/da") == ["1.9.0", "1.10.0rc1", "1.10.0"]


def test_a_version_never_changes(store: Store, artifact: Artifact, tmp_path: Path) -> None:
    store.push(artifact)
    with pytest.raises(ConflictError, match="a version never changes"):
        store.push(make_artifact(tmp_path / "other", seed=5.0))


def test_a_damaged_artifact_does_not_get_in(store: Store, artifact: Artifact) -> None:
    (artifact.path / "adapter_config.json").write_text("{}")
    with pytest.raises(IntegrityError, match="adapter_config.json: 2 bytes, expected"):
        store.push(artifact)
    assert store.names() == []


def test_another_digest_than_the_expected_is_not_fetched(
    store: Store, artifact: Artifact, tmp_path: Path
) -> None:
    store.push(artifact)
    with pytest.raises(IntegrityError, match="expected sha256:0000"):
        store.fetch("test/da", "1.0.0", tmp_path / "new", digest=f"sha256:{'0' * 64}")
    assert not (tmp_path / "new").exists()


def test_claims_are_added_once_and_the_last_status_counts(store: Store, artifact: Artifact) -> None:
    store.push(artifact)
    report = make_report(artifact)
    statuses: tuple[Status, ...] = ("active", "deprecated", "deprecated", "active")
    for day, status in enumerate(statuses, 1):
        said = entry(artifact, status).model_copy(update={"time": f"2026-03-0{day}T00:00:00Z"})
        store.attach("test/da", said)
    for _ in range(2):
        store.attach("test/da", report)
    claims = store.claims("test/da")
    assert claims.reports == (report,)
    assert [item.status for item in claims.statuses] == ["active", "deprecated", "active"]
    assert claims.status_of("1.0.0") == said
    assert claims.status_of("2.0.0") is None


def test_what_is_attached_late_does_not_undo_what_happened_after_it(store: Store, artifact: Artifact) -> None:
    store.push(artifact)
    quarantined = entry(artifact, "quarantined").model_copy(update={"time": "2026-03-05T00:00:00Z"})
    for late in (quarantined, entry(artifact, "active"), entry(artifact, "active")):
        store.attach("test/da", late)
    claims = store.claims("test/da")
    assert [item.status for item in claims.statuses] == ["active", "quarantined"]
    assert claims.status_of("1.0.0") == quarantined


def test_a_claim_about_what_is_not_there_is_refused(store: Store, artifact: Artifact, tmp_path: Path) -> None:
    store.push(artifact)
    other = make_artifact(tmp_path / "other", seed=5.0)
    with pytest.raises(NotFoundError, match="no version of test/da has the function digest"):
        store.attach("test/da", make_report(other))
    with pytest.raises(IntegrityError, match="the claim is about"):
        store.attach("test/da", entry(other, "yanked"))
    with pytest.raises(NotFoundError, match=r"no test/el@1\.0\.0"):
        store.attach("test/el", entry(artifact, "yanked"))


def test_withdrawing_keeps_the_manifest(store: Store, artifact: Artifact) -> None:
    store.push(artifact)
    store.withdraw("test/da", "1.0.0")
    assert store.versions("test/da") == ["1.0.0"]
    assert store.manifest("test/da", "1.0.0")[1] == artifact.digest


@pytest.mark.parametrize("name", ["../../etc", "/etc/passwd", "test/..", "test/da/1.0.0", "test"])
def test_names_cannot_leave_the_store(store: Store, name: str) -> None:
    with pytest.raises(InvalidInputError, match="adapter name"):
        store.versions(name)
    with pytest.raises(InvalidInputError, match="version"):
        store.manifest("test/da", "../x")


# folders only


def test_strange_files_in_a_folder_store_are_no_versions(tmp_path: Path, artifact: Artifact) -> None:
    store = FolderStore(tmp_path / "store")
    store.push(artifact)
    for name in (".tmp-1-abc/adapter.json", "1.1.0/half.safetensors", "latest/adapter.json"):
        path = store.path / "test/da" / name
        path.parent.mkdir()
        path.write_text("{}")
    (store.path / "Upper" / "case").mkdir(parents=True)
    assert store.versions("test/da") == ["1.0.0"]
    assert store.names() == ["test/da"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "Expecting property name"),
        ("{}", "expected a list of status entries"),
        ('[{"version": "1.0.0"}]', "entry 1: missing field 'digest'"),
    ],
)
def test_a_damaged_status_file_is_an_error_and_never_active(
    tmp_path: Path, artifact: Artifact, text: str, message: str
) -> None:
    store = FolderStore(tmp_path / "store")
    store.push(artifact)
    (store.path / "test/da/status.json").write_text(text)
    with pytest.raises(IntegrityError, match=message):
        store.claims("test/da")
    with pytest.raises(IntegrityError, match=message):
        store.fetch("test/da", "1.0.0", tmp_path / "new")


def test_a_location_is_relative_where_registry_and_store_move_together(tmp_path: Path) -> None:
    registry = tmp_path / "hub" / "registry.json"
    inside, outside = FolderStore(tmp_path / "hub" / "store"), FolderStore(tmp_path / "far")
    place = inside.location("test/da", "1.0.0", registry)
    assert json.loads(place.to_bytes()) == {"store": "./store", "path": "test/da/1.0.0"}
    assert open_store(place.store, tmp_path / "moved" / "registry.json").names() == []
    assert outside.location("test/da", "1.0.0", registry).store == str(tmp_path / "far")
    with pytest.raises(InvalidInputError, match="expected a folder, or hf://namespace"):
        open_store("s3://somebody", registry)
