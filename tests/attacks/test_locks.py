"""Lock files: usable by the second user of a shared folder, and no trap where something else is there."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from making import make_artifact, make_places
from other_user import as_nobody, as_root

from adapter_hub.errors import AdapterHubError, ConflictError
from adapter_hub.exchange import Places, publish, retire
from adapter_hub.files.locks import held
from adapter_hub.formats.reference import AdapterRef
from adapter_hub.registry.file import FileRegistry


@pytest.fixture
def shared() -> Iterator[Path]:
    """A folder that everybody can write to."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o777)
        yield Path(name)


def hold_as_nobody(path: Path) -> str:
    """Return what another user gets who asks for a lock."""

    def hold() -> str:
        with held(path, 0.2, "the store"):
            return "held"

    return as_nobody(hold)


@as_root
def test_the_second_user_of_a_shared_folder_takes_turns_with_the_first(shared: Path) -> None:
    path = shared / ".lock"
    with held(path, 1.0, "the store"):
        assert hold_as_nobody(path) == "ConflictError: the store: another process keeps it locked; try again"
    assert hold_as_nobody(path) == "held"
    path.unlink()
    assert hold_as_nobody(path) == "held"
    with held(path, 1.0, "the store"):
        pass


@as_root
def test_a_lock_that_this_user_may_not_open_is_one_line_with_the_next_step(shared: Path) -> None:
    path = shared / ".lock"
    path.touch(mode=0o644)
    assert "cannot be locked; its owner can let you, with `chmod g+w`" in hold_as_nobody(path)
    path.unlink()
    shared.chmod(0o755)
    assert "its folder cannot be written; ask its owner for that right" in hold_as_nobody(path)


@pytest.mark.parametrize("mode", [0o755, 0o775, 0o777])
def test_a_lock_is_open_to_those_who_may_write_to_its_folder(shared: Path, mode: int) -> None:
    shared.chmod(mode)
    with held(shared / ".lock", 1.0, "the store"):
        pass
    assert (shared / ".lock").stat().st_mode & 0o777 == 0o644 | mode & 0o022


def to_a_file(path: Path) -> None:
    path.with_name("mine.txt").write_text("mine", encoding="utf-8")
    path.symlink_to("mine.txt")


PLANTED: dict[str, Callable[[Path], None]] = {
    "pipe": os.mkfifo,
    "folder": Path.mkdir,
    "link to a file": to_a_file,
    "link to nothing": lambda path: path.symlink_to("missing"),
    "link to a device": lambda path: path.symlink_to("/dev/zero"),
}


@pytest.mark.parametrize("kind", PLANTED)
@pytest.mark.parametrize("which", ["registry.json.lock", "store/.lock"])
def test_something_else_in_the_place_of_a_lock_is_told_and_left_alone(
    tmp_path: Path, which: str, kind: str
) -> None:
    registry, store = make_places(tmp_path)
    artifact = make_artifact(tmp_path / "da")
    path = registry.path.parent / which
    path.parent.mkdir(parents=True, exist_ok=True)
    PLANTED[kind](path)
    with pytest.raises(AdapterHubError, match=r"lock: is not an ordinary file, so it cannot be locked"):
        publish(artifact.path, Places(registry, store))
    assert not (path.parent / "missing").exists()
    if (path.parent / "mine.txt").exists():
        assert (path.parent / "mine.txt").read_text(encoding="utf-8") == "mine"


def test_a_lock_that_is_held_is_waited_for_and_then_told(shared: Path) -> None:
    with (
        held(shared / ".lock", 1.0, "the store"),
        pytest.raises(ConflictError, match="the store: another process keeps it locked; try again"),
        held(shared / ".lock", 0.1, "the store"),
    ):
        pass


def test_a_lock_does_not_empty_a_file_that_was_put_in_its_place(tmp_path: Path) -> None:
    registry, store = make_places(tmp_path)
    lock = registry.path.with_name("registry.json.lock")
    lock.parent.mkdir(parents=True, exist_ok=True)
    lock.write_text("mine", encoding="utf-8")
    publish(make_artifact(tmp_path / "da").path, Places(registry, store))
    assert lock.read_text(encoding="utf-8") == "mine"


def test_the_same_registry_under_two_names_has_one_lock(tmp_path: Path) -> None:
    registry, store = make_places(tmp_path)
    publish(make_artifact(tmp_path / "da").path, Places(registry, store))
    (tmp_path / "link.json").symlink_to(registry.path)
    with (
        FileRegistry(tmp_path / "link.json").locked(),
        pytest.raises(ConflictError, match="keeps it locked"),
        held(registry.path.with_name("registry.json.lock"), 0.1, "it"),
    ):
        pass


@as_root
def test_a_store_that_a_group_shares_can_be_changed_by_its_second_user(shared: Path) -> None:
    before = os.umask(0)
    try:
        registry, store = make_places(shared)
        publish(make_artifact(shared / "da").path, Places(registry, store))
        ref = AdapterRef.parse("test/da@1.0.0")
        cache = shared / "cache of nobody"
        own = FileRegistry(registry.path, cache=cache)
        assert as_nobody(lambda: retire(ref, "yanked", "bad", Places(own, store))) == "[]"
    finally:
        os.umask(before)
    assert FileRegistry(registry.path).adapters["test/da"]["1.0.0"].status == "yanked"


@as_root
def test_where_the_second_user_may_only_read_a_change_is_one_line(shared: Path) -> None:
    registry, store = make_places(shared)
    publish(make_artifact(shared / "da").path, Places(registry, store))
    ref = AdapterRef.parse("test/da@1.0.0")
    own = FileRegistry(registry.path, cache=shared / "cache of nobody")
    answer = as_nobody(lambda: retire(ref, "yanked", "bad", Places(own, store)))
    assert answer.startswith("PermissionError: ")
    assert "registry.json.lock" in answer
    assert FileRegistry(registry.path).adapters["test/da"]["1.0.0"].status == "active"
