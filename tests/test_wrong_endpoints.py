"""A wrong HF_ENDPOINT, a dead proxy: one line at once that blames the right one; no credentials anywhere."""

from __future__ import annotations

import os
import re
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from command_line import Run
from loopback_hub import LoopbackHub
from making import make_artifact

from adapter_hub.errors import InvalidInputError
from adapter_hub.hub import HubClient
from adapter_hub.hub.session import check_address, public

SECRET = "s3cret"
DEAD = "http://127.0.0.1:9"  # where nothing listens


class Page(BaseHTTPRequestHandler):
    """Answers everything like some web server that is no Hub."""

    def do_GET(self) -> None:
        server = self.server
        assert isinstance(server, Site)
        server.count += 1
        self.send_response(server.status)
        self.send_header("Content-Type", server.kind)
        self.send_header("Content-Length", str(len(server.body)))
        self.end_headers()
        self.wfile.write(server.body)

    def log_message(self, *_: object) -> None:
        """Keep quiet."""


class Site(ThreadingHTTPServer):
    """A web server that is no Hub, and how often it was asked."""

    status, kind, body, count = 200, "text/html", b"<html>hello</html>", 0

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server_port}"


@pytest.fixture
def site() -> Iterator[Site]:
    server = Site(("127.0.0.1", 0), Page)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture(autouse=True)
def _without_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("ADAPTER_HUB_RETRY_SECONDS", "60")
    huggingface_hub.close_session()  # a session keeps the proxies that it was made with


@pytest.mark.parametrize(
    ("status", "kind", "body", "message"),
    [
        (200, "text/html", b"<html></html>", "text/html where JSON is expected.*; correct HF_ENDPOINT"),
        (200, "application/json", b'{"hello": 1}', "malformed.*; correct HF_ENDPOINT"),
        (200, "application/json", b"[1, 2]", "malformed.*; correct HF_ENDPOINT"),
        (404, "text/html", b"<html></html>", "check HF_ENDPOINT and the name"),
    ],
)
@pytest.mark.parametrize("words", [("search",), ("base-model", "fetch", "openai/whisper-tiny")])
def test_a_server_that_is_no_hub_is_asked_a_few_times_and_named(
    site: Site, run: Run, monkeypatch: pytest.MonkeyPatch, status: int, kind: str, body: bytes, message: str,
    words: tuple[str, ...],
) -> None:  # fmt: skip
    site.status, site.kind, site.body = status, kind, body
    monkeypatch.setenv("HF_ENDPOINT", f"http://{site.address}")
    done = run(*words)
    assert done.code == 1
    assert re.search(f"error: .*http://{site.address}.*{message}", done.err)
    assert done.err.count("\n") == 1
    assert site.count <= 3


def test_a_server_without_tls_is_told_at_once(site: Site, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", f"https://{site.address}")
    done = run("search")
    assert re.search(f"error: .*https://{site.address} cannot be used .*; correct HF_ENDPOINT", done.err)
    assert done.err.count("\n") == 1  # no attempt was announced


def test_a_host_that_does_not_exist_is_told_at_once(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    try:
        socket.getaddrinfo("hub.invalid", 443)
    except socket.gaierror as error:
        if error.errno != socket.EAI_NONAME:
            pytest.skip("this machine cannot tell which hosts exist")
    monkeypatch.setenv("HF_ENDPOINT", "https://hub.invalid")
    done = run("search")
    assert re.search("https://hub.invalid cannot be used .*; correct HF_ENDPOINT", done.err)
    assert done.err.count("\n") == 1


@pytest.mark.parametrize("variable", ["HTTPS_PROXY", "https_proxy", "ALL_PROXY"])
@pytest.mark.parametrize(
    "proxy", [DEAD, f"http://eve:{SECRET}@127.0.0.1:9", "socks5://eve:s3cret@h", "x://s3cret@h"]
)
def test_a_proxy_that_cannot_be_used_is_blamed_itself(
    run: Run, monkeypatch: pytest.MonkeyPatch, variable: str, proxy: str
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "https://hub.invalid")
    monkeypatch.setenv(variable, proxy)
    monkeypatch.setenv("ADAPTER_HUB_RETRY_SECONDS", "0.01")
    done = run("search")
    assert done.code == 1
    shown = re.escape(public(proxy))
    pattern = f"error: .*the proxy {shown} cannot be used .*unset {variable}, or name hub.invalid in NO_PROXY"
    assert re.search(pattern, done.err)
    assert SECRET not in done.err
    assert "eve" not in done.err
    assert "https://hub.invalid cannot be used" not in done.err


def test_a_proxy_that_the_hub_does_not_go_through_is_not_blamed(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", DEAD)
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:10")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("ADAPTER_HUB_RETRY_SECONDS", "0.01")
    assert f"{DEAD} cannot be used" in run("search").err


@pytest.mark.parametrize(
    "address",
    [
        f"eve:{SECRET}@huggingface.co",
        f"https:/eve:{SECRET}@huggingface.co",
        f"https://eve:{SECRET}/x@huggingface.co",
        f"https://eve:{SECRET}@huggingface.co:port",
        f"https://huggingface.co/?token={SECRET}",
        f"https://huggingface.co/#{SECRET}",
        f"https://eve:{SECRET}@https://huggingface.co",
        f"//eve:{SECRET}@huggingface.co",
        f"https://eve@mail:{SECRET}@",
    ],
)
def test_an_address_that_is_none_is_shown_without_its_credentials(address: str) -> None:
    with pytest.raises(InvalidInputError, match="HF_ENDPOINT=.*: expected the address of a Hub") as caught:
        check_address(address)
    assert SECRET not in str(caught.value)
    assert "eve" not in str(caught.value)


def test_the_hub_is_told_which_version_asks(tmp_path: Path) -> None:
    with LoopbackHub(tmp_path / "hub") as hub:
        HubClient(hub.endpoint, hub.token("alice")).search()
        agent = hub.log.entries()[-1].headers["user-agent"]
    assert re.match(r"adapter-hub/(\d+\.\d+|checkout)", agent)
    assert "None" not in agent


def test_credentials_of_the_endpoint_are_stored_nowhere(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    with LoopbackHub(tmp_path_factory.mktemp("server") / "hub") as hub:
        secret = hub.token("alice")
        monkeypatch.setenv("HF_ENDPOINT", hub.endpoint.replace("://", f"://alice:{secret}@"))
        monkeypatch.setenv("HF_TOKEN", secret)  # for addresses in answers, which have no password
        monkeypatch.setenv("ADAPTER_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setenv("HOME", str(tmp_path / "home"))
        hub.create("alice/base")
        hub.write("alice/base", {"config.json": b"{}"})
        make_artifact(tmp_path / "da", "alice/da")
        shared = ("--registry", "hf://datasets/alice/registry")
        said = [
            run(*shared, "--store", "hf://alice", "publish", "./da"),
            run(*shared, "list"),
            run(*shared, "pull", "alice/da"),
            run("pull", "hf://alice/da"),
            run(*shared, "lock", "alice/da"),
            run(*shared, "audit", "alice/da"),
            run("base-model", "fetch", "alice/base"),
            run("search", "--json"),
        ]
    assert [outcome.err for outcome in said[:5] if outcome.code] == []
    assert not any(secret in outcome.out + outcome.err for outcome in said)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) > 10
    assert [path for path in files if secret.encode() in path.read_bytes()] == []
