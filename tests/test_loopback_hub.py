"""Does the loopback Hub speak the protocol of the unmodified client?"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import (
    CommitOperationAdd,
    CommitOperationCopy,
    CommitOperationDelete,
    HfApi,
    hf_hub_download,
    snapshot_download,
)
from huggingface_hub.errors import (
    BadRequestError,
    GatedRepoError,
    HfHubHTTPError,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import build_hf_headers, get_session
from loopback_hub import LoopbackHub

CARD = b"""---
language:
- pl
license: apache-2.0
library_name: peft
base_model: openai/whisper-small
base_model_relation: adapter
pipeline_tag: automatic-speech-recognition
tags: [lora]
---
# Polish
"""
WEIGHTS = os.urandom(300_000)
FILES = {
    "README.md": CARD,
    "adapter_config.json": b'{"r": 4}',
    "adapter_model.safetensors": WEIGHTS,
    "notes/a b.txt": "zażółć".encode(),
}

pytestmark = pytest.mark.usefixtures("plain_http")


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[LoopbackHub]:
    with LoopbackHub(tmp_path / "hub") as running:
        yield running


def api_of(hub: LoopbackHub, user: str | None = "alice") -> HfApi:
    return HfApi(endpoint=hub.endpoint, token=hub.token(user) if user else False)


def add(files: dict[str, bytes]) -> list[Any]:
    return [CommitOperationAdd(path, content) for path, content in files.items()]


def filled(hub: LoopbackHub, repo_id: str = "alice/pl", **settings: Any) -> str:
    api = api_of(hub)
    api.create_repo(repo_id, **settings)
    head = api.model_info(repo_id).sha
    return api.create_commit(repo_id, add(FILES), commit_message="first", parent_commit=head).oid


def test_what_was_committed_comes_back_by_tag_branch_and_commit(hub: LoopbackHub, tmp_path: Path) -> None:
    commit = filled(hub)
    api_of(hub).create_tag("alice/pl", tag="v1.0.0", revision=commit)
    for revision in ("v1.0.0", "main", commit):
        folder = Path(
            snapshot_download(
                "alice/pl",
                revision=revision,
                endpoint=hub.endpoint,
                cache_dir=tmp_path / revision,
                token=False,
            )
        )
        assert folder.name == commit
        assert {path: (folder / path).read_bytes() for path in FILES} == FILES
    assert hub.files("alice/pl", "v1.0.0") == {
        **FILES,
        ".gitattributes": hub.files("alice/pl")[".gitattributes"],
    }
    assert hub.refs("alice/pl").tags == {"v1.0.0": commit}


def test_redirected_downloads_never_show_the_token_to_the_other_host(tmp_path: Path) -> None:
    with LoopbackHub(tmp_path / "hub", redirect=True) as hub:
        filled(hub, private=True)
        path = hf_hub_download(
            "alice/pl",
            "adapter_model.safetensors",
            endpoint=hub.endpoint,
            token=hub.token(),
            cache_dir=tmp_path / "cache",
        )
        assert Path(path).read_bytes() == WEIGHTS
        (entry,) = hub.log.entries(endpoint="contents")
        assert entry.status == 200
        assert "authorization" not in entry.headers


def test_the_tree_names_contents_as_git_and_lfs_do(hub: LoopbackHub) -> None:
    commit = filled(hub)
    items = {item.path: item for item in api_of(hub).list_repo_tree("alice/pl", recursive=True, expand=True)}
    weights, card = items["adapter_model.safetensors"], items["README.md"]
    assert (weights.lfs.sha256, weights.lfs.size) == (hashlib.sha256(WEIGHTS).hexdigest(), len(WEIGHTS))
    assert card.blob_id == hashlib.sha1(b"blob %d\0" % len(CARD) + CARD).hexdigest()
    assert card.last_commit.oid == commit
    assert {"notes", "notes/a b.txt"} < set(items)
    assert {item.path for item in api_of(hub).list_repo_tree("alice/pl", "notes")} == {"notes/a b.txt"}
    found = api_of(hub).get_paths_info("alice/pl", ["notes", "README.md", "absent"])
    assert {item.path for item in found} == {"notes", "README.md"}
    assert (
        api_of(hub).verify_repo_checksums("alice/pl", local_dir=write(hub.folder / "local")).mismatches == []
    )


def write(folder: Path) -> Path:
    for path, content in FILES.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
    return folder


def test_long_answers_come_in_pages(tmp_path: Path) -> None:
    with LoopbackHub(tmp_path / "hub", page_size=3) as hub:
        hub.create("alice/pl")
        for number in range(7):
            hub.write("alice/pl", {f"{number}.txt": b"x"}, message=f"change {number}")
            hub.create(f"alice/m{number}")
        api = api_of(hub)
        assert len(list(api.list_repo_tree("alice/pl"))) == 8
        assert [commit.title for commit in api.list_repo_commits("alice/pl")][:2] == ["change 6", "change 5"]
        assert len(list(api.list_models(author="alice"))) == 8
        assert len(list(api.list_models(author="alice", limit=5))) == 5
        assert hub.log.count(path="/tree/") == 3


def test_a_stale_parent_is_refused_and_changes_nothing(hub: LoopbackHub) -> None:
    first = filled(hub)
    api = api_of(hub)
    second = api.create_commit("alice/pl", add({"a": b"1"}), commit_message="a", parent_commit=first).oid
    with pytest.raises(HfHubHTTPError, match="412"):
        api.create_commit("alice/pl", add({"b": b"2"}), commit_message="b", parent_commit=first)
    assert hub.refs("alice/pl").branches == {"main": second}
    assert "b" not in hub.files("alice/pl")


def test_of_commits_on_the_same_parent_exactly_one_wins(hub: LoopbackHub) -> None:
    for attempt in range(5):
        parent = filled(hub, f"alice/race{attempt}")
        start = threading.Barrier(4)

        def race(me: int, repo: str = f"alice/race{attempt}", parent: str = parent) -> str:
            operations = add({"who": str(me).encode()})
            start.wait()  # noqa: B023
            try:
                api_of(hub).create_commit(repo, operations, commit_message="x", parent_commit=parent)
            except HfHubHTTPError as error:
                return str(error.response.status_code)
            return "won"

        with ThreadPoolExecutor(4) as pool:
            outcomes = list(pool.map(race, range(4)))
        assert sorted(outcomes) == ["412", "412", "412", "won"]


def test_deleting_and_copying_within_a_commit(hub: LoopbackHub) -> None:
    filled(hub)
    operations = [
        CommitOperationDelete("notes/", is_folder=True),
        CommitOperationDelete("adapter_config.json"),
        CommitOperationCopy("adapter_model.safetensors", "copy.safetensors"),
    ]
    api_of(hub).create_commit("alice/pl", operations, commit_message="tidy")
    files = hub.files("alice/pl")
    assert set(files) == {".gitattributes", "README.md", "adapter_model.safetensors", "copy.safetensors"}
    assert files["copy.safetensors"] == WEIGHTS
    with pytest.raises(RemoteEntryNotFoundError, match="file with this name doesn't exist"):
        api_of(hub).create_commit("alice/pl", [CommitOperationDelete("absent")], commit_message="no")


def test_a_commit_cannot_name_contents_that_were_never_uploaded(hub: LoopbackHub) -> None:
    filled(hub)
    lines = (
        b'{"key": "header", "value": {"summary": "x", "description": ""}}\n'
        b'{"key": "lfsFile", "value": {"path": "w.bin", "algo": "sha256", "oid": "%s", "size": 4}}\n'
        % (b"a" * 64)
    )
    answer = get_session().post(
        f"{hub.endpoint}/api/models/alice/pl/commit/main",
        content=lines,
        headers=build_hf_headers(token=hub.token()),
    )
    assert answer.status_code == 400
    assert "file that does not exist" in answer.json()["error"]


def test_an_upload_that_is_not_what_was_announced_is_refused(hub: LoopbackHub) -> None:
    filled(hub)
    sha256 = hashlib.sha256(b"good").hexdigest()
    batch = get_session().post(
        f"{hub.endpoint}/alice/pl.git/info/lfs/objects/batch",
        json={"operation": "upload", "objects": [{"oid": sha256, "size": 4}]},
        headers=build_hf_headers(token=hub.token()),
    )
    href = batch.json()["objects"][0]["actions"]["upload"]["href"]
    assert get_session().put(href, content=b"evil").status_code == 400
    assert get_session().put(href, content=b"good").status_code == 200
    assert get_session().put(href.replace(sha256, "0" * 64), content=b"good").status_code == 403


def test_tags_and_branches_are_made_once_and_deleted(hub: LoopbackHub) -> None:
    commit = filled(hub)
    api = api_of(hub)
    api.create_tag("alice/pl", tag="v1", revision=commit)
    with pytest.raises(HfHubHTTPError, match="409"):
        api.create_tag("alice/pl", tag="v1", revision="main")
    api.create_branch("alice/pl", branch="staging/x", revision="v1")
    with pytest.raises(HfHubHTTPError, match="409"):
        api.create_branch("alice/pl", branch="staging/x")
    made = api.create_commit("alice/pl", add({"a": b"1"}), commit_message="a", revision="staging/x").oid
    refs = {branch.name: branch.target_commit for branch in api.list_repo_refs("alice/pl").branches}
    assert refs == {"main": commit, "staging/x": made}
    api.delete_branch("alice/pl", branch="staging/x")
    api.delete_tag("alice/pl", tag="v1")
    with pytest.raises(RevisionNotFoundError, match="404"):
        api.delete_tag("alice/pl", tag="v1")
    assert api.model_info("alice/pl", revision=made).sha == made
    assert hub.collect_garbage("alice/pl") == 1
    with pytest.raises(RevisionNotFoundError, match="404"):
        api.model_info("alice/pl", revision=made)


def test_bad_metadata_is_refused_before_and_in_the_commit(hub: LoopbackHub) -> None:
    filled(hub)
    for card, complaint in (
        (b"---\nlicense: my-own\n---\n", "license"),
        (b"---\nlanguage: no\n---\n", "language"),
        (b"---\nbase_model_relation: child\n---\n", "base_model_relation"),
        (b"---\nmodel-index:\n- results: []\n---\n", "model-index"),
        (b"---\na: [\n---\n", "Invalid YAML"),
    ):
        with pytest.raises(ValueError, match=complaint):
            api_of(hub).create_commit("alice/pl", add({"README.md": card}), commit_message="card")


def test_private_repositories_are_not_there_for_others(hub: LoopbackHub, tmp_path: Path) -> None:
    filled(hub, visibility="private")
    for user in ("bob", None):
        with pytest.raises(RepositoryNotFoundError, match="40[14]"):
            api_of(hub, user).model_info("alice/pl")
        assert list(api_of(hub, user).list_models()) == []
    with pytest.raises(HfHubHTTPError, match="401"):
        HfApi(endpoint=hub.endpoint, token="hf_wrong").model_info("alice/pl")
    api_of(hub).update_repo_settings("alice/pl", visibility="public")
    assert api_of(hub, None).model_info("alice/pl").private is False
    with pytest.raises(HfHubHTTPError, match="403"):
        api_of(hub, "bob").create_tag("alice/pl", tag="v1")
    with pytest.raises(HfHubHTTPError, match="403"):
        api_of(hub, "reader").create_repo("reader/x")


def test_gated_repositories_open_for_those_who_were_let_in(hub: LoopbackHub, tmp_path: Path) -> None:
    filled(hub)
    api_of(hub).update_repo_settings("alice/pl", gated="manual")
    assert api_of(hub, None).model_info("alice/pl").gated == "manual"

    def fetch(user: str | None) -> bytes:
        token = hub.token(user) if user else False
        path = hf_hub_download(
            "alice/pl", "README.md", endpoint=hub.endpoint, token=token, cache_dir=tmp_path / f"{user}"
        )
        return Path(path).read_bytes()

    with pytest.raises(GatedRepoError, match="401"):
        fetch(None)
    with pytest.raises(GatedRepoError, match="403"):
        fetch("bob")
    hub.grant("alice/pl", "bob")
    assert fetch("bob") == fetch("alice") == CARD


def test_a_missing_file_says_which_commit_lacks_it(hub: LoopbackHub, tmp_path: Path) -> None:
    commit = filled(hub)
    with pytest.raises(RemoteEntryNotFoundError, match="404"):
        hf_hub_download("alice/pl", "absent", endpoint=hub.endpoint, cache_dir=tmp_path, token=False)
    assert (tmp_path / "models--alice--pl" / ".no_exist" / commit / "absent").exists()
    with pytest.raises(RevisionNotFoundError, match="404"):
        hf_hub_download(
            "alice/pl", "README.md", revision="v9", endpoint=hub.endpoint, cache_dir=tmp_path, token=False
        )
    with pytest.raises(BadRequestError, match="below a file"):
        api_of(hub).create_commit("alice/pl", add({"README.md/x": b""}), commit_message="below a file")
