"""Do the faults, hooks, attacks and restarts of the loopback Hub do what other tests count on?"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import CommitOperationAdd, HfApi, hf_hub_download
from huggingface_hub.errors import HfHubHTTPError, RemoteEntryNotFoundError
from loopback_hub import ALL, ENDPOINTS, Entry, LoopbackHub
from loopback_hub.dispatch import HANDLERS

from adapter_hub.hub.session import http_library

httpx = http_library()

SOME = bytes(range(256)) * 400

pytestmark = pytest.mark.usefixtures("plain_http")


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[LoopbackHub]:
    with LoopbackHub(tmp_path / "hub") as running:
        running.create("alice/pl")
        running.write("alice/pl", {"some.txt": SOME})
        yield running


@pytest.fixture
def client(hub: LoopbackHub) -> Iterator[httpx.Client]:
    headers = {"Authorization": f"Bearer {hub.token()}"}
    with httpx.Client(base_url=hub.endpoint, headers=headers, timeout=10) as one:
        yield one


FILE = "/alice/pl/resolve/main/some.txt"


def api_of(hub: LoopbackHub) -> HfApi:
    return HfApi(endpoint=hub.endpoint, token=hub.token())


@pytest.mark.parametrize("status", [429, 500, 502, 503])
def test_a_status_is_answered_as_often_as_asked(hub: LoopbackHub, client: httpx.Client, status: int) -> None:
    fault = hub.faults.add("status", endpoint="refs", status=status, retry_after=3, times=2, after=1)
    answers = [client.get("/api/models/alice/pl/refs") for _ in range(4)]
    assert [answer.status_code for answer in answers] == [200, status, status, 200]
    assert answers[1].headers["Retry-After"] == "3"
    assert answers[1].text.startswith("<html>") == (status == 502)
    assert (fault.seen, fault.fired) == (4, 2)
    assert hub.log.count(endpoint="refs", status=status) == 2


@pytest.mark.parametrize(("kind", "carried_out"), [("drop", False), ("lose", True)])
def test_an_answer_is_lost_before_or_after_the_work(
    hub: LoopbackHub, client: httpx.Client, kind: str, carried_out: bool
) -> None:
    hub.faults.add(kind, "POST", "/tag/")
    with pytest.raises(httpx.RemoteProtocolError, match="disconnected"):
        client.post("/api/models/alice/pl/tag/main", json={"tag": "v1"})
    assert ("v1" in hub.refs("alice/pl").tags) == carried_out
    assert hub.log.count("POST", "/tag/", status=0) == 1


def test_a_body_ends_early_or_is_reset(hub: LoopbackHub, client: httpx.Client) -> None:
    hub.faults.add("truncate", path="some.txt")
    with pytest.raises(httpx.RemoteProtocolError, match="without sending complete message body"):
        client.get(FILE)
    hub.faults.add("reset", path="some.txt")
    with pytest.raises(httpx.ReadError, match="reset"):
        client.get(FILE)
    assert client.get(FILE).content == SOME


def test_other_bytes_of_the_same_size_are_cached_by_the_client(hub: LoopbackHub, tmp_path: Path) -> None:
    hub.faults.add("wrong-bytes", "GET", "some.txt")
    for _ in range(2):  # this is why everything that lands has to be hashed
        path = hf_hub_download("alice/pl", "some.txt", endpoint=hub.endpoint, cache_dir=tmp_path, token=False)
        assert len(Path(path).read_bytes()) == len(SOME)
        assert Path(path).read_bytes() != SOME


@pytest.mark.parametrize("kind", ["stall", "stall-body"])
def test_a_stalled_server_says_nothing_and_then_hangs_up(
    hub: LoopbackHub, client: httpx.Client, kind: str
) -> None:
    hub.faults.add(kind, path="some.txt", seconds=30, times=None)
    with pytest.raises(httpx.ReadTimeout, match="timed out"):
        client.get(FILE, timeout=0.2)
    started = time.monotonic()
    hub.stop()
    assert time.monotonic() - started < 5  # a stalled answer does not hold the server up


def test_refs_are_stale_for_a_while(hub: LoopbackHub, client: httpx.Client) -> None:
    old = hub.refs("alice/pl").branches["main"]
    new = hub.write("alice/pl", {"more.txt": b"1"})
    hub.move_tag("alice/pl", "v1", new)
    hub.faults.add("stale", endpoint="refs", changes=2)
    assert client.get("/api/models/alice/pl/refs").json()["tags"] == []
    hub.faults.add("stale", endpoint="info", changes=2)
    assert client.get("/api/models/alice/pl").json()["sha"] == old
    assert client.get("/api/models/alice/pl").json()["sha"] == new


def test_a_tag_moves_between_two_calls(hub: LoopbackHub, client: httpx.Client) -> None:
    first, second = hub.refs("alice/pl").branches["main"], hub.write("alice/pl", {"more.txt": b"1"})
    hub.move_tag("alice/pl", "v1", first)
    hub.faults.add("after", endpoint="refs", action=lambda: hub.move_tag("alice/pl", "v1", second))
    targets = [
        client.get("/api/models/alice/pl/refs").json()["tags"][0]["targetCommit"],
        client.get("/api/models/alice/pl/revision/v1").json()["sha"],
    ]
    assert targets == [first, second]


def test_every_exchange_is_seen_before_and_after_it_is_carried_out(
    hub: LoopbackHub, client: httpx.Client
) -> None:
    seen: list[tuple[str, str, int | None, bool]] = []

    def watch(phase: str, entry: Entry) -> None:
        seen.append((phase, entry.endpoint, entry.status, "v1" in hub.refs("alice/pl").tags))

    end = hub.on_exchange(watch)
    client.post("/api/models/alice/pl/tag/main", json={"tag": "v1"})
    client.get("/nowhere")
    wait_until(lambda: len(seen) == 6)  # "answered" comes when the client has the answer already
    end()
    client.get("/nowhere")
    assert seen[:3] == [
        ("received", "create-tag", None, False),
        ("processed", "create-tag", 200, True),
        ("answered", "create-tag", 200, True),
    ]
    assert hub.log.count(status=404) == 2


def wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


def test_rotten_contents_stay_rotten(hub: LoopbackHub, client: httpx.Client) -> None:
    hub.corrupt("alice/pl", "some.txt")
    assert client.get(FILE).content not in (SOME, b"")
    assert len(client.get(FILE).content) == len(SOME)
    assert hub.files("alice/pl")["some.txt"] != SOME


def test_a_repository_made_anew_is_another_one(hub: LoopbackHub) -> None:
    before = api_of(hub).model_info("alice/pl")
    hub.recreate("alice/pl")
    after = api_of(hub).model_info("alice/pl")
    assert before._id != after._id  # type: ignore[attr-defined]
    assert before.created_at < after.created_at
    assert before.sha != after.sha
    assert list(hub.files("alice/pl")) == [".gitattributes"]


def test_a_moved_repository_is_found_under_its_old_name(hub: LoopbackHub, tmp_path: Path) -> None:
    api_of(hub).move_repo("alice/pl", "mini/pl")
    assert api_of(hub).model_info("alice/pl").id == "mini/pl"
    assert hub.log.count("GET", "/api/models/alice/pl$", status=307) == 1
    path = hf_hub_download("alice/pl", "some.txt", endpoint=hub.endpoint, cache_dir=tmp_path, token=False)
    assert Path(path).read_bytes() == SOME
    hub.create("alice/pl")  # somebody else takes the free name: nothing redirects any more
    assert api_of(hub).model_info("alice/pl").id == "alice/pl"


@pytest.mark.parametrize("rewrite", [False, True])
def test_lfs_contents_are_deleted_for_ever(hub: LoopbackHub, tmp_path: Path, rewrite: bool) -> None:
    api = api_of(hub)
    operations: list[Any] = [CommitOperationAdd("w.safetensors", SOME)]
    commit = api.create_commit("alice/pl", operations, commit_message="weights").oid
    api.create_tag("alice/pl", tag="v1", revision=commit)
    (file,) = api.list_lfs_files("alice/pl")
    assert (file.filename, file.size) == ("w.safetensors", len(SOME))
    api.permanently_delete_lfs_files("alice/pl", [file], rewrite_history=rewrite)
    assert list(api.list_lfs_files("alice/pl")) == []
    names = {item.path for item in api.list_repo_tree("alice/pl", revision="v1")}
    assert ("w.safetensors" in names) != rewrite
    assert (hub.refs("alice/pl").tags["v1"] == commit) != rewrite
    with pytest.raises((HfHubHTTPError, RemoteEntryNotFoundError), match="404"):
        hf_hub_download("alice/pl", "w.safetensors", endpoint=hub.endpoint, cache_dir=tmp_path, token=False)


def test_history_squashed_to_one_commit(hub: LoopbackHub) -> None:
    api_of(hub).super_squash_history("alice/pl")
    assert len(api_of(hub).list_repo_commits("alice/pl")) == 1
    assert hub.files("alice/pl")["some.txt"] == SOME
    assert hub.collect_garbage("alice/pl") == 2


def test_all_is_still_there_after_a_stop_and_a_start(hub: LoopbackHub, client: httpx.Client) -> None:
    api_of(hub).create_tag("alice/pl", tag="v1")
    api_of(hub).create_repo("alice/registry", repo_type="dataset", private=True)
    before, token = api_of(hub).model_info("alice/pl", files_metadata=True), hub.token("somebody")
    port = hub.port
    assert client.get(FILE).status_code == 200  # a connection that stays open
    hub.stop()
    with pytest.raises(httpx.TransportError, match="refused|disconnected|reset"):
        client.get(FILE)
    hub.start(port)
    assert hub.port == port
    assert client.get(FILE).content == SOME
    assert api_of(hub).model_info("alice/pl", files_metadata=True) == before
    assert hub.refs("alice/pl").tags == {"v1": before.sha}
    assert HfApi(endpoint=hub.endpoint, token=token).whoami()["name"] == "somebody"
    assert api_of(hub).dataset_info("alice/registry").private is True


def test_every_endpoint_has_somebody_who_answers() -> None:
    assert {endpoint.name for endpoint in ALL} == set(HANDLERS)
    assert {"commit", "refs", "tree", "lfs-upload", "create-tag", "resolve"} < {one.name for one in ENDPOINTS}


def test_it_can_be_run_by_hand(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "loopback_hub", str(tmp_path / "hub")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parent) as process:
        try:
            assert process.stdout is not None
            lines = [process.stdout.readline().strip() for _ in range(2)]
            exported = dict(line.removeprefix("export ").split("=", 1) for line in lines)
            api = HfApi(endpoint=exported["HF_ENDPOINT"], token=exported["HF_TOKEN"])
            assert api.whoami()["name"] == "alice"
        finally:
            process.terminate()
