"""Bytes that are lost, damaged or replaced in a store freeze nothing: each has a way out, by command."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from itertools import product
from pathlib import Path

import pytest
from command_line import Outcome, Run
from making import make_artifact, make_child
from sampling import sampled

from adapter_hub.artifact.folder import Artifact

Damage = Callable[[Path], object]


def remove(folder: Path) -> None:
    shutil.rmtree(folder)


def empty(folder: Path) -> None:
    for path in folder.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def cut_manifest(folder: Path) -> None:
    (folder / "adapter.json").write_bytes((folder / "adapter.json").read_bytes()[:100])


def lose_manifest(folder: Path) -> None:
    (folder / "adapter.json").unlink()


def folder_as_manifest(folder: Path) -> None:
    (folder / "adapter.json").unlink()
    (folder / "adapter.json").mkdir()


def cut_weights(folder: Path) -> None:
    (folder / "adapter_model.safetensors").write_bytes(b"")


def replace(folder: Path) -> None:
    shutil.rmtree(folder)
    make_artifact(folder, seed=77.0)


def other_version(folder: Path) -> None:
    shutil.rmtree(folder)
    make_artifact(folder, "test/zz", "3.0.0", seed=78.0)


DAMAGES = [
    remove,
    empty,
    cut_manifest,
    lose_manifest,
    folder_as_manifest,
    cut_weights,
    replace,
    other_version,
]


class Two:
    """test/da 1.0.0 and 1.1.0, published by command into the folder store beside the registry."""

    def __init__(self, folder: Path, run: Run) -> None:
        self.run, self.folder = run, folder
        self.first = make_artifact(folder / "first")
        self.second = make_artifact(folder / "second", version="1.1.0", seed=2.0)
        for artifact in (self.first, self.second):
            assert run("publish", artifact.path).code == 0

    def place(self, version: str = "1.0.0") -> Path:
        return self.folder / "store" / "test/da" / version

    def next_one(self) -> Artifact:
        folder = self.folder / "next"
        if folder.exists():
            return Artifact.open(folder)
        return make_artifact(folder, version="1.2.0", seed=9.0)

    def blocks(self) -> dict[str, object]:
        blocks: dict[str, object] = json.loads((self.folder / "registry.json").read_bytes())["adapters"]
        return blocks

    def retire(self, status: str) -> Outcome:
        return self.run("retire", "test/da@1.0.0", "--status", status, "--reason", "its bytes are lost")


@pytest.fixture
def two(tmp_path: Path, run: Run) -> Two:
    return Two(tmp_path, run)


def fine(outcome: Outcome) -> Outcome:
    assert outcome.code == 0, outcome
    return outcome


@pytest.mark.parametrize("damage", DAMAGES)
def test_the_same_bytes_published_again_restore_a_version(two: Two, damage: Damage) -> None:
    before = two.blocks()
    damage(two.place())
    again = fine(two.run("publish", two.first.path))
    assert "its files were missing from the store; they have been restored" in again.err
    Artifact.open(two.place()).verify()
    assert two.blocks() == before
    fine(two.run("registry", "check"))
    fine(two.run("pull", "test/da@1.0.0"))
    assert "nothing changed" in fine(two.run("publish", two.first.path)).err
    kept = list(two.place().parent.glob("1.0.0.damaged-*"))
    assert len(kept) == (0 if damage is remove else 1)


@pytest.mark.parametrize("damage", DAMAGES)
def test_other_versions_can_be_published_and_the_rule_of_versions_holds(two: Two, damage: Damage) -> None:
    for version in ("1.0.0", "1.1.0"):
        damage(two.place(version))
    patch = make_artifact(two.folder / "patch", version="1.1.1", seed=9.0)
    refused = two.run("publish", patch.path)
    assert refused.code == 1
    assert "the weights changed between 1.1.0 and 1.1.1, which takes a new minor version" in refused.err
    other = make_artifact(two.folder / "el", version="1.2.0", seed=9.0, languages=[EL])
    assert "the languages changed" in two.run("publish", other.path).err
    fine(two.run("publish", two.next_one().path))
    fine(two.run("pull", "test/da"))
    changed = make_artifact(two.folder / "changed", seed=5.0)
    assert "exists in" in two.run("publish", changed.path).err


EL = {"tag": "el", "decode_language": "el"}


@pytest.mark.parametrize(
    ("damage", "status"),
    sampled(
        product(DAMAGES, ["yanked", "quarantined", "withdrawn", "deprecated"]),
        lambda damage, status: status == "withdrawn" or damage is remove,
    ),
)
def test_a_lost_version_can_be_retired(two: Two, damage: Damage, status: str) -> None:
    damage(two.place())
    told = fine(two.retire(status))
    assert "does not have its bytes" in told.err or damage is cut_weights
    shown = {row["version"]: row for row in two.run("list", "--json").json if row["name"] == "test/da"}
    assert shown["1.0.0"]["status"] == status
    assert two.run("pull", "test/da@1.0.0").code == 1
    fine(two.run("pull", "test/da"))
    fine(two.run("publish", two.next_one().path))
    if status == "withdrawn":
        fine(two.run("registry", "rebuild"))
        if damage in (remove, empty, lose_manifest):
            fine(two.run("registry", "check"))
        if damage is remove:
            fine(two.run("audit"))  # of the shipped catalogue, too: seconds


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_rebuild_keeps_the_entry_of_what_is_lost_and_says_so(two: Two, damage: Damage) -> None:
    before = two.blocks()
    damage(two.place())
    rebuilt = two.run("registry", "rebuild")
    assert two.blocks() == before
    if damage is cut_weights:  # which the audit finds
        fine(rebuilt)
        return
    assert rebuilt.code == 1
    lines = [line for line in rebuilt.out.splitlines() if line.startswith("error: ")]
    assert len([line for line in lines if "test/da@1.0.0" in line]) == 1
    assert "unchanged, 2 versions" in rebuilt.out


AUDITED = (remove, cut_manifest, replace)  # gone, unreadable, another's: the audit takes seconds


@pytest.mark.parametrize(
    "damage", sampled([d for d in DAMAGES if d is not cut_weights], lambda damage: damage in AUDITED)
)
def test_the_hints_of_check_and_audit_work(two: Two, damage: Damage) -> None:
    damage(two.place())
    checked = two.run("registry", "check")
    assert checked.code == 1
    assert "publish the same bytes again" in checked.out
    (command,) = re.findall(
        r"`adapter-hub (retire test/da@1\.0\.0 --status withdrawn --reason) TEXT`", checked.out
    )
    audited = two.run("audit", "--json")
    assert audited.code == 1
    assert [f["ref"] for f in audited.json if f["severity"] == "error"].count("test/da@1.0.0") >= 1
    fine(two.run(*command.split(), "lost"))
    fine(two.run("registry", "rebuild"))


def test_everything_wrong_is_listed_one_finding_each(two: Two, run: Run, tmp_path: Path) -> None:
    for number, name in enumerate(("test/pl", "test/el", "test/fi")):
        fine(run("publish", make_artifact(tmp_path / name, name, seed=20.0 + number).path))
    store = tmp_path / "store"
    remove(store / "test/da/1.0.0")
    cut_manifest(store / "test/da/1.1.0")
    replace(store / "test/pl/1.0.0")
    (store / "test/el/status.json").write_text("{")
    (store / "test/fi/evaluations/x").mkdir(parents=True)
    (store / "test/fi/evaluations/x/y.json").write_text("{")
    found = run("registry", "check", "--json")
    assert found.code == 1
    assert [(item["ref"], item["code"]) for item in found.json] == [
        ("test/da@1.0.0", "registry-without-bytes"),
        ("test/da@1.1.0", "registry-without-bytes"),
        ("test/el", "registry-statuses"),
        ("test/fi", "registry-claim"),
        ("test/pl@1.0.0", "registry-without-bytes"),
    ]
    before = two.blocks()
    assert run("registry", "rebuild").code == 1
    assert two.blocks() == before
    assert run("audit").code == 1


def test_when_every_version_is_lost_each_can_be_restored(two: Two) -> None:
    before = two.blocks()
    shutil.rmtree(two.folder / "store")
    assert two.run("registry", "rebuild").code == 1
    assert two.blocks() == before
    fine(two.run("publish", two.next_one().path))
    for artifact in (two.second, two.first):
        fine(two.run("publish", artifact.path))
    fine(two.run("registry", "check"))


def test_a_status_that_the_store_lost_is_not_lifted_by_a_rebuild(two: Two) -> None:
    fine(two.retire("quarantined"))
    before = two.blocks()
    status = two.folder / "store/test/da/status.json"
    for content in (None, "[]", "{"):
        status.unlink() if content is None else status.write_text(content)
        assert two.run("registry", "rebuild").code == (1 if content == "{" else 0)
        assert two.blocks() == before
        assert two.run("registry", "check").code == 1
    assert "restore the file, or remove it" in two.run("publish", two.next_one().path).err
    status.unlink()
    fine(two.retire("quarantined"))
    fine(two.run("publish", two.next_one().path))
    assert two.run("pull", "test/da@1.0.0").code == 1


def test_a_damaged_report_keeps_nobody_from_publishing(two: Two) -> None:
    report = two.folder / "store/test/da/evaluations/x/y.json"
    report.parent.mkdir(parents=True)
    report.write_text("{")
    fine(two.run("publish", two.next_one().path))
    fine(two.retire("yanked"))


def test_a_store_that_is_gone_is_no_loss_where_another_has_the_version(two: Two) -> None:
    elsewhere = two.folder / "elsewhere"
    fine(two.run("--store", elsewhere, "publish", two.first.path))
    remove(two.place())
    fine(two.run("pull", "test/da@1.0.0"))
    assert two.run("registry", "check").code == 1
    fine(two.run("registry", "rebuild"))
    fine(two.run("registry", "check"))
    fine(two.run("publish", two.first.path))
    shutil.rmtree(elsewhere)
    fine(two.run("--cache", two.folder / "new", "pull", "test/da@1.0.0"))


def test_two_stores_with_different_bytes_stop_no_other_version(two: Two) -> None:
    elsewhere = two.folder / "elsewhere"
    fine(two.run("--store", elsewhere, "publish", two.first.path))
    remove(elsewhere / "test/da/1.0.0")
    make_artifact(elsewhere / "test/da/1.0.0", seed=66.0)
    before = two.blocks()
    found = two.run("registry", "check", "--json")
    assert [item["ref"] for item in found.json] == ["test/da@1.0.0"]
    rebuilt = two.run("registry", "rebuild", "--json")
    assert [item["code"] for item in rebuilt.json["findings"]] == ["registry-copy-damaged"]
    assert before.keys() == two.blocks().keys()
    fine(two.run("publish", two.next_one().path))


def test_a_lost_parent_stays_in_its_children_s_lineage(two: Two) -> None:
    child = make_child(two.folder / "child", two.first, "test/child")
    fine(two.run("publish", child.path))
    remove(two.place())
    assert "test/da@1.0.0" in fine(two.run("lineage", "test/child")).out
    assert "descendant: test/child@1.0.0" in fine(two.retire("withdrawn")).out
    fine(two.run("pull", "test/child"))
