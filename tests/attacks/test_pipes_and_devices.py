"""Pipes, devices, folders and endless files in the place of files: one line, at once, and nothing written."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from making import make_artifact, make_places

from adapter_hub.artifact import Artifact, copy_artifact
from adapter_hub.cache import Cache
from adapter_hub.canonical import canonical_bytes
from adapter_hub.errors import AdapterHubError, IntegrityError
from adapter_hub.exchange import publish, pull
from adapter_hub.manifest import MANIFEST_FILE

WEIGHTS = "adapter_model.safetensors"
MANY = 6 * 10**9  # bytes of a file that takes none on the disk


def sparse(path: Path, size: int) -> None:
    with path.open("wb") as file:
        file.truncate(size)


def listing(artifact: Artifact, size: int) -> None:
    """Let the manifest list its weights with another size."""
    values = artifact.manifest.to_json()
    for entry in values["files"]:
        entry["size"] = size if entry["path"] == WEIGHTS else entry["size"]
    (artifact.path / MANIFEST_FILE).write_bytes(canonical_bytes(values))


# sizes


def test_a_file_larger_than_listed_is_not_copied(tmp_path: Path) -> None:
    registry, store = make_places(tmp_path)
    publish(make_artifact(tmp_path / "da").path, registry=registry, store=store)
    sparse(store.path / "test/da/1.0.0" / WEIGHTS, MANY)
    cache = Cache(tmp_path / "cache")
    with pytest.raises(IntegrityError, match=f"{WEIGHTS}: {MANY} bytes, expected"):
        pull("test/da", registries=[registry], cache=cache)
    assert sum(path.stat().st_size for path in cache.folder.rglob("*") if path.is_file()) < 10**6


@pytest.mark.parametrize("size", [3 * 2**30, 10**12])
def test_gigabytes_that_a_manifest_lists_are_refused_by_their_size(tmp_path: Path, size: int) -> None:
    artifact = make_artifact(tmp_path / "da")
    listing(artifact, size)
    sparse(artifact.path / WEIGHTS, size)
    with pytest.raises(AdapterHubError, match=str(size)):
        Artifact.open(artifact.path).verify()
    with pytest.raises(AdapterHubError, match=str(size)):
        copy_artifact(Artifact.open(artifact.path), tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


# what is no file


def folder(path: Path) -> None:
    path.mkdir()


def link_to(target: str) -> Callable[[Path], None]:
    return lambda path: path.symlink_to(target)


KINDS = {
    "pipe": os.mkfifo,
    "folder": folder,
    "device": link_to("/dev/zero"),
    "link to a pipe": lambda path: (os.mkfifo(path.with_name("pipe")), path.symlink_to("pipe")),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", [WEIGHTS, "adapter_config.json", MANIFEST_FILE])
def test_no_file_of_an_artifact_can_be_something_else(tmp_path: Path, name: str, kind: str) -> None:
    artifact = make_artifact(tmp_path / "da")
    (artifact.path / name).unlink()
    KINDS[kind](artifact.path / name)
    for action in (artifact.verify, lambda: Artifact.open(artifact.path).verify()):
        with pytest.raises(AdapterHubError, match=name):
            action()
    with pytest.raises(AdapterHubError, match=name):
        copy_artifact(artifact, tmp_path / "copy")
    assert not (tmp_path / "copy").exists()
