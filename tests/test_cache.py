"""Is a cached adapter verified once, trusted while untouched, and dropped when damaged?"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest
from making import make_artifact

from adapter_hub.artifact.folder import Artifact
from adapter_hub.errors import IntegrityError
from adapter_hub.files.writing import Stamp
from adapter_hub.stores.cache import DAY, Cache

WEIGHTS = "adapter_model.safetensors"


@pytest.fixture
def artifact(tmp_path: Path) -> Artifact:
    return make_artifact(tmp_path / "da")


@pytest.fixture
def cache(tmp_path: Path, artifact: Artifact) -> Cache:
    cache = Cache(tmp_path / "cache")
    cache.add(artifact)
    return cache


def rewrite(path: Path, data: bytes, *, keep_time: bool = False) -> None:
    before = path.stat()
    path.write_bytes(data)
    if keep_time:
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def flipped(path: Path) -> bytes:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    return bytes(data)


def test_what_was_added_is_found_by_digest(cache: Cache, artifact: Artifact) -> None:
    found = cache.get(artifact.digest)
    assert found is not None
    assert found.path == cache.place(artifact.digest)
    assert cache.add(artifact) == found
    assert cache.get("sha256:" + "0" * 64) is None


def stamp_as_it_is(cache: Cache, digest: str) -> None:
    """Write down that what lies there now was verified."""
    rows = [
        (path.name, Stamp.of(path.lstat()))
        for path in sorted(cache.place(digest).iterdir())
        if path.is_file()
    ]
    (stamp,) = (cache.folder / "stamps").iterdir()
    stamp.write_text(json.dumps({"digest": digest, "files": rows}))


def test_an_untouched_entry_is_not_hashed_again(cache: Cache, artifact: Artifact) -> None:
    path = cache.place(artifact.digest) / WEIGHTS
    rewrite(path, flipped(path))
    stamp_as_it_is(cache, artifact.digest)  # so that nothing but a hash could tell
    assert cache.get(artifact.digest) is not None
    assert list(cache.verify()) == ["test/da@1.0.0"]


def test_a_touched_but_equal_entry_is_verified_and_stamped_again(cache: Cache, artifact: Artifact) -> None:
    path = cache.place(artifact.digest) / WEIGHTS
    (stamp,) = (cache.folder / "stamps").iterdir()
    before = stamp.read_bytes()
    rewrite(path, path.read_bytes())
    found = cache.get(artifact.digest)
    assert found is not None
    assert found.stamps[WEIGHTS] == Stamp.of(path.lstat())
    assert stamp.read_bytes() != before


def test_turning_back_the_time_of_a_file_does_not_hide_that_it_changed(
    cache: Cache, artifact: Artifact
) -> None:
    path = cache.place(artifact.digest) / WEIGHTS
    rewrite(path, flipped(path), keep_time=True)  # same size, time of modification and inode
    assert cache.get(artifact.digest) is None


def test_a_damaged_entry_is_dropped_so_that_it_is_fetched_anew(cache: Cache, artifact: Artifact) -> None:
    path = cache.place(artifact.digest) / WEIGHTS
    rewrite(path, flipped(path))
    assert cache.get(artifact.digest) is None
    assert not path.exists()
    assert cache.add(artifact).path == path.parent


def test_a_planted_file_makes_the_entry_damaged(cache: Cache, artifact: Artifact) -> None:
    (cache.place(artifact.digest) / "planted.txt").write_text("x")
    assert cache.get(artifact.digest) is None


def test_an_entry_without_stamp_is_verified(cache: Cache, artifact: Artifact) -> None:
    for stamp in (cache.folder / "stamps").iterdir():
        stamp.write_text("not json")
    path = cache.place(artifact.digest) / WEIGHTS
    assert cache.get(artifact.digest) is not None
    for stamp in (cache.folder / "stamps").iterdir():
        stamp.unlink()
    rewrite(path, flipped(path), keep_time=True)
    assert cache.get(artifact.digest) is None


def test_a_version_under_another_digest_is_not_given_out(
    cache: Cache, artifact: Artifact, tmp_path: Path
) -> None:
    other = make_artifact(tmp_path / "other", seed=2.0)
    cache.place(artifact.digest).rename(cache.place(other.digest))
    assert cache.get(other.digest) is None


def test_a_damaged_artifact_does_not_get_in(tmp_path: Path, artifact: Artifact) -> None:
    rewrite(artifact.path / WEIGHTS, flipped(artifact.path / WEIGHTS))
    cache = Cache(tmp_path / "another")
    with pytest.raises(IntegrityError, match=f"{WEIGHTS}: sha256"):
        cache.add(artifact)
    assert cache.entries() == []


def test_pruning_removes_what_was_not_used_and_is_not_to_be_kept(
    cache: Cache, artifact: Artifact, tmp_path: Path
) -> None:
    old = cache.add(make_artifact(tmp_path / "old", version="1.1.0", seed=2.0))
    kept = cache.add(make_artifact(tmp_path / "kept", version="1.2.0", seed=3.0))
    for item in (old, kept):
        stamp = cache.folder / "stamps" / f"{item.path.name}.json"
        os.utime(stamp, (1.0, 1.0))
    gone = cache.prune(unused_days=30, keep=[kept.digest])
    assert [entry.ref for entry in gone] == ["test/da@1.1.0"]
    assert [entry.ref for entry in cache.entries()] == ["test/da@1.0.0", "test/da@1.2.0"]
    assert [entry.size for entry in cache.entries()][0] == artifact.size


def test_pruning_clears_up_after_processes_that_died(cache: Cache) -> None:
    left = cache.folder / "artifacts" / ".tmp-1-0123456789ab"
    left.mkdir()
    os.utime(left, (1.0, 1.0))
    young = cache.folder / "artifacts" / ".tmp-2-0123456789ab"
    young.mkdir()
    cache.prune(unused_days=DAY)
    assert not left.exists()
    assert young.exists()  # may belong to a process that is at work


def test_downloads_that_nobody_finished_go_after_a_day(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache")
    for name, days in (("old", 40), ("new", 0)):
        path = cache.folder / "downloads" / name
        path.mkdir(parents=True)
        (path / "adapter_model.safetensors").write_bytes(b"half of it")
        when = time.time() - days * 86400
        os.utime(path, (when, when))
    cache.prune(30.0)
    assert [path.name for path in (cache.folder / "downloads").iterdir()] == ["new"]
    cache.prune(0.0)  # somebody may be downloading it at this moment
    assert [path.name for path in (cache.folder / "downloads").iterdir()] == ["new"]
