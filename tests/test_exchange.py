"""Does publishing, pulling, attaching and retiring keep store and registry together?"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from making import make_artifact, make_child, make_places

from adapter_hub import embedded
from adapter_hub.artifact.folder import Artifact
from adapter_hub.errors import (
    ConflictError,
    IntegrityError,
    InvalidInputError,
    StatusError,
)
from adapter_hub.exchange import Places, publish, pull, retire
from adapter_hub.formats.reference import AdapterRef
from adapter_hub.registry.file import FileRegistry
from adapter_hub.stores.cache import Cache
from adapter_hub.stores.folder import FolderStore

Pair = tuple[FileRegistry, FolderStore]
DA = AdapterRef.parse("test/da@1.0.0")


@pytest.fixture
def places(tmp_path: Path) -> Pair:
    return make_places(tmp_path)


@pytest.fixture
def artifact(tmp_path: Path) -> Artifact:
    return make_artifact(tmp_path / "da")


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


def give(artifact: Artifact, places: Pair) -> None:
    publish(artifact.path, Places(*places))


# publish


def test_a_published_artifact_is_in_the_store_in_the_registry_and_has_a_card(
    artifact: Artifact, places: Pair
) -> None:
    registry, store = places
    published = publish(artifact.path, Places(registry, store))
    assert (published.ref, published.digest, published.is_new) == ("test/da@1.0.0", artifact.digest, True)
    block = registry.adapters["test/da"]["1.0.0"]
    assert block.digest == artifact.digest
    assert block.languages == block.decode_languages == ("da",)
    assert block.size == sum(path.stat().st_size for path in artifact.path.iterdir())
    assert [(item.store, item.path) for item in block.locations] == [("./store", "test/da/1.0.0")]
    assert block.published == store.claims("test/da").statuses[0].time
    Artifact.open(store.path / "test/da/1.0.0").verify()
    assert "test/da" in (store.path / "test/da/README.md").read_text()


def test_publishing_the_same_again_does_nothing(artifact: Artifact, places: Pair) -> None:
    give(artifact, places)
    before = {path: path.stat().st_mtime_ns for path in places[1].path.rglob("*") if path.is_file()}
    again = publish(artifact.path, Places(*places))
    assert not again.is_new
    assert places[0].sequence == 1
    assert before == {path: path.stat().st_mtime_ns for path in before}


def test_an_existing_version_with_other_bytes_is_a_conflict(
    artifact: Artifact, places: Pair, tmp_path: Path
) -> None:
    give(artifact, places)
    other = make_artifact(tmp_path / "other", seed=5.0)
    with pytest.raises(
        ConflictError, match=r"test/da@1\.0\.0 exists in .* with other bytes .*higher version"
    ):
        give(other, places)


def test_a_version_that_only_the_store_has_with_other_bytes_is_a_conflict_too(
    artifact: Artifact, places: Pair, tmp_path: Path
) -> None:
    places[1].push(artifact)
    with pytest.raises(ConflictError, match="exists with other bytes"):
        give(make_artifact(tmp_path / "other", seed=5.0), places)
    assert places[0].adapters == {}


def test_a_damaged_artifact_is_not_published(artifact: Artifact, places: Pair) -> None:
    (artifact.path / "adapter_model.safetensors").write_bytes(b"damaged")
    with pytest.raises(IntegrityError, match="7 bytes, expected"):
        give(artifact, places)
    assert not places[0].path.exists()
    assert not places[1].path.exists()


def test_the_same_weights_get_another_name(artifact: Artifact, places: Pair) -> None:
    registry, store = places
    for _ in range(2):  # a retry makes the same bytes
        publish(artifact.path, Places(registry, store), rename=AdapterRef.parse("other/dk@2.0.0"))
    renamed = Artifact.open(store.path / "other/dk/2.0.0")
    renamed.verify()
    assert renamed.manifest.weights_digest == artifact.manifest.weights_digest
    with pytest.raises(InvalidInputError, match=r"--as other/dk: expected NAME@VERSION"):
        publish(artifact.path, Places(registry, store), rename=AdapterRef.parse("other/dk"))


def test_a_second_store_adds_a_location(artifact: Artifact, places: Pair, tmp_path: Path) -> None:
    give(artifact, places)
    elsewhere = FolderStore(tmp_path / "elsewhere")
    publish(artifact.path, Places(places[0], elsewhere))
    labels = [item.store for item in places[0].adapters["test/da"]["1.0.0"].locations]
    assert labels == sorted(["./store", str(elsewhere.path.resolve())])


def test_a_parent_that_the_registry_knows_with_other_bytes_is_unknown(
    artifact: Artifact, places: Pair, tmp_path: Path
) -> None:
    give(artifact, places)
    impostor = make_artifact(tmp_path / "impostor", seed=9.0)
    child = make_child(tmp_path / "child", impostor)
    with pytest.raises(IntegrityError, match=r"unknown parent test/da@1\.0\.0: .* here, but"):
        give(child, places)


def test_a_parent_that_no_registry_lists_is_known_by_its_manifest(
    artifact: Artifact, places: Pair, tmp_path: Path
) -> None:
    child = make_child(tmp_path / "child", artifact)
    give(child, places)
    assert places[0].adapters["test/child"]["1.0.0"].parents[0].digest == artifact.digest


def test_a_child_of_a_quarantined_version_is_not_published(
    artifact: Artifact, places: Pair, tmp_path: Path
) -> None:
    give(artifact, places)
    retire(DA, "quarantined", "bad text", Places(*places))
    with pytest.raises(StatusError, match="made from a quarantined version"):
        give(make_child(tmp_path / "child", artifact), places)


def test_a_child_of_a_yanked_version_is_published_with_a_warning(
    artifact: Artifact, places: Pair, tmp_path: Path
) -> None:
    give(artifact, places)
    retire(DA, "yanked", "bad text", Places(*places))
    child = make_child(tmp_path / "child", artifact)
    published = publish(child.path, Places(*places))
    assert published.warnings == (
        "test/child@1.0.0 was made from a retired version: test/da@1.0.0 is yanked (bad text)",
    )


def test_the_embedded_catalogue_is_written_only_with_its_own_store(artifact: Artifact, places: Pair) -> None:
    before = embedded.registry_path().read_bytes()
    with pytest.raises(InvalidInputError, match=r"is the embedded catalogue.*--store .*--registry FILE"):
        publish(artifact.path, Places(FileRegistry(embedded.registry_path()), places[1]))
    with pytest.raises(InvalidInputError, match="belongs to the embedded catalogue; name its registry too"):
        publish(artifact.path, Places(places[0], FolderStore(embedded.store_path())))
    assert embedded.registry_path().read_bytes() == before


# pull


def test_pulling_lands_in_the_cache_and_where_one_likes(
    artifact: Artifact, places: Pair, cache: Cache, tmp_path: Path
) -> None:
    give(artifact, places)
    pulled = pull("test/da", Places([places[0]], cache=cache))
    assert pulled.digest == artifact.digest
    assert pulled.path == cache.place(artifact.digest)
    for _ in range(2):
        copy = pull("test/da", Places([places[0]], cache=cache), to=tmp_path / "to")
        assert copy.path == tmp_path / "to"
    copy.verify()


def test_a_pulled_version_needs_no_store_again(artifact: Artifact, places: Pair, cache: Cache) -> None:
    give(artifact, places)
    pull(DA, Places([places[0]], cache=cache))
    shutil.rmtree(places[1].path)
    assert pull(DA, Places([places[0]], cache=cache)).digest == artifact.digest


def test_a_store_that_changed_its_bytes_is_found_out_on_pulling(
    artifact: Artifact, places: Pair, cache: Cache
) -> None:
    give(artifact, places)
    path = places[1].path / "test/da/1.0.0/adapter_model.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(IntegrityError, match=r"cannot be fetched: store \./store: .*sha256"):
        pull("test/da", Places([places[0]], cache=cache))
    assert cache.entries() == []


def test_a_whole_version_in_place_of_another_is_found_out(
    artifact: Artifact, places: Pair, cache: Cache, tmp_path: Path
) -> None:
    give(artifact, places)
    swapped = make_artifact(tmp_path / "swapped", seed=9.0)
    shutil.rmtree(places[1].path / "test/da/1.0.0")
    shutil.copytree(swapped.path, places[1].path / "test/da/1.0.0")
    with pytest.raises(IntegrityError, match=f"with digest {swapped.digest}, expected {artifact.digest}"):
        pull("test/da", Places([places[0]], cache=cache))


def test_the_next_location_is_tried_if_one_fails(
    artifact: Artifact, places: Pair, cache: Cache, tmp_path: Path
) -> None:
    give(artifact, places)
    publish(artifact.path, Places(places[0], FolderStore(tmp_path / "elsewhere")))
    shutil.rmtree(places[1].path)
    assert pull("test/da", Places([places[0]], cache=cache)).digest == artifact.digest


def test_warnings_are_told_once(artifact: Artifact, places: Pair, cache: Cache, tmp_path: Path) -> None:
    give(artifact, places)
    give(make_child(tmp_path / "child", artifact), places)
    retire(DA, "deprecated", "use another", Places(*places))
    told: list[str] = []
    pull("test/child", Places([places[0]], cache=cache, tell=told.append))
    assert told == [
        "test/child@1.0.0 was made from a retired version: test/da@1.0.0 is deprecated (use another)"
    ]


def test_an_ancestor_behind_an_unlisted_one_is_judged_too(
    artifact: Artifact, places: Pair, cache: Cache, tmp_path: Path
) -> None:
    give(artifact, places)
    between = make_child(tmp_path / "between", artifact, "test/between")  # never published
    give(make_child(tmp_path / "child", between), places)
    retire(DA, "quarantined", "bad text", Places(*places))
    with pytest.raises(StatusError, match="made from a quarantined version"):
        pull("test/child", Places([places[0]], cache=cache))
    allowed = pull("test/child", Places([places[0]], cache=cache), allow_quarantined=artifact.digest)
    assert allowed.ref == "test/child@1.0.0"


def test_a_local_artifact_is_verified_in_place(artifact: Artifact, cache: Cache) -> None:
    assert pull(str(artifact.path), Places([], cache=cache)) == artifact
    (artifact.path / "adapter_config.json").unlink()
    with pytest.raises(IntegrityError, match="adapter_config.json: missing"):
        pull(f"{artifact.path}/adapter.json", Places([], cache=cache))
