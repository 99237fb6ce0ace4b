"""Files of a later program: an upgrade is advised, never a restore, and nothing takes their place."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from making import make_artifact, make_places

from adapter_hub.artifact.folder import Artifact
from adapter_hub.errors import AdapterHubError, DamagedFileError, NewerFormatError
from adapter_hub.exchange import Places, lock, publish, rebuild
from adapter_hub.formats.lock_file import read_lock
from adapter_hub.formats.registry_file import parse_registry
from adapter_hub.hub import RepoId
from adapter_hub.registry.file import FileRegistry
from adapter_hub.registry.trust import read_trust, trust_file
from adapter_hub.stores.known_repos import KnownRepos


def lock_file(folder: Path, text: bytes) -> None:
    (folder / "adapters.lock").write_bytes(text)
    read_lock(folder / "adapters.lock")


def registry(folder: Path, text: bytes) -> None:
    parse_registry(text, "registry.json")


def trust(folder: Path, text: bytes) -> None:
    trust_file().parent.mkdir(parents=True, exist_ok=True)
    trust_file().write_bytes(text)
    read_trust()


def known_repo(folder: Path, text: bytes) -> None:
    known, repo = KnownRepos(folder, "https://hub.test"), RepoId("alice/da")
    known.path(repo).parent.mkdir(parents=True)
    known.path(repo).write_bytes(text)
    known.recall(repo)


def manifest(folder: Path, text: bytes) -> None:
    make_artifact(folder / "da")
    (folder / "da" / "adapter.json").write_bytes(text)
    Artifact.open(folder / "da")


KINDS: dict[str, Callable[[Path, bytes], None]] = {
    "lock": lock_file,
    "registry": registry,
    "trust": trust,
    "known-repo": known_repo,
    "adapter": manifest,
}
ADVICE_FOR_DAMAGE = ("restore", "delete", "rebuild", "correct ", "move it away")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("more", [{}, {"adapters": []}, {"adapters": {}, "new": {"a": [1, 2]}}])
def test_a_file_of_a_later_program_gets_upgrade_advice_and_no_other(
    kind: str, more: dict[str, Any], tmp_path: Path
) -> None:
    text = json.dumps({"schema": f"{kind}/2", **more}, separators=(",", ":")).encode()
    with pytest.raises(NewerFormatError, match=f"its schema {kind}/2 is newer than this program") as caught:
        KINDS[kind](tmp_path, text)
    assert "pip install" in str(caught.value)
    assert not any(word in str(caught.value) for word in ADVICE_FOR_DAMAGE)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("schema", ["other/2", "{}/0", "{}/x", "{}/2 ", 2, None])
def test_a_schema_that_is_no_later_number_is_no_reason_to_upgrade(
    kind: str, schema: object, tmp_path: Path
) -> None:
    found = schema.format(kind) if isinstance(schema, str) else schema
    with pytest.raises(AdapterHubError, match="schema|adapters|delete|correct") as caught:
        KINDS[kind](tmp_path, json.dumps({"schema": found}).encode())
    assert not isinstance(caught.value, NewerFormatError)


def test_the_words_of_a_message_decide_nothing(tmp_path: Path) -> None:
    text = json.dumps({"schema": "newer than this program", "requirements": ["; restore it"]}).encode()
    with pytest.raises(DamagedFileError, match="rebuild it with `adapter-hub lock REF"):
        lock_file(tmp_path, text)


def test_locking_again_does_not_replace_a_lock_of_a_later_program(tmp_path: Path) -> None:
    places = Places(*make_places(tmp_path))
    publish(make_artifact(tmp_path / "da").path, places)
    path = tmp_path / "adapters.lock"
    path.write_text('{"schema": "lock/2"}', encoding="utf-8")
    with pytest.raises(NewerFormatError, match="lock/2"):
        lock(["test/da"], places, path=path)
    assert path.read_text(encoding="utf-8") == '{"schema": "lock/2"}'
    path.write_text('{"schema": "lock/1"}', encoding="utf-8")  # a damaged one is replaced
    assert lock(["test/da"], places, path=path).adapters[0].name == "test/da"


def test_rebuilding_does_not_replace_a_registry_of_a_later_program(tmp_path: Path) -> None:
    own, store = make_places(tmp_path)
    publish(make_artifact(tmp_path / "da").path, Places(own, store))
    newer = b'{"schema": "registry/2", "adapters": ["a list now"]}'
    own.path.write_bytes(newer)
    with pytest.raises(NewerFormatError, match="registry/2"):
        rebuild(FileRegistry(own.path), [store])
    assert own.path.read_bytes() == newer
