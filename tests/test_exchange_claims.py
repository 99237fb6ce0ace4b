"""Reports and statuses: attached in the store, mirrored in the registry, and rebuilt from the store."""

from __future__ import annotations

import json
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from making import OTHER_BASE, make_artifact, make_child, make_places, make_report

from adapter_hub.artifact.folder import Artifact
from adapter_hub.errors import IntegrityError, InvalidInputError, NotFoundError, StatusError
from adapter_hub.exchange import Places, attach, check, publish, rebuild, retire
from adapter_hub.formats.claims import StatusEntry
from adapter_hub.formats.reference import AdapterRef
from adapter_hub.formats.times import second_after
from adapter_hub.registry.file import FileRegistry
from adapter_hub.stores.folder import FolderStore

Pair = tuple[FileRegistry, FolderStore]
DA = AdapterRef.parse("test/da@1.0.0")


@pytest.fixture
def places(tmp_path: Path) -> Pair:
    return make_places(tmp_path)


@pytest.fixture
def artifact(tmp_path: Path) -> Artifact:
    return make_artifact(tmp_path / "da")


def give(artifact: Artifact, places: Pair) -> None:
    publish(artifact.path, Places(*places))


def test_a_report_gives_a_score_to_all_versions_with_these_weights(
    artifact: Artifact, places: Pair, tmp_path: Path
) -> None:
    registry, store = places
    give(artifact, places)
    give(make_artifact(tmp_path / "patch", version="1.0.1", authors=["B. Tester"]), places)
    give(make_artifact(tmp_path / "minor", version="1.1.0", seed=3.0), places)
    attach(make_report(artifact, errors=2), Places(registry, store))
    attach(make_report(artifact, errors=1, created="2026-02-01T00:00:00Z"), Places(registry, store))
    attach(make_report(artifact, errors=1, split="dev"), Places(registry, store))
    versions = registry.adapters["test/da"]
    scores = [(score.split, score.value, score.n, score.decoding) for score in versions["1.0.0"].scores]
    assert scores == [("dev", 0.1, 1, "greedy"), ("test", 0.1, 1, "greedy")]  # of two reports, the newest
    assert versions["1.0.1"].scores == versions["1.0.0"].scores
    assert versions["1.1.0"].scores == ()
    assert len(store.claims("test/da").reports) == 3


def test_attaching_the_same_again_does_nothing(artifact: Artifact, places: Pair) -> None:
    give(artifact, places)
    for _ in range(2):
        attach(make_report(artifact), Places(*places))
    assert places[0].sequence == 2
    assert len(places[1].claims("test/da").reports) == 1


def test_a_report_on_other_weights_or_another_base_model_is_refused(
    artifact: Artifact, places: Pair, tmp_path: Path
) -> None:
    registry, store = places
    stranger = make_artifact(tmp_path / "stranger", seed=9.0)
    give(artifact, places)
    with pytest.raises(
        NotFoundError, match="no version of test/da has the function digest .*publish it first"
    ):
        attach(make_report(stranger), Places(registry, store))
    with pytest.raises(IntegrityError, match=f"measured on base model {OTHER_BASE}"):
        attach(make_report(artifact, base_model_digest=OTHER_BASE), Places(registry, store))
    with pytest.raises(InvalidInputError, match="about the base model alone"):
        attach(make_report(artifact, subject={}), Places(registry, store))


def test_an_edited_report_is_noticed(artifact: Artifact, places: Pair) -> None:
    give(artifact, places)
    attach(make_report(artifact), Places(*places))
    (path,) = (places[1].path / "test/da/evaluations").glob("*/*.json")
    path.write_text(path.read_text().replace('"speaker', '"x').replace("en to fire", "en to tre"))
    with pytest.raises(IntegrityError, match="its name has to be that"):
        places[1].claims("test/da")


# retire


def test_withdrawing_removes_the_files_and_keeps_the_manifests(
    artifact: Artifact, places: Pair, tmp_path: Path
) -> None:
    registry, store = places
    child = make_child(tmp_path / "child", artifact)
    give(child, places)
    retire(AdapterRef.parse("test/child@1.0.0"), "withdrawn", "licence", Places(registry, store))
    folder = store.path / "test/child/1.0.0"
    kept = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    assert [path.split("/")[0] for path in kept] == ["adapter.json", "ancestors"]
    assert store.manifest("test/child", "1.0.0") == (child.manifest, child.digest)
    assert check(registry, [store]) == []
    with pytest.raises(StatusError, match="its files are gone, so it cannot become active"):
        retire(AdapterRef.parse("test/child@1.0.0"), "active", "oh", Places(registry, store))
    with pytest.raises(StatusError, match=r"was withdrawn \(licence\): its files were removed"):
        give(child, places)
    with pytest.raises(StatusError, match="was withdrawn"):
        store.fetch("test/child", "1.0.0", tmp_path / "new")


def test_retiring_counts_although_this_machine_s_clock_is_behind(artifact: Artifact, places: Pair) -> None:
    registry, store = places
    give(artifact, places)
    values = {"version": "1.0.0", "digest": artifact.digest, "status": "deprecated", "reason": "old"}
    soon = (datetime.now(UTC) + timedelta(hours=5)).strftime("%Y-%m-%dT%H:%M:%SZ")
    store.attach("test/da", StatusEntry.model_validate({**values, "time": soon}))
    retire(DA, "quarantined", "bad text", Places(registry, store))
    last = store.claims("test/da").status_of("1.0.0")
    assert last is not None
    assert (last.status, last.time) == ("quarantined", second_after(soon))
    assert registry.adapters["test/da"]["1.0.0"].status == "quarantined"


def test_a_status_whose_time_is_none_is_one_line(artifact: Artifact, places: Pair) -> None:
    give(artifact, places)
    path = places[1].path / "test/da/status.json"
    path.write_text(json.dumps([{**json.loads(path.read_text())[0], "time": "2026-99-99T99:99:99Z"}]))
    with pytest.raises(IntegrityError, match="expected a time in UTC that exists.*2026-99-99T99:99:99Z"):
        retire(DA, "quarantined", "bad text", Places(*places))


def test_retiring_needs_an_exact_version_and_a_reason(artifact: Artifact, places: Pair) -> None:
    give(artifact, places)
    for ref, reason, message in (
        ("test/da", "bad", "name the version to retire, like test/da@1.0.0"),
        ("test/da@1.0.0", " ", "a status needs a reason"),
    ):
        with pytest.raises(InvalidInputError, match=message):
            retire(AdapterRef.parse(ref), "yanked", reason, Places(*places))
    with pytest.raises(NotFoundError, match="no such version"):
        retire(AdapterRef.parse("test/da@9.0.0"), "yanked", "x", Places(*places))


# rebuild and check


def test_rebuilding_gives_the_same_registry(artifact: Artifact, places: Pair, tmp_path: Path) -> None:
    registry, store = places
    give(artifact, places)
    give(make_child(tmp_path / "child", artifact), places)
    attach(make_report(artifact), Places(registry, store))
    retire(DA, "yanked", "bad text", Places(registry, store))
    assert check(registry, [store]) == []
    assert not rebuild(registry, [store]).changed
    lost = json.loads(registry.path.read_text())["adapters"]
    registry.path.unlink()
    rebuilt = FileRegistry(registry.path)
    assert rebuild(rebuilt, [store]).changed
    assert json.loads(registry.path.read_text())["adapters"] == lost


def test_checking_tells_what_is_in_one_of_them_only(artifact: Artifact, places: Pair, tmp_path: Path) -> None:
    registry, store = places
    give(artifact, places)
    store.push(make_artifact(tmp_path / "x", "test/el"))
    attach_behind = make_report(artifact)
    store.attach("test/da", attach_behind)
    found = [(item.code, item.ref) for item in check(registry, [store])]
    assert found == [("registry-stale", "test/da@1.0.0"), ("registry-not-listed", "test/el@1.0.0")]
    rebuild(registry, [store])
    assert check(registry, [store]) == []
    shutil.rmtree(store.path / "test/el")
    assert [item.code for item in check(registry, [store])] == ["registry-without-bytes"]
    rebuilt = rebuild(registry, [store])
    assert not rebuilt.changed
    assert [item.code for item in rebuilt.findings] == ["registry-without-bytes"]
