"""To whom the user's token goes, and what is shown of an address with a password in it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from command_line import Run
from loopback_hub import LoopbackHub
from loopback_hub.answers import Answer
from making import make_artifact

from adapter_hub.hub import RepoId

REPO = "alice/plain"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LoopbackHub]:
    with LoopbackHub(tmp_path / "hub") as running:
        monkeypatch.setenv("HF_ENDPOINT", running.endpoint)
        monkeypatch.setenv("HF_TOKEN", running.token("alice"))
        monkeypatch.setenv("ADAPTER_HUB_RETRY_SECONDS", "0.05")
        monkeypatch.setenv("ADAPTER_HUB_CACHE", str(tmp_path / "cache"))
        running.create(REPO)
        running.write(
            REPO, {"config.json": b"{}", "generation_config.json": b"{}", "model.safetensors": b"x"}
        )
        yield running


@pytest.fixture
def stranger(tmp_path: Path) -> Iterator[LoopbackHub]:
    """Somebody else's server, who writes down what he is sent."""
    with LoopbackHub(tmp_path / "stranger") as running:
        yield running


def tokens(hub: LoopbackHub) -> list[str]:
    return [entry.path for entry in hub.log if "authorization" in entry.headers]


def command(hub: LoopbackHub, tmp_path: Path, *words: str, **more: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, **hub.environment("alice"), **more}
    return subprocess.run(
        [sys.executable, "-m", "adapter_hub", *words],
        env=environment, cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.mark.parametrize("endpoint", ["tree", "list"])
def test_a_list_that_goes_on_at_another_host_is_refused(
    hub: LoopbackHub, stranger: LoopbackHub, run: Run, endpoint: str
) -> None:
    def forge(answer: Answer) -> None:
        answer.headers["Link"] = f'<{stranger.endpoint}/api/models?cursor=1>; rel="next"'

    hub.faults.add("forge", endpoint=endpoint, times=None, forge=forge)
    outcome = run("base-model", "fetch", REPO) if endpoint == "tree" else run("search", "--limit", "5000")
    assert outcome.code == 1
    assert f"says that the list continues at {stranger.endpoint}" in outcome.err
    assert outcome.err.count("\n") == 1
    assert len(stranger.log) == 0


@pytest.mark.parametrize("endpoint", ["info", "tree", "resolve"])
def test_a_redirect_to_another_host_takes_no_token_along(
    hub: LoopbackHub, stranger: LoopbackHub, run: Run, endpoint: str
) -> None:
    def forge(answer: Answer) -> None:
        answer.status, answer.body, answer.file, answer.length = 302, b"", None, None
        answer.headers["Location"] = f"{stranger.endpoint}/x"

    hub.faults.add("forge", endpoint=endpoint, times=None, forge=forge)
    assert run("base-model", "fetch", REPO).code == 1
    assert len(stranger.log) > 0
    assert tokens(stranger) == []


@pytest.mark.parametrize(
    "target", ["file:///etc/passwd", "ftp://127.0.0.1/x", "//", "http://", "gopher:x", "x" * 9999]
)
def test_a_redirect_to_no_web_address_is_one_line(hub: LoopbackHub, run: Run, target: str) -> None:
    def forge(answer: Answer) -> None:
        answer.status, answer.body, answer.file, answer.length = 302, b"", None, None
        answer.headers["Location"] = target

    hub.faults.add("forge", endpoint="resolve", times=None, forge=forge)
    outcome = run("base-model", "fetch", REPO)
    assert outcome.code == 1
    assert outcome.err.startswith("error: ")
    assert outcome.err.count("\n") == 1


def test_an_upload_to_another_host_takes_no_token_along(
    hub: LoopbackHub, stranger: LoopbackHub, run: Run, tmp_path: Path
) -> None:
    def forge(answer: Answer) -> None:
        answer.body = answer.body.replace(hub.endpoint.encode(), stranger.endpoint.encode())

    make_artifact(tmp_path / "da", "alice/da")
    hub.faults.add("forge", endpoint="lfs-batch", times=None, forge=forge)
    outcome = run("--store", "hf://alice", "publish", "da")
    assert outcome.code == 1
    assert tokens(stranger) == []
    assert "Traceback" not in outcome.err


def test_over_a_plain_connection_the_token_is_kept_back_with_a_word(hub: LoopbackHub, tmp_path: Path) -> None:
    """The Hub is reached as hub.example through a proxy, which is this machine's."""
    plain = {"HF_ENDPOINT": "http://hub.example", "HTTP_PROXY": hub.endpoint, "http_proxy": hub.endpoint}
    plain |= {"NO_PROXY": "", "no_proxy": "", "ADAPTER_HUB_CACHE": str(tmp_path / "plain")}
    done = command(hub, tmp_path, "search", "--peft", **plain)
    assert len(hub.log) > 0  # a proxy works
    assert tokens(hub) == []
    assert done.stderr.count("your token is not sent to http://hub.example") == 1
    wanted = command(hub, tmp_path, "search", "--peft", **plain, ADAPTER_HUB_TOKEN_OVER_HTTP="1")
    assert tokens(hub)
    assert "your token" not in wanted.stderr


@pytest.mark.parametrize(
    "words",
    [
        ("base-model", "fetch", REPO),
        ("base-model", "fetch", "nobody/nothing"),
        ("pull", "hf://alice/absent"),
        ("search", "xyz"),
        ("--registry", "hf://datasets/alice/none", "list"),
        ("import", "hf://alice/plain", "--language", "da"),
    ],
)
@pytest.mark.parametrize("trouble", ["none", "down", "wrong-bytes", "status"])
def test_a_password_in_the_address_is_never_shown(
    hub: LoopbackHub, run: Run, words: tuple[str, ...], trouble: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", hub.endpoint.replace("://", "://eve:s3cret@"))
    if trouble == "down":
        hub.stop()
    elif trouble != "none":
        hub.faults.add(trouble, times=None)
    outcome = run(*words)
    assert "s3cret" not in outcome.err + outcome.out
    assert "Traceback" not in outcome.err


@pytest.mark.parametrize(
    "address",
    ["hub.example", "ftp://eve:s3cret@x", "http://", "https://a b", "http://x:99999", "file:///etc", "\x1b"],
)
def test_an_address_that_is_none_is_one_line(run: Run, monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setenv("HF_ENDPOINT", address)
    outcome = run("search")
    assert outcome.code == 1
    assert "expected the address of a Hub, like https://huggingface.co" in outcome.err
    assert "s3cret" not in outcome.err
    assert outcome.err.count("\n") == 1


def test_the_rest_of_the_program_keeps_its_own_connections(hub: LoopbackHub) -> None:
    from huggingface_hub import HfApi
    from huggingface_hub.utils import get_session

    from adapter_hub.hub import HubClient

    session = get_session()
    assert HubClient().state(RepoId(REPO)).id == REPO
    assert get_session() is session
    assert HfApi(hub.endpoint, token=hub.token("alice")).model_info(REPO).id == REPO
