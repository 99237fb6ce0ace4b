"""What an `adapters.lock` says and how it is spelled."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from making import BASE

from adapter_hub.errors import InvalidInputError, NotFoundError
from adapter_hub.formats.canonical import digest_of, sha256_hex
from adapter_hub.formats.lock_file import LockedAdapter, LockFile, read_lock, write_lock
from adapter_hub.formats.reference import AdapterRef


def block(name: str = "test/da", version: str = "1.0.0", **changes: Any) -> dict[str, Any]:
    return {
        "name": name,
        "version": version,
        "digest": digest_of(f"{name}@{version}".encode()),
        "weights_digest": digest_of(b"weights"),
        "hub": False,
        "base_model": {"id": "test/tiny", "architecture": "Whisper", "digest": BASE},
        "files": [{"path": "adapter_model.safetensors", "size": 1, "sha256": sha256_hex(b"x")}],
        "closure": [{"name": "test/pl", "version": "1.0.0", "digest": digest_of(b"parent")}],
        "locations": [{"store": "./store", "path": f"{name}/{version}"}],
        **changes,
    }


def tree(**changes: Any) -> dict[str, Any]:
    return {
        "schema": "lock/1",
        "requirements": ["test/da"],
        "registries": [{"registry_id": "an id", "label": "./registry.json", "sequence": 3}],
        "adapters": [block()],
        **changes,
    }


def write(path: Path, value: Any) -> Path:
    path.write_text(value if isinstance(value, str) else json.dumps(value), encoding="utf-8")
    return path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "adapters.lock"


def test_loading_and_saving_gives_the_same_bytes(path: Path) -> None:
    lock = read_lock(write(path, tree()))
    assert write_lock(path, lock)
    text = path.read_text(encoding="utf-8")
    assert text == json.dumps(json.loads(text), indent=2, sort_keys=True) + "\n"
    again = read_lock(path)
    assert again == lock
    assert not write_lock(path, again)
    assert path.read_text(encoding="utf-8") == text


def test_what_a_person_wrote_stays_as_it_was_written(path: Path) -> None:
    requirements = ["test/pl~=1.0", "test/da", "hf://test/da@1.0.0"]
    lock = read_lock(write(path, tree(requirements=requirements)))
    assert json.loads(lock.to_text())["requirements"] == requirements


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"schema": "lock/2"},
            r"its schema lock/2 is newer than this program.*checkout.*pip install \.` in it$",
        ),
        ({"schema": "registry/1"}, r"schema 'registry/1', expected 'lock/1'; restore it, or rebuild it"),
        ({"extra": 1}, "unknown field 'extra'"),
        ({"requirements": ["Not A Name"]}, "adapter reference 'Not A Name'|adapter name 'Not A Name'"),
        ({"requirements": ["./out"]}, "a folder cannot be locked; publish the artifact"),
        ({"adapters": [block(digest="sha256:abc")]}, r"adapters\.0\.digest"),
        ({"adapters": [block(name="test/pl"), block()]}, "must be sorted by name and version"),
        ({"adapters": [block(), block()]}, "must be sorted by name and version, each once"),
        ({"adapters": [block(files=[])]}, r"adapters\.0\.files"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_lock_that_is_not_one_is_refused_with_the_field(
    path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(InvalidInputError, match=message) as caught:
        read_lock(write(path, tree(**changes)))
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"schema": "lock/1", "schema": "lock/1"}', "<<<<<<< ours\n{"]
)
def test_a_damaged_file_is_one_line_that_says_how_to_get_a_new_one(path: Path, text: str) -> None:
    with pytest.raises(InvalidInputError, match="rebuild it with `adapter-hub lock REF") as caught:
        read_lock(write(path, text))
    assert "\n" not in str(caught.value)


def test_no_file_is_an_error_that_says_how_to_make_one(path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"no such lock file; `adapter-hub lock REF\.\.\.` makes one"):
        read_lock(path)


def test_versions_are_sorted_as_versions(path: Path) -> None:
    versions = [block(version="1.9.0"), block(version="1.10.0")]
    lock = read_lock(write(path, tree(adapters=versions)))
    chosen = lock.chosen("test/da")
    assert chosen is not None
    assert chosen.version == "1.10.0"
    with pytest.raises(InvalidInputError, match="must be sorted"):
        read_lock(write(path, tree(adapters=versions[::-1])))


@pytest.mark.parametrize(
    ("requirement", "meets"),
    [
        ("test/da", True),
        ("test/da@1.0.0", True),
        ("test/da@1.0.1", False),
        ("test/da~=1.0", True),
        ("test/da~=1.1", False),
        ("test/pl", False),
        ("hf://test/da@1.0.0", False),
        (f"test/da#{digest_of(b'test/da@1.0.0')}", True),
        (f"test/da@1.0.0#{digest_of(b'other')}", False),
    ],
)
def test_a_version_meets_what_asks_for_it(requirement: str, meets: bool) -> None:
    adapter = LockedAdapter.parse(json.dumps(block()).encode(), "a test")
    assert adapter.meets(AdapterRef.parse(requirement)) is meets


def test_editing_the_requirements_by_hand_is_noticed(path: Path) -> None:
    assert read_lock(write(path, tree())).staleness() == []
    edited = read_lock(write(path, tree(requirements=["test/da~=2.0", "test/pl"])))
    assert edited.staleness() == [
        "nothing is locked for test/da~=2.0",
        "nothing is locked for test/pl",
        "no requirement asks for test/da@1.0.0",
    ]


def test_a_file_that_is_no_lock_is_not_overwritten(tmp_path: Path) -> None:
    lock = LockFile.parse(json.dumps(tree()).encode(), "a test")
    readme = write(tmp_path / "README.md", "# my app\n")
    with pytest.raises(InvalidInputError, match=r"README\.md: exists and is not a lock file; name another"):
        write_lock(readme, lock)
    assert readme.read_text(encoding="utf-8") == "# my app\n"
    conflict = write(tmp_path / "adapters.lock", "<<<<<<< ours\n" + lock.to_text())
    assert write_lock(conflict, lock)
    assert read_lock(conflict) == lock
