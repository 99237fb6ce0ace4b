"""Pipes, devices, folders and endless files in the place of files: one line, at once, and nothing written."""

from __future__ import annotations

import os
import resource
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from killing import in_child
from making import make_artifact, make_places

from adapter_hub.artifact.folder import Artifact, copy_artifact
from adapter_hub.errors import AdapterHubError, IntegrityError
from adapter_hub.exchange import Places, publish, pull, retire
from adapter_hub.files.writing import write_atomically
from adapter_hub.formats.canonical import canonical_bytes
from adapter_hub.formats.lock_file import LockFile, read_lock, write_lock
from adapter_hub.formats.manifest import MANIFEST_FILE
from adapter_hub.formats.reference import AdapterRef
from adapter_hub.registry.file import FileRegistry
from adapter_hub.stores.cache import Cache
from adapter_hub.stores.folder import FolderStore

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
    publish(make_artifact(tmp_path / "da").path, Places(registry, store))
    sparse(store.path / "test/da/1.0.0" / WEIGHTS, MANY)
    cache = Cache(tmp_path / "cache")
    with pytest.raises(IntegrityError, match=f"{WEIGHTS}: {MANY} bytes, expected"):
        pull("test/da", Places([registry], cache=cache))
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


# what is not a file


def link_to(target: str) -> Callable[[Path], None]:
    return lambda path: path.symlink_to(target)


KINDS = {
    "pipe": os.mkfifo,
    "folder": Path.mkdir,
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


# the program's own state


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a registry, its store and a cache that test/da was pulled to."""
    monkeypatch.setenv("ADAPTER_HUB_CACHE", str(tmp_path / "cache"))
    registry, store = make_places(tmp_path)
    publish(make_artifact(tmp_path / "da").path, Places(registry, store))
    pull("test/da", Places([FileRegistry(registry.path)], cache=Cache(tmp_path / "cache")))
    return tmp_path


def refuses_or_works(action: Callable[[], object]) -> str:
    """Return the error of an action, or nothing."""
    try:
        action()
    except AdapterHubError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("place", "harmless"),
    [
        ("hub/registry.json", False),
        ("hub/store/test/da/status.json", False),
        ("hub/store/test/da/README.md", True),  # it is written again from what is known
        ("hub/store/test/da/evaluations/{0:064}/{0:064}.json", False),
        ("hub/store/test/da/1.0.0/adapter.json", True),  # a version that the store has lost
        ("cache/stamps/*.json", True),  # then everything is hashed
        ("cache/artifacts/*/adapter.json", True),  # then it is fetched again
        ("cache/artifacts/*/adapter_model.safetensors", True),
    ],
)
def test_no_reader_waits_for_ever_or_fills_the_memory(
    hub: Path, place: str, harmless: bool, kind: str
) -> None:
    path = next(iter(hub.glob(place)), hub / place.format(0)) if "*" in place else hub / place.format(0)
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists():
        path.unlink()
    KINDS[kind](path)
    registry, store = FileRegistry(hub / "hub/registry.json"), FolderStore(hub / "hub/store")
    ref = AdapterRef.parse("test/da@1.0.0")
    cache = Cache(hub / "cache")
    errors = [
        refuses_or_works(lambda: pull("test/da", Places([registry], cache=cache))),
        refuses_or_works(lambda: store.claims("test/da")),
        refuses_or_works(lambda: retire(ref, "yanked", "bad", Places(registry, store))),
    ]
    if harmless and not (place.endswith("README.md") and kind == "folder"):
        assert errors[1:] == ["", ""]
    else:
        assert any(path.name in error or str(path.parent.name) in error for error in errors)


@pytest.mark.parametrize("kind", ["pipe", "device", "link to a pipe"])
@pytest.mark.parametrize("place", ["remembered/*.json", "remembered/.lock"])
def test_what_this_machine_remembers_is_read_and_locked_without_waiting(
    hub: Path, place: str, kind: str
) -> None:
    for path in (hub / "cache").glob(place):
        path.unlink()
        KINDS[kind](path)
        break
    else:
        pytest.fail(f"no {place}")
    registry = FileRegistry(hub / "hub/registry.json")
    error = refuses_or_works(lambda: registry.adapters)
    assert not error or path.name in error


@pytest.mark.parametrize("kind", KINDS)
def test_a_lock_file_of_an_application_is_an_ordinary_file(hub: Path, kind: str) -> None:
    path = hub / "adapters.lock"
    KINDS[kind](path)
    with pytest.raises((AdapterHubError, OSError), match=r"adapters\.lock"):
        read_lock(path)
    with pytest.raises((AdapterHubError, OSError), match=r"adapters\.lock"):
        write_lock(path, LockFile.model_validate({"schema": "lock/1", "requirements": ("test/da",)}))
    assert not path.is_file()


@pytest.mark.parametrize("kind", ["pipe", "device", "link to a pipe"])
def test_a_pipe_or_a_device_is_not_replaced_by_a_file(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "out.json"
    KINDS[kind](path)
    before = path.lstat()
    with pytest.raises(AdapterHubError, match="out.json: a pipe or a device; expected the name of"):
        write_atomically(path, b"x")
    assert path.lstat() == before


# few descriptors, a store that changes


def test_few_file_descriptors_are_enough(hub: Path) -> None:
    def with_few() -> None:
        limit = len(list(Path("/proc/self/fd").iterdir())) + 8
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
        registry, store = FileRegistry(hub / "hub/registry.json"), FolderStore(hub / "hub/store")
        pull("test/da", Places([registry], cache=Cache(hub / "other")), to=hub / "to")
        ref = AdapterRef.parse("test/da@1.0.0")
        retire(ref, "withdrawn", "bad", Places(registry, store))

    assert in_child(with_few) == 0


def test_a_store_that_changes_while_it_is_read_gives_the_listed_bytes_or_an_error(hub: Path) -> None:
    folder = hub / "hub/store/test/da/1.0.0"
    genuine = (folder / WEIGHTS).read_bytes()
    stop = threading.Event()

    def flip() -> None:
        while not stop.is_set():
            write_atomically(folder / WEIGHTS, genuine[:-1] + b"?")
            folder.rename(folder.with_name("away"))
            folder.with_name("away").rename(folder)
            write_atomically(folder / WEIGHTS, genuine)

    thread = threading.Thread(target=flip)
    thread.start()
    try:
        for number in range(15):
            cache = Cache(hub / f"cache-{number}")
            registry = FileRegistry(hub / "hub/registry.json")
            with suppress(AdapterHubError, FileNotFoundError):
                artifact = pull("test/da", Places([registry], cache=cache))
                assert (artifact.path / WEIGHTS).read_bytes() == genuine
    finally:
        stop.set()
        thread.join()
