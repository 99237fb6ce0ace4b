"""`hf://namespace/name`: an adapter from its repository, without a registry; whom that trusts."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hub_places import hub_client, hub_store
from loopback_hub import LoopbackHub
from making import make_artifact, make_child, make_report

from adapter_hub.artifact.folder import Artifact
from adapter_hub.artifact.privacy import without_names
from adapter_hub.errors import IntegrityError, NotFoundError, StatusError, UnreachableError
from adapter_hub.exchange import Places, attach, publish, pull, retire
from adapter_hub.formats.claims import Status
from adapter_hub.formats.reference import AdapterRef
from adapter_hub.hub import RepoId
from adapter_hub.registry.file import FileRegistry
from adapter_hub.stores.cache import Cache
from adapter_hub.stores.folder import FolderStore

DA = RepoId("alice/da")


class Place:
    """A Hub with alice/da 1.0.0, 1.1.0 and 2.0.0rc1, and somebody else's machine that has nothing yet."""

    def __init__(self, hub: LoopbackHub, folder: Path) -> None:
        self.hub, self.folder = hub, folder
        self.registry, self.store = FileRegistry(folder / "registry.json"), hub_store(hub, "alice")
        self.cache = Cache(folder / "cache")
        self.told: list[str] = []

    def retire(self, version: str, status: Status) -> None:
        ref = AdapterRef("alice/da", version)
        retire(ref, status, "a reason", Places(self.registry, self.store))

    def pull(self, ref: str) -> str:
        self.told.clear()
        return pull(ref, Places((), cache=self.cache, tell=self.told.append)).ref


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the place's content, made once: the Hub keeps everything on disk."""
    folder = tmp_path_factory.mktemp("filled")
    with LoopbackHub(folder / "hub") as hub:
        place = Place(hub, folder)
        for version, seed in (("1.0.0", 1.0), ("1.1.0", 2.0), ("2.0.0rc1", 3.0)):
            artifact = make_artifact(folder / version, "alice/da", version, seed=seed)
            publish(artifact.path, Places(place.registry, place.store))
    return folder


@pytest.fixture
def place(tmp_path: Path, filled: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    shutil.copytree(filled, tmp_path / "place")
    with LoopbackHub(tmp_path / "place" / "hub") as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
        monkeypatch.setenv("HF_TOKEN", hub.token("alice"))
        monkeypatch.setenv("ADAPTER_HUB_RETRY_SECONDS", "1")
        yield Place(hub, tmp_path / "place")


@pytest.mark.parametrize(
    ("ref", "version"),
    [
        ("hf://alice/da", "1.1.0"),
        ("hf://alice/da@1.0.0", "1.0.0"),
        ("hf://alice/da~=1.0", "1.1.0"),
        ("hf://alice/da@2.0.0rc1", "2.0.0rc1"),
    ],
)
def test_a_repository_s_own_tags_decide(place: Place, ref: str, version: str) -> None:
    assert place.pull(ref) == f"alice/da@{version}"
    assert any("used for the first time: its owner alice is trusted" in line for line in place.told)
    assert place.pull(ref) == f"alice/da@{version}"
    assert place.told == []


def test_a_digest_alone_names_a_version(place: Place) -> None:
    digest = place.store.manifest("alice/da", "1.0.0")[1]
    assert place.pull(f"hf://alice/da#{digest}") == "alice/da@1.0.0"
    with pytest.raises(IntegrityError, match="the pinned one"):
        place.pull(f"hf://alice/da@1.1.0#{digest}")


def test_an_exact_version_in_the_cache_costs_no_request(place: Place) -> None:
    place.pull("hf://alice/da@1.0.0")
    digest = Artifact.open(place.folder / "1.0.0").digest
    place.hub.log.clear()
    assert place.pull("hf://alice/da@1.0.0") == "alice/da@1.0.0"
    assert place.pull(f"hf://alice/da#{digest}") == "alice/da@1.0.0"
    assert len(place.hub.log) == 0


def test_statuses_of_the_repository_count(place: Place) -> None:
    place.retire("1.1.0", "yanked")
    assert place.pull("hf://alice/da") == "alice/da@1.0.0"
    assert place.pull("hf://alice/da@1.1.0") == "alice/da@1.1.0"
    assert "alice/da@1.1.0 is yanked (a reason)" in place.told
    place.retire("1.0.0", "quarantined")
    with pytest.raises(StatusError, match="quarantined"):
        place.pull("hf://alice/da~=1.0")


def test_a_hub_that_is_down_leaves_what_is_in_the_cache(place: Place) -> None:
    place.pull("hf://alice/da~=1.0")
    place.hub.stop()
    assert place.pull("hf://alice/da~=1.0") == "alice/da@1.1.0"
    assert "using alice/da@1.1.0 from the cache" in place.told[0]
    with pytest.raises(UnreachableError, match=r"127\.0\.0\.1:\d+ cannot be used .* try again later"):
        place.pull("hf://alice/da@1.0.0")


def test_a_moved_tag_is_refused(place: Place) -> None:
    place.pull("hf://alice/da@1.0.0")
    tags = hub_client(place.hub, "alice").refs(DA).tags
    place.hub.move_tag("alice/da", "v1.0.0", tags["v1.1.0"])
    place.cache.prune(0.0)  # it has to come from the Hub again
    with pytest.raises(IntegrityError, match=r"holds alice/da@1\.1\.0, expected alice/da@1\.0\.0"):
        place.pull("hf://alice/da@1.0.0")


def test_a_tag_with_other_content_of_the_same_version_is_refused(place: Place, tmp_path: Path) -> None:
    place.pull("hf://alice/da@1.0.0")
    client = hub_client(place.hub, "alice")
    head = client.refs(DA).branches["main"]
    forged = make_artifact(tmp_path / "forged", "alice/da", "1.0.0", seed=9.0)
    additions = {path.name: path for path in forged.path.iterdir()}
    commit = client.commit(DA, additions=additions, message="forged", parent=head)
    place.hub.move_tag("alice/da", "v1.0.0", commit)
    place.cache.prune(0.0)
    with pytest.raises(IntegrityError, match="the tag was moved"):
        place.pull("hf://alice/da@1.0.0")


def test_a_repository_that_was_made_anew_is_refused(place: Place) -> None:
    place.pull("hf://alice/da@1.0.0")
    place.hub.recreate("alice/da")
    with pytest.raises(IntegrityError, match="deleted and created again since, perhaps by another user"):
        place.pull("hf://alice/da@1.1.0")


def test_a_repository_that_moved_to_another_owner_is_refused(place: Place) -> None:
    place.hub.rename("alice/da", "bob/da")
    with pytest.raises(IntegrityError, match="answers with bob/da: the repository was moved"):
        place.pull("hf://alice/da@1.1.0")


def test_what_is_no_adapter_s_repository_says_how_to_go_on(place: Place) -> None:
    client = hub_client(place.hub, "alice")
    client.create_repo(RepoId("alice/plain"))
    with pytest.raises(
        NotFoundError, match=r"no version tags like v1\.0\.0; .* `adapter-hub import hf://alice/plain`"
    ):
        place.pull("hf://alice/plain")
    with pytest.raises(NotFoundError, match="not on http://127"):
        place.pull("hf://alice/absent")
    with pytest.raises(
        NotFoundError, match=r"no such version; hf://alice/da has 1\.0\.0, 1\.1\.0, 2\.0\.0rc1"
    ):
        place.pull("hf://alice/da@7.0.0")


def test_a_registry_that_knows_the_version_otherwise_is_heard(place: Place, tmp_path: Path) -> None:
    other = FileRegistry(tmp_path / "other.json")
    same = make_artifact(tmp_path / "same", "alice/da", "1.0.0", seed=5.0)
    publish(same.path, Places(other, FolderStore(tmp_path / "store")))
    with pytest.raises(IntegrityError, match="a version never changes"):
        pull("hf://alice/da@1.0.0", Places((other,), cache=place.cache))


def test_reports_and_children_travel_through_the_hub(tmp_path: Path) -> None:
    with LoopbackHub(tmp_path / "hub") as hub:
        registry, store = FileRegistry(tmp_path / "registry.json"), hub_store(hub, "alice")
        parent = make_artifact(tmp_path / "pl", "alice/pl")
        child = make_child(tmp_path / "child", parent, "alice/child")
        for artifact in (parent, child):
            publish(artifact.path, Places(registry, store))
        report = make_report(child)
        attach(report, Places(registry, store))
        assert store.claims("alice/child").reports == (without_names(report),)
        assert registry.adapters["alice/child"]["1.0.0"].scores[0].value == report.value
        card = hub.files("alice/child", "main")["README.md"].decode()
        assert "model-index:" in card
        assert "10.0 %" in card


def pulling(place: Place, cache: Path, **more: str) -> subprocess.Popen[str]:
    """Start a process that pulls alice/da into a cache."""
    command = [sys.executable, "-m", "adapter_hub", "--cache", str(cache), "pull", "hf://alice/da"]
    environment = {**os.environ, **place.hub.environment("alice"), **more}
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def test_processes_that_pull_at_once_download_once_and_offline_uses_what_is_there(
    place: Place, tmp_path: Path
) -> None:
    cache = tmp_path / "shared"
    running = [pulling(place, cache) for _ in range(4)]
    outcomes = [(process.communicate(timeout=60), process.returncode) for process in running]
    assert [code for _, code in outcomes] == [0] * 4, outcomes
    assert len({out for (out, _), _ in outcomes}) == 1
    assert place.hub.log.count("GET", r"/resolve/.*/adapter_model\.safetensors") == 1
    place.hub.log.clear()
    out, err = pulling(place, cache, HF_HUB_OFFLINE="1").communicate(timeout=60)
    assert out.startswith("alice/da@1.1.0  ")
    assert "HF_HUB_OFFLINE is set" in err
    assert "using alice/da@1.1.0 from the cache" in err
    elsewhere = pulling(place, tmp_path / "empty", HF_HUB_OFFLINE="1")
    assert elsewhere.communicate(timeout=60)[1] == (
        "error: hf://alice/da is not in the cache and HF_HUB_OFFLINE is set; unset it once to pull it\n"
    )
    assert elsewhere.returncode == 1
    assert len(place.hub.log) == 0
