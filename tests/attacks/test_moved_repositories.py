"""Repositories that were renamed, given away or copied: what a user of the old name, or the new, can do."""

from __future__ import annotations

import re
import wave
from collections.abc import Iterator
from pathlib import Path

import pytest
from command_line import Run
from hub_places import hub_store
from loopback_hub import LoopbackHub
from making import make_artifact

from adapter_hub import embedded
from adapter_hub.artifact.folder import Artifact
from adapter_hub.exchange import Places, publish
from adapter_hub.files.locks import held
from adapter_hub.formats.reference import AdapterRef
from adapter_hub.hub import RepoId
from adapter_hub.registry.file import FileRegistry
from adapter_hub.stores.folder import FolderStore
from adapter_hub.stores.known_repos import KnownRepos


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LoopbackHub]:
    with LoopbackHub(tmp_path / "hub") as running:
        monkeypatch.setenv("HF_ENDPOINT", running.endpoint)
        monkeypatch.setenv("HF_TOKEN", running.token("alice"))
        monkeypatch.setenv("ADAPTER_HUB_RETRY_SECONDS", "0.1")
        monkeypatch.setenv("ADAPTER_HUB_CACHE", str(tmp_path / "cache"))
        yield running


@pytest.fixture
def published(hub: LoopbackHub, tmp_path: Path) -> Artifact:
    artifact = make_artifact(tmp_path / "da", "alice/da")
    store = hub_store(hub, "alice", tmp_path / "publisher")
    publish(artifact.path, Places(FileRegistry(tmp_path / "theirs.json"), store))
    return artifact


def copy_to(hub: LoopbackHub, repo: str, tag: str = "v1.0.0") -> None:
    """Copy alice's adapter to somebody else's repository, as the Hub's page offers."""
    files = hub.files("alice/da", tag)
    hub.create(repo)
    hub.move_tag(repo, tag, hub.write(repo, dict(files)))


def pulled(run: Run, ref: str) -> str:
    outcome = run("pull", ref)
    assert outcome.code == 0, outcome
    return outcome.out.split()[0]


def refused(run: Run, ref: str) -> list[str]:
    """Return what the refusal says to name instead."""
    outcome = run("pull", ref)
    assert outcome.code == 1, outcome
    line = outcome.err.splitlines()[-1]
    assert line.startswith("error: ")
    steps = re.findall(r"hf://[a-z0-9@.:/#-]*[a-z0-9]", line)
    return [step for step in steps if step != ref and step != ref.partition("@")[0]]


def test_a_repository_renamed_by_its_owner_serves_under_both_names(
    hub: LoopbackHub, published: Artifact, run: Run
) -> None:
    hub.rename("alice/da", "alice/danish")
    for name in ("alice/da", "alice/danish"):
        for ref in (f"hf://{name}", f"hf://{name}@1.0.0", f"hf://{name}@1.0.0#{published.digest}"):
            assert pulled(run, ref) == "alice/da@1.0.0"
    assert "was moved to hf://alice/danish by its owner" in run("show", "hf://alice/da").err


def test_one_that_was_known_before_it_was_renamed_stays_known(
    hub: LoopbackHub, published: Artifact, run: Run, tmp_path: Path
) -> None:
    pulled(run, "hf://alice/da")
    hub.rename("alice/da", "alice/danish")
    other = make_artifact(tmp_path / "other", "alice/da", seed=9.0)
    commit = hub.write("alice/danish", {path.name: path.read_bytes() for path in other.path.iterdir()})
    hub.move_tag("alice/danish", "v1.0.0", commit)
    outcome = run("pull", "hf://alice/danish@1.0.0")
    assert outcome.code == 1
    assert "the tag was moved" in outcome.err


def test_a_repository_with_another_owner_is_taken_under_the_owner_s_name(
    hub: LoopbackHub, published: Artifact, run: Run
) -> None:
    hub.rename("alice/da", "bob/da")
    steps = refused(run, "hf://alice/da")
    assert steps == ["hf://bob/da"]
    assert pulled(run, steps[0]) == "alice/da@1.0.0"
    assert pulled(run, f"hf://alice/da@1.0.0#{published.digest}") == "alice/da@1.0.0"


def test_a_registry_s_adapter_is_found_where_its_repository_is_now(
    hub: LoopbackHub, published: Artifact, run: Run, tmp_path: Path
) -> None:
    hub.rename("alice/da", "bob/da")
    outcome = run("--registry", str(tmp_path / "theirs.json"), "pull", "alice/da@1.0.0", "--json")
    assert outcome.json[0]["digest"] == published.digest


def test_a_new_version_of_a_moved_repository_has_its_new_name(
    hub: LoopbackHub, published: Artifact, run: Run, tmp_path: Path
) -> None:
    hub.rename("alice/da", "bob/da")
    newer = make_artifact(tmp_path / "newer", "bob/da", "1.1.0", seed=3.0)
    store = hub_store(hub, "bob", tmp_path / "publisher")
    publish(newer.path, Places(FileRegistry(tmp_path / "bobs.json"), store))
    assert pulled(run, "hf://bob/da") == "bob/da@1.1.0"
    assert pulled(run, "hf://bob/da@1.0.0") == "alice/da@1.0.0"


def test_a_copy_is_refused_and_both_ways_on_that_it_names_work(
    hub: LoopbackHub, published: Artifact, run: Run
) -> None:
    copy_to(hub, "mallory/da")
    original, pinned = refused(run, "hf://mallory/da@1.0.0")
    assert pulled(run, original) == pulled(run, pinned) == "alice/da@1.0.0"
    assert pinned.endswith(published.digest)


def test_a_changed_copy_never_passes_for_the_original(
    hub: LoopbackHub, published: Artifact, run: Run, tmp_path: Path
) -> None:
    forged = make_artifact(tmp_path / "forged", "alice/da", seed=9.0)
    hub.create("mallory/da")
    files = {path.name: path.read_bytes() for path in forged.path.iterdir()}
    hub.move_tag("mallory/da", "v1.0.0", hub.write("mallory/da", files))
    refused(run, "hf://mallory/da")
    assert run("pull", f"hf://mallory/da@1.0.0#{published.digest}").code == 1


def test_a_moved_adapter_transcribes(hub: LoopbackHub, run: Run, tmp_path: Path) -> None:
    real = FolderStore(embedded.store_path()).fetch("mini/da", "1.0.0", tmp_path / "real")
    store = hub_store(hub, "alice", tmp_path / "publisher")
    publish(
        real.path, Places(FileRegistry(tmp_path / "t.json"), store), rename=AdapterRef("alice/da", "1.0.0")
    )
    hub.rename("alice/da", "alice/danish")
    with wave.open(str(tmp_path / "a.wav"), "wb") as audio:
        audio.setparams((1, 2, 16_000, 0, "NONE", "NONE"))
        audio.writeframes(bytes(32_000))
    outcome = run("--device", "cpu", "transcribe", "hf://alice/danish", "a.wav", "--json")
    assert outcome.code == 0, outcome.err


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b"\xff", b'{"schema": "another/1"}', b" " * 3_000_000])
def test_a_damaged_memory_is_told_and_not_forgotten(
    hub: LoopbackHub, published: Artifact, run: Run, tmp_path: Path, damage: bytes
) -> None:
    pulled(run, "hf://alice/da@1.0.0")
    note = KnownRepos(tmp_path / "cache", hub.endpoint).path(RepoId("alice/da"))
    note.write_bytes(damage)
    outcome = run("pull", "hf://alice/da")
    assert outcome.code == 1
    assert outcome.err.count("\n") == 1
    assert f"is damaged, in {note}" in outcome.err
    note.unlink()
    assert pulled(run, "hf://alice/da") == "alice/da@1.0.0"


def test_a_memory_that_another_process_keeps_locked_stops_nobody(
    hub: LoopbackHub, published: Artifact, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("adapter_hub.registry.record_file.LOCK_SECONDS", 0.1)
    note = KnownRepos(tmp_path / "cache", hub.endpoint).path(RepoId("alice/da"))
    note.parent.mkdir(parents=True, exist_ok=True)
    note.unlink(missing_ok=True)
    with held(note.with_name(".lock"), 0, "the memory"):
        assert pulled(run, "hf://alice/da") == "alice/da@1.0.0"
        assert not note.exists()
    assert pulled(run, "hf://alice/da") == "alice/da@1.0.0"
    assert note.exists()
