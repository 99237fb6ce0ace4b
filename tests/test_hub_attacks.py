"""What a Hub, its repositories and names must not be able to do to the machine of somebody who pulls."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from command_line import Run
from hub_places import IMPATIENT, hub_client, hub_store
from loopback_hub import LoopbackHub
from making import make_artifact

from adapter_hub.artifact.folder import Artifact
from adapter_hub.errors import (
    AdapterHubError,
    ConflictError,
    IntegrityError,
    InvalidInputError,
    NotFoundError,
)
from adapter_hub.exchange import Places, publish, pull
from adapter_hub.hub import HubClient, RepoId, check_commit, check_revision
from adapter_hub.registry.file import FileRegistry
from adapter_hub.registry.on_hub import HubRegistry
from adapter_hub.stores.cache import Cache
from adapter_hub.stores.hub import HubStore

NAMES = [
    "../x",
    "a/..",
    "../../etc/passwd",
    "a/b/../../c",
    "/a/b",
    "a//b",
    "a/b/c",
    "a/.b",
    "a--b/c",
    "a/b.git",
]
NAMES += [
    "a/b?x=1",
    "a/b#c",
    "a/b%2e%2e",
    "a/%2e%2e",
    "a\\b",
    "a/b\n",
    "a/\0b",
    "a/b c",
    "å/b",
    "a/b@c",
    "",
]
REVISIONS = [
    "../../x",
    "..",
    "a/../b",
    "v1.0.0/../../x",
    "/etc",
    "a//b",
    "a/.git",
    "-x",
    "v1\n",
    "v1?x",
    "v1#x",
]
REVISIONS += ["v1%2f..", "v\0", "a b", "refs/heads/x.lock", "å", "", "x" * 300, "HEAD^", "a~1", "a:b", "a\\b"]


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LoopbackHub]:
    with LoopbackHub(tmp_path / "hub") as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
        monkeypatch.setenv("HF_TOKEN", hub.token("alice"))
        monkeypatch.setenv("ADAPTER_HUB_RETRY_SECONDS", "0.1")
        yield hub


@pytest.fixture
def client(hub: LoopbackHub) -> HubClient:
    return hub_client(hub, "alice")


@pytest.fixture
def published(hub: LoopbackHub, tmp_path: Path) -> Artifact:
    artifact = make_artifact(tmp_path / "da", "alice/da")
    publish(artifact.path, Places(FileRegistry(tmp_path / "registry.json"), hub_store(hub, "alice")))
    return artifact


def files_in(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if path.is_file()}


# names


@pytest.mark.parametrize("name", NAMES)
def test_a_name_that_is_none_never_becomes_a_repository(name: str) -> None:
    with pytest.raises(InvalidInputError, match="expected namespace/name"):
        RepoId(name)
    with pytest.raises(InvalidInputError, match="expected"):
        RepoId.parse(f"hf://datasets/{name}")
    with pytest.raises(InvalidInputError, match="expected"):
        HubRegistry(f"hf://datasets/{name}")
    with pytest.raises(InvalidInputError, match="expected hf://namespace"):
        HubStore(name)


@pytest.mark.parametrize("revision", REVISIONS)
def test_a_revision_that_is_none_costs_no_request(
    hub: LoopbackHub, client: HubClient, tmp_path: Path, revision: str
) -> None:
    repo, commit = RepoId("alice/da"), "0" * 40
    with pytest.raises(InvalidInputError, match="revision"):
        check_revision(revision)
    with pytest.raises(InvalidInputError, match="expected 40 hexadecimal digits"):
        check_commit(revision)
    calls = [
        lambda: client.state(repo, revision),
        lambda: client.tree(repo, revision),
        lambda: client.read(repo, revision, "adapter.json", limit=100),
        lambda: client.download(repo, revision, {"adapter.json": None}, tmp_path / "new"),
        lambda: client.commit(repo, additions={"x": b""}, message="x", parent=revision),
        lambda: client.commit(repo, additions={"x": b""}, message="x", parent=commit, branch=revision),
        lambda: client.create_tag(repo, revision, commit),
        lambda: client.create_tag(repo, "v1", revision),
        lambda: client.create_branch(repo, revision, commit),
        lambda: client.delete_branch(repo, revision),
    ]
    before = files_in(tmp_path)
    for call in calls:
        with pytest.raises(InvalidInputError, match="expected"):
            call()
    assert len(hub.log) == 0
    assert files_in(tmp_path) == before


@pytest.mark.parametrize(
    "words",
    [
        ("pull", "hf://../x@1.0.0"),
        ("pull", "hf://alice/../../x@1.0.0"),
        ("pull", "hf://alice/da@../../x"),
        ("pull", "hf://alice/da@1.0.0/../../x"),
        ("pull", "hf://alice/da@1.0.0?x"),
        ("pull", "hf://alice/da%2f..@1.0.0"),
        ("show", "hf://alice/..@1.0.0"),
        ("import", "hf://alice/da@../../x", "--language", "da", "--base-model", "a/b"),
        ("import", "hf://alice/../../da", "--language", "da", "--base-model", "a/b"),
        ("--registry", "hf://datasets/../x", "list"),
        ("--registry", "hf://datasets/alice/../x", "pull", "alice/da"),
        ("--store", "hf://../x", "publish", "nothing"),
    ],
)
def test_on_the_command_line_an_odd_name_is_one_line_and_no_request(
    hub: LoopbackHub, run: Run, tmp_path: Path, words: tuple[str, ...]
) -> None:
    outcome = run(*words)
    assert outcome.code in (1, 2), outcome
    assert "Traceback" not in outcome.err
    if outcome.code == 1:
        assert outcome.err.startswith("error: ")
        assert outcome.err.count("\n") == 1
    assert len(hub.log) == 0
    assert not list(tmp_path.parent.glob("x*"))


# what a repository holds


def test_a_commit_with_a_path_that_leads_outside_is_refused(
    hub: LoopbackHub, published: Artifact, client: HubClient, tmp_path: Path
) -> None:
    for path in (
        "evaluations/../../../evil.json",
        "/evil.json",
        "evaluations//evil.json",
        "a\\..\\evil.json",
    ):
        hub.write("alice/da", {path: b"evil"})
        store = hub_store(hub, "alice", tmp_path / "cache")
        with pytest.raises(IntegrityError, match=r"evil\.json' on the Hub: not a path inside a repository"):
            store.claims("alice/da")
        with pytest.raises(IntegrityError, match=r"evil\.json' on the Hub: not a path inside a repository"):
            client.download(RepoId("alice/da"), "0" * 40, {path: None}, tmp_path / "new")
        hub.write("alice/da", {path: None})
    assert not list(tmp_path.parent.rglob("*evil*"))


@pytest.mark.parametrize(
    "path", ["../../evil", "/evil", "a/../../evil", "a\\b", "~/evil", "a//b", "adapter.json"]
)
def test_a_manifest_that_lists_a_path_outside_is_refused(
    hub: LoopbackHub, published: Artifact, tmp_path: Path, path: str
) -> None:
    value = json.loads(hub.files("alice/da", "v1.0.0")["adapter.json"])
    value["files"][0]["path"] = path
    commit = hub.write("alice/da", {"adapter.json": json.dumps(value).encode()})
    hub.move_tag("alice/da", "v1.0.0", commit)
    cache = Cache(tmp_path / "cache")
    hub.log.clear()
    with pytest.raises(AdapterHubError, match=r"adapter\.json|path"):
        pull("hf://alice/da@1.0.0", Places((), cache=cache))
    assert cache.entries() == []
    assert not hub.log.entries("GET", "safetensors")
    assert not list(tmp_path.parent.rglob("*evil*"))


def test_a_file_that_is_larger_than_the_manifest_says_is_refused_before_it_is_downloaded(
    hub: LoopbackHub, published: Artifact, tmp_path: Path
) -> None:
    commit = hub.write("alice/da", {"adapter_model.safetensors": bytes(5_000_000)})
    hub.move_tag("alice/da", "v1.0.0", commit)
    hub.log.clear()
    for ref, registries in (
        ("alice/da@1.0.0", [FileRegistry(tmp_path / "registry.json")]),
        ("hf://alice/da", []),
    ):
        with pytest.raises(IntegrityError, match="5000000 bytes there, expected"):
            pull(ref, Places(registries, cache=Cache(tmp_path / "cache")))
    assert not hub.log.entries(path="safetensors")
    assert sum(path.stat().st_size for path in files_in(tmp_path / "cache")) < 20_000


def test_a_manifest_that_is_too_large_is_refused_before_it_is_downloaded(
    hub: LoopbackHub, published: Artifact, client: HubClient, tmp_path: Path
) -> None:
    commit = hub.write("alice/da", {"adapter.json": b" " * 20_000_000})
    with pytest.raises(IntegrityError, match="20000000 bytes arrived; expected at most 1000"):
        client.read(RepoId("alice/da"), commit, "adapter.json", limit=1000)


def test_tags_that_are_no_versions_are_left_alone(
    hub: LoopbackHub, published: Artifact, tmp_path: Path
) -> None:
    for tag in ("vintage", "v1", "v1.0.0.0", "1.0.0", "v1.0.0-da", "v../x"):
        hub.move_tag("alice/da", tag, hub.refs("alice/da").branches["main"])
    store, registry = hub_store(hub, "alice"), FileRegistry(tmp_path / "registry.json")
    older = make_artifact(tmp_path / "older", "alice/da", "0.9.0", seed=5.0)
    publish(older.path, Places(registry, store))
    assert store.versions("alice/da") == ["0.9.0", "1.0.0"]
    assert pull("hf://alice/da", Places((), cache=Cache(tmp_path / "cache"))).digest == published.digest


def test_a_repository_without_its_main_branch_is_one_line(
    hub: LoopbackHub, published: Artifact, tmp_path: Path
) -> None:
    hub.move_branch("alice/da", "trunk", hub.refs("alice/da").branches["main"])
    hub.move_branch("alice/da", "main", None)
    next_one = make_artifact(tmp_path / "next", "alice/da", "1.1.0", seed=5.0)
    with pytest.raises(NotFoundError, match="hf://alice/da: has no branch main"):
        publish(next_one.path, Places(FileRegistry(tmp_path / "registry.json"), hub_store(hub, "alice")))


def test_a_status_file_from_elsewhere_is_not_believed(
    hub: LoopbackHub, published: Artifact, tmp_path: Path
) -> None:
    hub.write("alice/da", {"status.json": b'[{"version": "1.0.0"}]'})
    with pytest.raises(IntegrityError, match=r"status\.json of hf://alice/da, entry 1: missing field"):
        pull("hf://alice/da@1.0.0", Places((), cache=Cache(tmp_path / "cache")))


# tags that move


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("number", range(3))
def test_a_tag_that_moves_between_two_requests_of_a_pull_never_serves_other_bytes(
    hub: LoopbackHub, published: Artifact, tmp_path: Path, when: str, number: int
) -> None:
    right = hub.refs("alice/da").tags["v1.0.0"]
    other = make_artifact(tmp_path / "other", "alice/da", seed=9.0)
    wrong = hub.write("alice/da", {path.name: path.read_bytes() for path in other.path.iterdir()})
    hub.faults.add(
        when, endpoint="refs", after=number, action=lambda: hub.move_tag("alice/da", "v1.0.0", wrong)
    )
    cache = Cache(tmp_path / "cache")
    registry = FileRegistry(tmp_path / "registry.json")
    with suppress(IntegrityError):
        assert pull("alice/da@1.0.0", Places([registry], cache=cache)).digest == published.digest
    assert {entry.digest for entry in cache.entries()} <= {published.digest}
    hub.faults.clear()
    hub.move_tag("alice/da", "v1.0.0", right)
    assert Cache(tmp_path / "fresh").entries() == []
    assert (
        pull("alice/da@1.0.0", Places([registry], cache=Cache(tmp_path / "fresh"))).digest == published.digest
    )


def test_a_tag_that_somebody_moves_while_it_is_made_is_noticed_by_the_publisher(
    hub: LoopbackHub, tmp_path: Path
) -> None:
    artifact = make_artifact(tmp_path / "da", "alice/da")
    registry, cache = FileRegistry(tmp_path / "registry.json"), tmp_path / "cache"
    first: list[str] = []

    def move() -> None:
        first.append(hub.refs("alice/da").tags["v1.0.0"])
        hub.move_tag("alice/da", "v1.0.0", hub.write("alice/da", {"adapter.json": b"{}"}))

    hub.faults.add("after", endpoint="create-tag", action=move)
    with pytest.raises(ConflictError, match="a version never changes"):
        publish(artifact.path, Places(registry, hub_store(hub, "alice", cache)))
    assert registry.adapters == {}
    hub.move_tag("alice/da", "v1.0.0", first[0])
    assert publish(artifact.path, Places(registry, hub_store(hub, "alice", cache))).is_new


def test_a_tag_that_was_moved_since_it_was_pushed_is_refused_by_the_same_machine(
    hub: LoopbackHub, published: Artifact, tmp_path: Path
) -> None:
    store = HubStore("alice", client=HubClient(hub.endpoint, hub.token("alice"), IMPATIENT), cache=tmp_path)
    store.fetch("alice/da", "1.0.0", tmp_path / "first")
    other = make_artifact(tmp_path / "other", "alice/da", seed=9.0)
    wrong = hub.write("alice/da", {path.name: path.read_bytes() for path in other.path.iterdir()})
    hub.move_tag("alice/da", "v1.0.0", wrong)
    with pytest.raises(IntegrityError, match="the tag was moved"):
        HubStore("alice", client=store.client, cache=tmp_path).fetch("alice/da", "1.0.0", tmp_path / "second")
    assert not (tmp_path / "second").exists()
