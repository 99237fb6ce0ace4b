"""Is the registry file kept byte for byte, and is an older or a changed copy noticed?"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from making import make_artifact, make_places

from adapter_hub import embedded
from adapter_hub.errors import ConflictError, IntegrityError, InvalidInputError
from adapter_hub.exchange import Places, publish
from adapter_hub.formats.reference import AdapterRef
from adapter_hub.formats.registry_file import Adapters
from adapter_hub.paths import cache_folder, registry_path, store_path
from adapter_hub.registry.file import FileRegistry
from adapter_hub.registry.resolution import resolve


@pytest.fixture
def registry(tmp_path: Path) -> FileRegistry:
    """A registry with test/da 1.0.0 and 1.1.0."""
    registry, store = make_places(tmp_path)
    for number, version in enumerate(("1.0.0", "1.1.0")):
        artifact = make_artifact(tmp_path / version, version=version, seed=number + 1.0)
        publish(artifact.path, Places(registry, store))
    return registry


def edit(registry: FileRegistry, change: Any) -> None:
    """Change the file as an editor would."""
    tree = json.loads(registry.path.read_text())
    tree["sequence"] += 1  # whoever writes a registry does so
    change(tree)
    registry.path.write_text(json.dumps(tree, indent=2, sort_keys=True) + "\n")


def touch(adapters: Adapters) -> None:
    """Change something that is not promised to stay."""
    block = adapters["test/da"]["1.0.0"]
    adapters["test/da"]["1.0.0"] = block.model_copy(update={"status": "deprecated", "reason": "old"})


def undo(adapters: Adapters) -> None:
    block = adapters["test/da"]["1.0.0"]
    adapters["test/da"]["1.0.0"] = block.model_copy(update={"status": "active", "reason": None})


def test_loading_and_saving_keeps_every_byte_but_the_sequence(registry: FileRegistry) -> None:
    before = registry.path.read_bytes()
    fresh = FileRegistry(registry.path)
    fresh.update(touch)
    fresh.update(undo)
    after = registry.path.read_bytes()
    assert after.replace(b'"sequence": 4', b'"sequence": 2') == before
    assert before.endswith(b"}\n")


def test_a_change_that_changes_nothing_writes_nothing(registry: FileRegistry) -> None:
    before = registry.path.stat().st_mtime_ns
    registry.update(lambda adapters: None)
    assert registry.path.stat().st_mtime_ns == before
    assert registry.sequence == 2


def test_a_publish_adds_one_block_and_changes_the_sequence_alone(
    registry: FileRegistry, tmp_path: Path
) -> None:
    before = json.loads(registry.path.read_text())
    _, store = make_places(tmp_path)
    publish(make_artifact(tmp_path / "x", "test/el").path, Places(registry, store))
    after = json.loads(registry.path.read_text())
    assert after["adapters"].pop("test/el").keys() == {"1.0.0"}
    assert after.pop("sequence") == before.pop("sequence") + 1
    assert after == before


def test_a_block_of_a_later_schema_is_listed_skipped_and_preserved(registry: FileRegistry) -> None:
    strange = {"schema": "version/7", "digest": "blake9:123", "colour": ["red", 1.5]}
    edit(registry, lambda tree: tree["adapters"]["test/da"].update({"2.0.0": strange}))
    edit(registry, lambda tree: tree["adapters"].update({"test/new": {"1.0.0": strange}}))
    fresh = FileRegistry(registry.path)
    assert tuple(fresh.unreadable) == (("test/da", "2.0.0"), ("test/new", "1.0.0"))
    assert "test/new" not in fresh.adapters
    resolved = resolve(AdapterRef.parse("test/da"), (fresh,))
    assert resolved.version == "1.1.0"
    assert resolved.warnings == ("test/da@2.0.0 was skipped: written by a newer program",)
    with pytest.raises(InvalidInputError, match=r"test/da@2\.0\.0.*written by a newer program.*upgrade"):
        resolve(AdapterRef.parse("test/da@2.0.0"), (fresh,))
    fresh.update(touch)
    tree = json.loads(registry.path.read_text())["adapters"]
    assert tree["test/da"]["2.0.0"] == tree["test/new"]["1.0.0"] == strange


def test_a_registry_newer_than_the_program_is_a_clear_error(registry: FileRegistry) -> None:
    edit(registry, lambda tree: tree.update(schema="registry/2"))
    with pytest.raises(InvalidInputError, match=r"registry/2 is newer than this program.*pip install"):
        _ = FileRegistry(registry.path).adapters


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "Expecting value"),
        ("[]", "not a registry"),
        ('{"adapters": {}, "adapters": {}}', "duplicate key 'adapters'"),
        ('{"adapters": {}, "schema": "npm"}', "schema 'npm', expected 'registry/1'"),
        ('{"adapters": {}, "schema": "registry/1", "registry_id": "x"}', "missing field 'sequence'"),
        (
            '{"adapters": {"UPPER": {}}, "schema": "registry/1", "registry_id": "x", "sequence": -1}',
            "sequence: Input should be greater than or equal to 0.*registry rebuild",
        ),
    ],
)
def test_a_damaged_registry_is_one_clear_error(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "registry.json"
    path.write_text(text)
    with pytest.raises(InvalidInputError, match=message):
        _ = FileRegistry(path).adapters


def test_a_version_cannot_change_its_digest_or_vanish_by_an_update(registry: FileRegistry) -> None:
    def swap(adapters: Adapters) -> None:
        other = adapters["test/da"]["1.1.0"].digest
        block = adapters["test/da"]["1.0.0"]
        adapters["test/da"]["1.0.0"] = block.model_copy(update={"digest": other})

    with pytest.raises(IntegrityError, match=r"test/da@1\.0\.0 would become"):
        registry.update(swap)
    with pytest.raises(IntegrityError, match=r"test/da@1\.1\.0 would vanish"):
        registry.update(lambda adapters: adapters.clear())
    assert set(FileRegistry(registry.path).adapters["test/da"]) == {"1.0.0", "1.1.0"}


def test_a_read_only_registry_cannot_be_written(registry: FileRegistry) -> None:
    with pytest.raises(InvalidInputError, match="is read-only; name one to write to"):
        FileRegistry(registry.path, read_only=True).update(touch)


# what was seen before


def test_an_older_copy_is_noticed(registry: FileRegistry) -> None:
    old = registry.path.read_bytes()
    registry.update(touch)
    registry.path.write_bytes(old)
    with pytest.raises(IntegrityError, match="its sequence went back from 3 to 2.*get the current one"):
        _ = FileRegistry(registry.path).adapters


def test_a_vanished_and_a_changed_version_are_noticed(registry: FileRegistry) -> None:
    def tamper(tree: Any) -> None:
        versions = tree["adapters"]["test/da"]
        versions["1.0.0"]["digest"] = "sha256:" + "0" * 64
        del versions["1.1.0"]

    edit(registry, tamper)
    with pytest.raises(IntegrityError, match=r"1\.0\.0 changed its digest.*test/da@1\.1\.0 vanished"):
        _ = FileRegistry(registry.path).adapters


def test_nothing_is_noticed_by_a_machine_that_saw_nothing(registry: FileRegistry, tmp_path: Path) -> None:
    old = registry.path.read_bytes()
    registry.update(touch)
    registry.path.write_bytes(old)
    assert FileRegistry(registry.path, cache=tmp_path / "another").sequence == 2


def test_the_error_names_the_file_to_delete_if_the_older_copy_is_meant(registry: FileRegistry) -> None:
    old = registry.path.read_bytes()
    registry.update(touch)
    registry.path.write_bytes(old)
    with pytest.raises(IntegrityError, match=str(cache_folder())) as caught:
        _ = FileRegistry(registry.path).adapters
    Path(str(caught.value).rpartition(" ")[2]).unlink()
    assert FileRegistry(registry.path).sequence == 2


def test_a_memory_that_cannot_be_written_is_a_warning(registry: FileRegistry, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    fresh = FileRegistry(registry.path, cache=tmp_path / "file")
    assert set(fresh.adapters) == {"test/da"}
    assert fresh.warnings[0].startswith("could not write down which versions")


# which registry


def test_the_registry_is_the_named_one_the_variable_s_or_the_users(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    users = registry_path(None)
    assert users.name == "registry.json"
    assert tmp_path not in users.parents
    (tmp_path / "registry.json").write_text("{}")
    assert registry_path(None) == users  # one in the current folder has to be trusted first
    monkeypatch.setenv("ADAPTER_HUB_REGISTRY", "elsewhere/r.json")
    assert registry_path(None) == tmp_path / "elsewhere" / "r.json"
    assert registry_path("mine.json") == tmp_path / "mine.json"
    assert store_path(None, tmp_path / "mine.json") == tmp_path / "store"
    with pytest.raises(InvalidInputError, match="is a folder; name the file"):
        registry_path(str(tmp_path))


def test_the_embedded_catalogue_is_asked_last_and_only_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own, shipped = Places(str(tmp_path / "registry.json")).registries()
    assert not own.is_embedded
    assert shipped.is_embedded
    assert shipped.read_only
    (only,) = Places(str(embedded.registry_path())).registries()
    assert only.is_embedded


def test_a_writer_waits_for_its_turn_only_so_long(
    registry: FileRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("adapter_hub.registry.file.LOCK_SECONDS", 0.1)
    with (
        FileRegistry(registry.path).locked(),
        pytest.raises(ConflictError, match="another process has been writing"),
    ):
        FileRegistry(registry.path).update(touch)
