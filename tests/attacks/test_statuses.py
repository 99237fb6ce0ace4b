"""A quarantine holds: under another name, after its claim is gone, in older registries, out of reach."""

from __future__ import annotations

import json
import multiprocessing
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from command_line import Outcome, Run
from loopback_hub import LoopbackHub
from making import make_artifact, make_child

from adapter_hub.artifact.folder import Artifact
from adapter_hub.paths import cache_folder
from adapter_hub.registry.status_memory import GivenStatus, StatusMemory, statement

DA = "test/da@1.0.0"


class Place:
    """A registry with its store, in which test/da@1.0.0 was quarantined after somebody pulled it."""

    def __init__(self, run: Run, folder: Path) -> None:
        self.run, self.folder = run, folder
        self.registry, self.store = folder / "registry.json", folder / "store"
        self.artifact = make_artifact(folder / "da", "test/da")
        self.publish(self.artifact)
        assert run("pull", DA).code == 0
        self.before = self.registry.read_bytes()

    def publish(self, artifact: Artifact, *words: str) -> Outcome:
        return self.run("publish", artifact.path, *words)

    def quarantine(self) -> None:
        self.retire("quarantined")
        assert self.run("pull", DA).code == 1  # this machine was told

    def retire(self, status: str) -> None:
        assert self.run("retire", DA, "--status", status, "--reason", "bad text").code == 0

    @property
    def claims(self) -> Path:
        return self.store / "test/da/status.json"

    @property
    def memory(self) -> Path:
        return StatusMemory(cache_folder()).path

    def refused(self, *words: str | Path) -> str:
        outcome = self.run(*words)
        assert outcome.code == 1, outcome.out
        (line,) = [line for line in outcome.err.splitlines() if line.startswith("error: ")]
        assert "quarantined" in line
        assert "--allow-quarantined" in line
        return line


@pytest.fixture
def place(run: Run, tmp_path: Path) -> Place:
    return Place(run, tmp_path)


def copy_as(artifact: Artifact, folder: Path, name: str, version: str = "1.0.0", **changes: Any) -> Artifact:
    return make_artifact(folder / f"{name}-{version}", name, version, **changes)


# the same weights under another name


@pytest.mark.parametrize("ref", ["test/el@1.0.0", "test/da@1.0.1", "other/da@3.0.0", "test/da@2.0.0"])
def test_quarantined_weights_are_not_published_again_under_another_name(place: Place, ref: str) -> None:
    place.quarantine()
    line = place.refused("publish", place.folder / "da", "--as", ref)
    assert f"{ref} does the same as a quarantined version: {DA}" in line
    digest = place.artifact.digest
    assert place.run("publish", place.folder / "da", "--as", ref, "--allow-quarantined", digest).code == 0


def test_what_was_published_as_a_patch_is_refused_with_it(place: Place) -> None:
    patch = copy_as(place.artifact, place.folder, "test/da", "1.0.1", authors=["B. Tester"])
    assert place.publish(patch).code == 0
    place.quarantine()
    for words in (["pull", "test/da@1.0.1"], ["pull", "test/da"], ["pull", str(patch.path)]):
        assert DA in place.refused(*words)
    assert place.run("pull", "test/da@1.0.1", "--allow-quarantined", place.artifact.digest).code == 0
    rows = {
        row["version"]: row["status"] for row in place.run("list", "--json").json if row["name"] == "test/da"
    }
    assert rows == {"1.0.0": "quarantined", "1.0.1": "quarantined"}
    assert "does the same as test/da@1.0.0 is quarantined" in place.run("audit", "test/da@1.0.1").out


def test_other_weights_of_the_same_name_are_published_as_ever(place: Place) -> None:
    place.quarantine()
    assert place.publish(copy_as(place.artifact, place.folder, "test/da", "1.1.0", seed=4.0)).code == 0
    assert place.run("pull", "test/da").code == 0


def test_a_child_of_the_same_weights_under_another_name_is_refused(place: Place) -> None:
    twin = copy_as(place.artifact, place.folder, "test/twin")
    child = make_child(place.folder / "child", twin)
    place.quarantine()
    assert f"made from a quarantined version: {DA}" in place.refused("publish", child.path)
    place.refused("pull", child.path)


# who said so says it no more


def emptied(place: Place) -> None:
    place.claims.write_text("[]\n")


def deleted(place: Place) -> None:
    place.claims.unlink()


def shortened(place: Place) -> None:
    place.claims.write_text(json.dumps(json.loads(place.claims.read_bytes())[:1]))


def undone_before_it(place: Place) -> None:
    entries = json.loads(place.claims.read_bytes())
    undone = {**entries[-1], "status": "active", "time": entries[0]["time"]}
    place.claims.write_text(json.dumps([*entries[:-1], undone]))


def undone_in_the_future(place: Place) -> None:
    entries = json.loads(place.claims.read_bytes())
    place.claims.write_text(
        json.dumps([*entries, {**entries[-1], "status": "active", "time": "9999-12-31T23:59:59Z"}])
    )


GONE: list[Callable[[Place], None]] = [emptied, deleted, shortened, undone_before_it, undone_in_the_future]


@pytest.mark.parametrize("change", GONE)
def test_a_quarantine_outlives_its_status_file_and_a_rebuild(
    place: Place, change: Callable[[Place], None]
) -> None:
    place.quarantine()
    change(place)
    rebuilt = place.run("registry", "rebuild")
    assert rebuilt.code == 0
    if change is not undone_in_the_future:  # there the status file itself still says so
        assert f"{DA} stays quarantined (bad text)" in rebuilt.err
        assert "registry-status-lost" in place.run("registry", "check").out
    for words in (
        ["pull", DA],
        ["pull", "test/da"],
        ["publish", place.folder / "da", "--as", "test/el@1.0.0"],
    ):
        place.refused(*words)
    assert "quarantined" in place.run("show", DA).out
    assert "[quarantined]" in place.run("lineage", DA).out


def test_a_quarantine_outlives_a_registry_that_is_made_anew(place: Place) -> None:
    place.quarantine()
    place.claims.unlink()
    other = place.folder / "elsewhere"
    shutil.copytree(place.store, other / "store")
    words = ("--registry", other / "registry.json", "--store", other / "store")
    assert place.run(*words, "registry", "rebuild").code == 0
    line = place.refused(*words, "pull", DA)
    assert f"as {place.registry} said" in line
    assert "quarantined" in place.run(*words, "show", DA).out
    assert "quarantine-elsewhere" in place.run(*words, "audit", DA).out
    (row,) = [row for row in place.run(*words, "list", "--json").json if row["name"] == "test/da"]
    assert row["status"] == "quarantined"


def test_an_older_registry_elsewhere_does_not_bring_the_version_back(place: Place) -> None:
    place.quarantine()
    old = place.folder / "old.json"
    tree = json.loads(place.before)
    old.write_text(json.dumps({**tree, "registry_id": "another"}, indent=2, sort_keys=True) + "\n")
    place.refused("--registry", old, "pull", DA)


def test_an_exact_pin_and_a_lock_are_refused_although_the_cache_has_them(place: Place) -> None:
    assert place.run("lock", DA).code == 0
    place.quarantine()
    place.registry.unlink()  # offline, nothing there to ask
    place.refused("pull", place.folder / "da")
    outcome = place.run("sync", "--locked")
    assert outcome.code == 1
    assert "quarantined" in outcome.err


def test_transcribing_with_quarantined_weights_is_refused(place: Place) -> None:
    place.quarantine()
    sound = Path(__file__).parent.parent / "clips"
    clip = next(path for path in sorted(sound.rglob("*")) if path.suffix in (".flac", ".wav"))
    place.refused("transcribe", DA, clip)
    place.refused("transcribe", place.folder / "da", clip)


def test_the_owner_takes_a_quarantine_back(place: Place) -> None:
    place.quarantine()
    place.retire("active")
    assert place.run("pull", DA).code == 0
    assert place.run("publish", place.folder / "da", "--as", "test/el@1.0.0").code == 0
    assert place.run("registry", "rebuild").code == 0
    assert place.run("registry", "check").code == 0
    place.retire("quarantined")
    place.refused("pull", DA)


def test_another_registry_does_not_take_a_quarantine_back(place: Place) -> None:
    place.quarantine()
    other = place.folder / "elsewhere"
    shutil.copytree(place.store, other / "store")
    words = ("--registry", other / "registry.json", "--store", other / "store")
    assert place.run(*words, "registry", "rebuild").code == 0
    assert place.run(*words, "retire", DA, "--status", "active", "--reason", "all is well").code == 0
    place.refused(*words, "pull", DA)
    assert place.run(*words, "pull", DA, "--allow-quarantined", place.artifact.digest).code == 0


def test_a_withdrawal_after_a_quarantine_does_not_free_the_weights(place: Place) -> None:
    place.quarantine()
    place.retire("withdrawn")
    place.refused("publish", place.folder / "da", "--as", "test/el@1.0.0")


# a repository on the Hub


def test_a_repository_that_drops_its_status_file_does_not_bring_a_version_back(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, plain_http: None
) -> None:
    with LoopbackHub(tmp_path / "hub") as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
        monkeypatch.setenv("HF_TOKEN", hub.token("alice"))
        artifact = make_artifact(tmp_path / "da", "alice/da")
        places = ("--registry", tmp_path / "own.json", "--store", "hf://alice")
        assert run(*places, "publish", artifact.path).code == 0
        assert (
            run(*places, "retire", "alice/da@1.0.0", "--status", "quarantined", "--reason", "bad").code == 0
        )
        assert run("pull", "hf://alice/da").code == 1
        hub.write("alice/da", {"status.json": b"[]\n"})
        for ref in ("hf://alice/da", "hf://alice/da@1.0.0"):
            outcome = run("pull", ref)
            assert outcome.code == 1
            assert "quarantined (bad)" in outcome.err


# the memory itself


def test_a_damaged_memory_is_told_in_one_line_and_the_rest_of_it_holds(place: Place) -> None:
    place.quarantine()
    place.claims.unlink()
    place.run("registry", "rebuild")
    with place.memory.open("ab") as file:
        file.write(b"{garbage}\n\x00\xff\n")
    place.refused("pull", DA)
    fine = copy_as(place.artifact, place.folder, "test/el", seed=4.0)
    outcome = place.publish(fine)
    assert outcome.code == 0
    (line,) = [
        line for line in outcome.err.splitlines() if "damaged, so a quarantine may be forgotten" in line
    ]
    assert f"{place.memory}, line 2 and 1 more: damaged" in line


def test_half_a_line_of_a_process_that_died_is_removed_by_the_next_writer(place: Place) -> None:
    place.quarantine()
    whole = place.memory.read_bytes()
    place.memory.write_bytes(whole + whole[: len(whole) // 2])
    place.refused("pull", DA)
    place.retire("active")
    lines = place.memory.read_bytes().splitlines()
    assert [json.loads(line)["status"] for line in lines] == ["quarantined", "active"]


def test_a_memory_that_cannot_be_read_is_told(place: Place) -> None:
    place.quarantine()
    place.memory.unlink()
    place.memory.mkdir()
    fine = copy_as(place.artifact, place.folder, "test/el", seed=4.0)
    outcome = place.publish(fine)
    assert outcome.code == 0
    assert f"move {place.memory} away to start over" in outcome.err
    place.refused("pull", DA)  # the registry says so itself


def hear(folder: Path, number: int) -> None:
    memory = StatusMemory(folder)
    for version in range(20):
        digest = f"sha256:{number:032x}{version:032x}"
        told = statement(
            GivenStatus(digest, digest, "quarantined", "why", None), f"a/b@{number}.{version}.0", "x"
        )
        assert told is not None
        memory.remember([told])


def test_processes_that_are_told_at_once_forget_nothing(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=hear, args=(tmp_path, number)) for number in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0] * 4
    lines = StatusMemory(tmp_path).path.read_bytes().splitlines()
    assert len({json.loads(line)["ref"] for line in lines}) == len(lines) == 80
