"""A process that is killed at any write leaves the state before or after; a full disk leaves it before."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import pytest
from killing import in_child
from making import make_artifact, make_places

from adapter_hub.artifact.folder import Artifact
from adapter_hub.exchange import Places, publish
from adapter_hub.files.writing import write_atomically

KILLING = Path(__file__).with_name("killing.py")


@pytest.mark.parametrize("stride", [11, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    ("operation", "least"),
    [
        ("publish", 40),
        ("pull", 35),
        ("retire", 25),
        ("withdraw", 30),
        ("attach", 25),
        ("lock", 25),
        ("sync", 50),
        ("mirror", 40),
    ],
)
def test_killed_at_every_write_nothing_is_half_done_and_a_retry_finishes(
    tmp_path: Path, operation: str, least: int, stride: int
) -> None:
    command = [sys.executable, str(KILLING), operation, str(tmp_path), str(stride)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=250, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= least  # so many places to be killed at


def test_a_full_disk_is_an_error_that_leaves_everything_as_it_was(tmp_path: Path) -> None:
    registry, store = make_places(tmp_path)
    first = make_artifact(tmp_path / "da")
    publish(first.path, Places(registry, store))
    second = make_artifact(tmp_path / "el", "test/el", rank=64)
    before = {path: path.read_bytes() for path in (tmp_path / "hub").rglob("*") if path.is_file()}

    def publish_on_a_full_disk() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))  # no file can grow beyond
        with pytest.raises(OSError, match="File too large"):
            publish(second.path, Places(registry, store))

    assert in_child(publish_on_a_full_disk) == 0
    after = {path: path.read_bytes() for path in (tmp_path / "hub").rglob("*") if path.is_file()}
    assert after == before
    publish(second.path, Places(registry, store))
    assert "test/el" in registry.adapters


def test_an_index_that_does_not_fit_on_the_disk_keeps_its_old_content(tmp_path: Path) -> None:
    registry, store = make_places(tmp_path)
    artifact = make_artifact(tmp_path / "el", "test/el")
    for number in range(4):  # so that the index is larger than any file of the artifact
        other = make_artifact(tmp_path / str(number), f"test/n{number}")
        publish(other.path, Places(registry, store))
    before = registry.path.read_bytes()
    limit = len(before) - 10

    def publish_with_little_room() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        with pytest.raises(OSError, match="File too large"):
            publish(artifact.path, Places(registry, store))

    assert in_child(publish_with_little_room) == 0
    assert registry.path.read_bytes() == before
    Artifact.open(store.path / "test/el/1.0.0").verify()  # bytes first: they are there, and not listed
    assert publish(artifact.path, Places(registry, store)).is_new


def test_a_failed_write_removes_its_temporary_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_atomically(path, b"old")

    def write_too_much() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (10, 10))
        with pytest.raises(OSError, match="File too large"):
            write_atomically(path, b"x" * 100)

    assert in_child(write_too_much) == 0
    assert [item.name for item in tmp_path.iterdir()] == ["file"]
    assert path.read_bytes() == b"old"
