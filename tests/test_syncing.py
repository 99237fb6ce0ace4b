"""Sync: the same adapters to the byte, whatever happened to registries and stores meanwhile."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from application import Site
from making import make_artifact, make_places
from test_concurrent_publishers import all_at_once

from adapter_hub.artifact.folder import Artifact
from adapter_hub.errors import AdapterHubError, IntegrityError, InvalidInputError
from adapter_hub.exchange import Places, publish, retire
from adapter_hub.formats.claims import Status
from adapter_hub.formats.reference import AdapterRef
from adapter_hub.registry.file import FileRegistry


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def test_sync_installs_exactly_what_is_locked(site: Site) -> None:
    site.lock()
    site.publish_newer()
    site.forget()
    before = site.path.read_bytes()
    assert site.sync(to=site.folder / "models") == ["test/da@1.0.0", "test/pl@1.0.0"]
    assert Artifact.open(site.folder / "models/test/da").digest == site.old.digest
    assert site.path.read_bytes() == before
    assert site.told == []


def test_everything_in_the_cache_needs_neither_registry_nor_store(site: Site) -> None:
    site.lock()
    shutil.rmtree(site.registry.path.parent)
    assert site.sync() == ["test/da@1.0.0", "test/pl@1.0.0"]
    assert [line for line in site.told if "is not asked; its statuses since" in line]


def test_the_place_that_was_locked_helps_when_no_registry_knows_one(site: Site) -> None:
    site.lock()
    site.forget()
    other = FileRegistry(site.folder / "other.json")
    assert site.sync(other) == ["test/da@1.0.0", "test/pl@1.0.0"]
    assert len(site.told) == 1


def test_the_registry_s_place_helps_when_the_store_moved_since(site: Site) -> None:
    site.lock()
    site.forget()
    shutil.move(site.store.path, site.folder / "elsewhere")
    tree = json.loads(
        site.registry.path.read_text(encoding="utf-8").replace("./store", str(site.folder / "elsewhere"))
    )
    tree["sequence"] += 1
    site.registry.path.write_text(json.dumps(tree), encoding="utf-8")
    assert site.sync() == ["test/da@1.0.0", "test/pl@1.0.0"]


def test_another_registry_with_other_bytes_of_a_locked_version_is_an_error(site: Site) -> None:
    site.lock()
    other, store = make_places(site.folder / "second")
    publish(make_artifact(site.folder / "fake", "test/pl", seed=5.0).path, Places(other, store))
    with pytest.raises(IntegrityError, match=r"test/pl@1\.0\.0: sha256:.* is locked, but registry .* has"):
        site.sync(other)


def test_another_registry_s_quarantine_counts_too(site: Site) -> None:
    site.lock()
    other, store = make_places(site.folder / "second")
    publish(site.parent.path, Places(other, store))
    retire(AdapterRef.parse("test/pl@1.0.0"), "quarantined", "bad", Places(other, store))
    failed: dict[str, AdapterHubError] = {}
    assert site.sync(other, failed=failed.__setitem__) == []
    assert list(failed) == ["test/da@1.0.0", "test/pl@1.0.0"]


def test_an_older_copy_of_the_registry_is_an_error(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    older = site.registry.path.read_bytes()
    site.publish_newer()
    site.lock()
    site.registry.path.write_bytes(older)
    monkeypatch.setenv("ADAPTER_HUB_CACHE", str(tmp_path / "another machine"))
    for attempt in (site.sync, site.update, site.lock):
        with pytest.raises(IntegrityError, match=r"its sequence is 2, .* was locked from 3: an older copy"):
            attempt()


def test_a_version_that_vanished_from_its_registry_is_an_error(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.lock()
    tree = json.loads(site.registry.path.read_bytes())
    del tree["adapters"]["test/da"]
    site.registry.path.write_text(json.dumps(tree), encoding="utf-8")
    monkeypatch.setenv("ADAPTER_HUB_CACHE", str(tmp_path / "another machine"))
    with pytest.raises(IntegrityError, match=r"test/da@1\.0\.0 vanished: .*registry\.json listed it"):
        site.sync()


@pytest.mark.parametrize("status", ["deprecated", "yanked"])
def test_a_deprecated_or_yanked_version_is_installed_with_a_warning(site: Site, status: Status) -> None:
    site.lock()
    site.retire("test/da@1.0.0", status)
    assert site.sync() == ["test/da@1.0.0", "test/pl@1.0.0"]
    assert site.told == [f"test/da@1.0.0 is {status} (bad text)"]


def test_a_quarantined_version_and_its_descendants_are_refused_unless_allowed(site: Site) -> None:
    site.lock()
    site.retire("test/pl@1.0.0", "quarantined")
    with pytest.raises(IntegrityError, match="2 of 2 adapters could not be installed") as caught:
        site.sync()
    assert "test/da@1.0.0 was made from a quarantined version" in str(caught.value)
    assert f"--allow-quarantined {site.parent.digest}" in str(caught.value)
    assert site.sync(allow_quarantined=site.parent.digest) == ["test/da@1.0.0", "test/pl@1.0.0"]


def test_a_withdrawn_version_is_refused_even_from_the_cache_and_the_others_are_installed(site: Site) -> None:
    site.lock()
    site.retire("test/da@1.0.0", "withdrawn")
    failed: dict[str, AdapterHubError] = {}
    assert site.sync(failed=failed.__setitem__) == ["test/pl@1.0.0"]
    assert str(failed["test/da@1.0.0"]).startswith("test/da@1.0.0 is withdrawn (bad text): its files were")


def test_a_status_of_a_newer_program_is_not_taken_for_active(site: Site) -> None:
    site.lock()
    tree = json.loads(site.registry.path.read_bytes())
    tree["adapters"]["test/pl"]["1.0.0"]["schema"] = "version/2"
    tree["sequence"] += 1
    site.registry.path.write_text(json.dumps(tree), encoding="utf-8")
    failed: dict[str, AdapterHubError] = {}
    assert site.sync(failed=failed.__setitem__) == ["test/da@1.0.0"]
    assert "written by a newer program), so its status is unknown; upgrade" in str(failed["test/pl@1.0.0"])


# edited, damaged


def edit_base_model(tree: dict[str, Any]) -> None:
    tree["adapters"][0]["base_model"]["id"] = "other/model"


def edit_file(tree: dict[str, Any]) -> None:
    tree["adapters"][0]["files"][1]["size"] += 1


def edit_weights(tree: dict[str, Any]) -> None:
    tree["adapters"][0]["weights_digest"] = f"sha256:{'0' * 64}"


def edit_closure(tree: dict[str, Any]) -> None:
    tree["adapters"][0]["closure"] = []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (edit_base_model, "another base_model"),
        (edit_file, "another adapter_model.safetensors"),
        (edit_weights, "another weights_digest"),
        (edit_closure, "another closure"),
    ],
)
def test_an_edited_lock_is_noticed(
    site: Site, change: Callable[[dict[str, Any]], None], message: str
) -> None:
    site.lock()
    site.edit(change)
    with pytest.raises(
        IntegrityError, match=rf"test/da@1\.0\.0 is not what is locked: {message}; the lock was"
    ):
        site.sync()


def test_an_edited_digest_is_an_error_with_and_without_its_registry(site: Site) -> None:
    site.lock()
    site.edit(lambda tree: tree["adapters"][0].update(digest=f"sha256:{'0' * 64}"))
    with pytest.raises(IntegrityError, match=r"sha256:0+ is locked, but registry"):
        site.sync()
    with pytest.raises(
        IntegrityError, match=r"test/da@1\.0\.0 cannot be fetched: store .* expected sha256:0"
    ):
        site.sync(FileRegistry(site.folder / "none.json"))


def test_a_store_with_other_bytes_is_an_error_that_names_it(site: Site) -> None:
    site.lock()
    site.forget()
    weights = site.store.path / "test/da/1.0.0/adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"?")
    failed: dict[str, AdapterHubError] = {}
    assert site.sync(failed=failed.__setitem__) == ["test/pl@1.0.0"]
    message = str(failed["test/da@1.0.0"])
    assert f"store {site.store.path}: " in message
    assert "adapter_model.safetensors" in message
    assert not site.cache.place(site.old.digest).exists()


def test_requirements_that_were_edited_since_fail_when_locked(site: Site) -> None:
    site.lock()
    site.edit(lambda tree: tree.update(requirements=["test/da~=2.0"]))
    with pytest.raises(
        InvalidInputError, match=r"nothing is locked for test/da~=2\.0; no .*without --locked"
    ):
        site.sync()


# folders of the application


def test_a_newer_version_replaces_the_older_one_in_the_application_s_folder(site: Site) -> None:
    models = site.folder / "models"
    site.lock()
    site.sync(to=models)
    newer = site.publish_newer()
    site.lock()
    for _ in range(2):
        site.sync(to=models)
        assert Artifact.open(models / "test/da").digest == newer.digest
    assert sorted(path.name for path in (models / "test").iterdir()) == ["da", "pl"]


def test_what_is_not_the_same_adapter_is_never_replaced(site: Site) -> None:
    models = site.folder / "models"
    site.lock()
    (models / "test/da").mkdir(parents=True)
    (models / "test/da/notes.txt").write_text("mine", encoding="utf-8")
    make_artifact(models / "test/pl", "test/mine")
    failed: dict[str, AdapterHubError] = {}
    assert site.sync(to=models, failed=failed.__setitem__) == []
    assert "exists and is not an artifact" in str(failed["test/da@1.0.0"])
    assert "holds test/mine@1.0.0" in str(failed["test/pl@1.0.0"])
    assert (models / "test/da/notes.txt").read_text(encoding="utf-8") == "mine"


def test_a_changed_file_in_the_application_s_folder_is_an_error(site: Site) -> None:
    models = site.folder / "models"
    site.lock("test/pl")
    site.sync(to=models)
    (models / "test/pl/adapter_config.json").write_text("{}", encoding="utf-8")
    with pytest.raises(IntegrityError, match=r"adapter_config\.json: 2 bytes, expected"):
        site.sync(to=models)


def test_processes_that_sync_at_once_into_one_folder_all_succeed(site: Site) -> None:
    models = site.folder / "models"
    site.lock()
    site.sync(to=models)
    newer = site.publish_newer()
    site.lock()
    site.forget()
    codes = all_at_once([lambda: assert_synced(site, models) for _ in range(4)])
    assert codes == [0] * 4
    assert Artifact.open(models / "test/da").digest == newer.digest
    assert sorted(path.name for path in (models / "test").iterdir()) == ["da", "pl"]
    assert site.cache.verify() == {}


def assert_synced(site: Site, models: Path) -> None:
    assert site.sync(to=models) == ["test/da@1.1.0", "test/pl@1.0.0"]
