"""Does an artifact carry the manifests of all ancestors, and is it copied whole or not at all?"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from making import OTHER_BASE, make_artifact, make_child, manifest_fields, parent_of, write_weights

from adapter_hub.artifact.folder import Artifact, copy_artifact, seal, write_ancestors
from adapter_hub.errors import ConflictError, IntegrityError, InvalidInputError
from adapter_hub.formats.canonical import hex_of

WEIGHTS = "adapter_model.safetensors"


@pytest.fixture
def artifact(tmp_path: Path) -> Artifact:
    return make_artifact(tmp_path / "da")


def test_a_child_carries_all_ancestors(tmp_path: Path) -> None:
    parent = make_artifact(tmp_path / "a")
    child = make_child(tmp_path / "b", parent)
    grandchild = make_child(tmp_path / "c", child, "test/grand")
    grandchild.verify()
    assert set(grandchild.ancestors()) == {parent.digest, child.digest}
    assert grandchild.ancestors()[parent.digest] == parent.manifest


def test_a_parent_without_manifest_is_unknown(tmp_path: Path) -> None:
    parent = make_artifact(tmp_path / "a")
    write_weights(tmp_path / "b", 2.0)
    with pytest.raises(IntegrityError, match=r"unknown parent test/da@1\.0\.0 of test/child@1\.0\.0"):
        seal(tmp_path / "b", manifest_fields("test/child", method="warm-start", parents=[parent_of(parent)]))


def test_a_grandparent_without_manifest_is_unknown(tmp_path: Path) -> None:
    parent = make_artifact(tmp_path / "a")
    child = make_child(tmp_path / "b", parent)
    write_weights(tmp_path / "c", 3.0)
    write_ancestors(tmp_path / "c", [child])
    (tmp_path / "c" / "ancestors" / f"{hex_of(parent.digest)}.json").unlink()
    fields = manifest_fields("test/grand", method="warm-start", parents=[parent_of(child)])
    with pytest.raises(IntegrityError, match=r"unknown parent test/da@1\.0\.0 of test/child@1\.0\.0"):
        seal(tmp_path / "c", fields)


def test_a_parent_on_another_base_model_is_refused(tmp_path: Path) -> None:
    other = {"id": "test/tiny", "architecture": "WhisperForConditionalGeneration", "digest": OTHER_BASE}
    parent = make_artifact(tmp_path / "a", base_model=other)
    with pytest.raises(IntegrityError, match="made for another base model"):
        make_child(tmp_path / "b", parent)


def test_a_parent_that_was_created_later_is_refused(tmp_path: Path) -> None:
    parent = make_artifact(tmp_path / "a", created="2027-01-01T00:00:00Z")
    with pytest.raises(IntegrityError, match="created later"):
        make_child(tmp_path / "b", parent)


def test_an_ancestor_under_a_wrong_name_is_refused(tmp_path: Path) -> None:
    parent = make_artifact(tmp_path / "a")
    write_weights(tmp_path / "b", 2.0)
    write_ancestors(tmp_path / "b", [parent])
    wrong = tmp_path / "b" / "ancestors" / f"{'0' * 64}.json"
    shutil.copy(tmp_path / "b" / "ancestors" / f"{hex_of(parent.digest)}.json", wrong)
    fields = manifest_fields("test/child", method="warm-start", parents=[parent_of(parent)])
    with pytest.raises(IntegrityError, match="its name has to be that"):
        seal(tmp_path / "b", fields)


def test_a_manifest_of_a_stranger_among_the_ancestors_is_refused(tmp_path: Path) -> None:
    parent = make_artifact(tmp_path / "a")
    write_weights(tmp_path / "b")
    write_ancestors(tmp_path / "b", [parent])
    with pytest.raises(IntegrityError, match=f"{hex_of(parent.digest)}.json: not an ancestor"):
        seal(tmp_path / "b", manifest_fields())


def test_a_parent_entry_that_names_another_version_is_refused(tmp_path: Path) -> None:
    parent = make_artifact(tmp_path / "a")
    write_weights(tmp_path / "b", 2.0)
    write_ancestors(tmp_path / "b", [parent])
    entry = parent_of(parent).model_copy(update={"version": "9.0.0"})
    with pytest.raises(IntegrityError, match=r"its digest is that of test/da@1\.0\.0"):
        seal(tmp_path / "b", manifest_fields("test/child", method="warm-start", parents=[entry]))


@pytest.mark.parametrize(
    ("method", "message"),
    [
        ("lora", "takes 0 parents of role seed, got 1"),
        ("average", "takes 1 to 1000 parents of role component"),
    ],
)
def test_parents_have_to_fit_the_method(tmp_path: Path, method: str, message: str) -> None:
    parent = make_artifact(tmp_path / "a")
    with pytest.raises(InvalidInputError, match=message):
        make_child(tmp_path / "b", parent, method=method)


# copying


def test_a_copy_is_whole_and_the_same_again_is_fine(artifact: Artifact, tmp_path: Path) -> None:
    target = tmp_path / "new" / "place"
    copy = copy_artifact(artifact, target)
    copy.verify()
    assert copy.digest == artifact.digest
    assert copy_artifact(artifact, target) == copy
    assert [path.name for path in target.parent.iterdir()] == ["place"]


def test_a_copy_onto_something_else_is_refused(artifact: Artifact, tmp_path: Path) -> None:
    other = make_artifact(tmp_path / "b", seed=2.0)
    with pytest.raises(ConflictError, match="a version never changes"):
        copy_artifact(artifact, other.path)
    (tmp_path / "c").mkdir()
    with pytest.raises(ConflictError, match="is not an artifact"):
        copy_artifact(artifact, tmp_path / "c")


def test_a_damaged_artifact_is_not_copied_and_nothing_is_left(artifact: Artifact, tmp_path: Path) -> None:
    (artifact.path / WEIGHTS).write_bytes(b"damaged")
    with pytest.raises(IntegrityError, match=f"{WEIGHTS}: 7 bytes, expected"):
        copy_artifact(artifact, tmp_path / "new" / "place")
    assert list((tmp_path / "new").iterdir()) == []


def test_a_damaged_copy_is_not_taken_for_the_version(artifact: Artifact, tmp_path: Path) -> None:
    copy = copy_artifact(artifact, tmp_path / "new")
    (copy.path / WEIGHTS).write_bytes(b"damaged")
    with pytest.raises(IntegrityError, match=f"{WEIGHTS}: 7 bytes, expected"):
        copy_artifact(artifact, copy.path)


def test_only_listed_files_are_copied(artifact: Artifact, tmp_path: Path) -> None:
    (artifact.path / "planted.txt").write_text("x")
    copy = copy_artifact(artifact, tmp_path / "new")
    assert not (copy.path / "planted.txt").exists()
    copy.verify()
