"""A server in use: who may ask how much, clients that vanish or send nonsense, and how it stops."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import logging
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import openai
import pytest
import soundfile
from running_server import CLIPS, Serving, serving

import adapter_hub
from adapter_hub.cli import main
from adapter_hub.errors import InvalidInputError, NotFoundError
from adapter_hub.exchange import Places, publish, pull, retire
from adapter_hub.formats.reference import AdapterRef
from adapter_hub.serving.access_log import LOGGER
from adapter_hub.serving.keys import Keys
from adapter_hub.serving.options import ServingOptions, parse_aliases
from adapter_hub.serving.server import Server, is_loopback
from adapter_hub.serving.uploads import PREFIX, UploadFolder
from adapter_hub.speech.audio import read_audio

DANISH = CLIPS / "da.flac"
SECRET, OTHER = "sk-alice-0123456789", "sk-bob-9876543210"
BOUNDARY = "xxboundaryxx"


@pytest.fixture(scope="module")
def keyed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """A server with two keys and narrow limits, whose registry can be written."""
    folder = tmp_path_factory.mktemp("keyed")
    places = Places(str(folder / "registry.json"), folder / "store", cache=folder / "cache")
    publish(pull("mini/pt", places).path, places)
    (folder / "keys").write_text(f"# who may ask\nalice {SECRET}\n\n{OTHER}\n")
    with serving(
        folder,
        registry=str(folder / "registry.json"),
        models=("mini/da",),
        api_key_file=folder / "keys",
        max_queue=4,
        max_per_key=2,
        max_upload=2.0,
        max_seconds=60.0,
        timeout=20.0,
        refresh=0.3,
    ) as running:
        yield running


@pytest.fixture
def alice(keyed: Serving) -> openai.OpenAI:
    return keyed.client(SECRET)


def form(*parts: tuple[str, bytes] | tuple[str, bytes, str], end: bool = True) -> bytes:
    """Return a form; a part with a third word is a file of that name."""
    body = b""
    for name, value, *file in parts:
        of_file = f'; filename="{file[0]}"' if file else ""
        head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"{of_file}\r\n\r\n'
        body += head.encode() + value + b"\r\n"
    return body + (f"--{BOUNDARY}--\r\n".encode() if end else b"")


def recording(model: str = "mini/da", audio: bytes | None = None) -> bytes:
    content = DANISH.read_bytes() if audio is None else audio
    return form(("model", model.encode()), ("file", content, "a.flac"))


class Raw:
    """A connection that sends what it likes, when it likes."""

    def __init__(self, server: Serving, key: str | None = SECRET) -> None:
        place = urlsplit(server.url)
        self.socket = socket.create_connection((place.hostname, place.port), timeout=20)
        self.key = key

    def begin(self, length: int, path: str = "/v1/audio/transcriptions", kind: str = "") -> None:
        words = [
            f"POST {path} HTTP/1.1",
            "Host: x",
            f"Content-Length: {length}",
            f"Content-Type: {kind or f'multipart/form-data; boundary={BOUNDARY}'}",
            *([f"Authorization: Bearer {self.key}"] if self.key else []),
        ]
        self.socket.sendall("\r\n".join([*words, "", ""]).encode("latin-1"))

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def answer(self) -> tuple[int, dict[str, str], Any]:
        """Return the status, the headers and the JSON of the answer."""
        with contextlib.closing(http.client.HTTPResponse(self.socket)) as response:
            response.begin()
            body = response.read()
            headers = {name.lower(): value for name, value in response.headers.items()}
        return response.status, headers, json.loads(body) if body else None

    def close(self) -> None:
        self.socket.close()


def ask(server: Serving, body: bytes, key: str | None = SECRET) -> tuple[int, dict[str, str], Any]:
    raw = Raw(server, key)
    try:
        raw.begin(len(body))
        raw.send(body)
        return raw.answer()
    finally:
        raw.close()


def get(server: Serving, path: str, key: str | None = SECRET) -> tuple[int, bytes]:
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    try:
        with urllib.request.urlopen(urllib.request.Request(f"{server.url}{path}", headers=headers)) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


def eventually(holds: Callable[[], bool], seconds: float = 15.0) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def nothing_is_left(server: Serving) -> bool:
    """Tell whether no request is open, none is computed, and no file of one is on the disk."""
    files = [path for path in server.service.uploads.folder.iterdir() if path.name != "lock"]
    return not (files or server.service.admission.held or server.service.engine.statistics().jobs)


# --- keys


def test_only_those_with_a_key_are_let_in(keyed: Serving) -> None:
    for key in ("wrong", "", SECRET + "x"):
        with pytest.raises(openai.AuthenticationError, match="API key") as raised:
            keyed.client(key or "none").models.list()
        assert SECRET not in str(raised.value)
    assert [get(keyed, path, None)[0] for path in ("/", "/health", "/ready")] == [200, 200, 200]
    assert [get(keyed, path, None)[0] for path in ("/v1/models", "/metrics", "/v1/x")] == [401, 401, 401]
    assert get(keyed, "/v1/models", OTHER)[0] == 200
    assert ask(keyed, recording(), None)[0] == 401


def test_a_file_of_keys_is_read_line_by_line(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text(f"alice {SECRET}\n# nobody\n{OTHER}\n")
    keys = Keys.read(path)
    assert keys.owner(f"Bearer {SECRET}") == "alice"
    assert keys.owner(f"bearer {OTHER}") == "key-3"
    assert [keys.owner(text) for text in (None, "", SECRET, f"Basic {SECRET}", "Bearer ")] == [None] * 5
    for text in ("", "# only\n", "a b c\n", "alice 1\nalice 2\n", "schlüssel\n"):
        path.write_text(text, encoding="utf-8")
        with pytest.raises(InvalidInputError, match="key"):
            Keys.read(path)


def test_a_page_of_another_server_may_ask_only_if_it_was_named(tmp_path: Path) -> None:
    def asked(server: Serving, origin: str) -> tuple[int, str | None]:
        wish = urllib.request.Request(f"{server.url}/v1/models", headers={"Origin": origin})
        try:
            with urllib.request.urlopen(wish) as answer:
                return answer.status, answer.headers["access-control-allow-origin"]
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.headers["access-control-allow-origin"]

    with serving(tmp_path, models=("base-model",), allow_origins=("https://app.example",)) as server:
        assert asked(server, server.url)[0] == 200
        assert asked(server, "https://app.example") == (200, "https://app.example")
        assert asked(server, "https://evil.example") == (403, None)


# --- limits


def test_what_is_too_large_is_refused_before_it_is_all_there(keyed: Serving) -> None:
    raw = Raw(keyed)
    raw.begin(10**9)
    status, headers, answer = raw.answer()  # nothing of it was sent
    assert (status, answer["error"]["code"]) == (413, "file_too_large")
    assert headers["connection"] == "close"
    raw.close()
    with pytest.raises(openai.APIStatusError, match="2 MB") as raised:
        keyed.client(SECRET).audio.transcriptions.create(model="mini/da", file=("a.wav", bytes(3 * 10**6)))
    assert raised.value.status_code == 413


def test_a_body_without_a_length_is_counted(keyed: Serving) -> None:
    raw = Raw(keyed)
    head = f"POST /v1/audio/transcriptions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {SECRET}\r\n"
    kind = f"Content-Type: multipart/form-data; boundary={BOUNDARY}\r\nTransfer-Encoding: chunked\r\n\r\n"
    raw.send((head + kind).encode())
    start = form(("file", b"", "a.wav"), end=False)[:-2]
    with contextlib.suppress(ConnectionError):
        for piece in (start, *[bytes(2**16)] * 40):
            raw.send(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
    assert raw.answer()[0] == 413
    raw.close()


def test_audio_that_is_too_long_is_refused(alice: openai.OpenAI, tmp_path: Path) -> None:
    path = tmp_path / "long.flac"
    soundfile.write(path, np.zeros(16_000 * 61, dtype=np.int16), 16_000)
    with pytest.raises(openai.BadRequestError, match=r"long\.flac: 61\.0 s.*60 s") as raised:
        alice.audio.transcriptions.create(model="mini/da", file=path)
    assert raised.value.code == "audio_too_long"


def test_more_requests_than_one_may_have_and_than_all_may_have_are_told_to_wait(keyed: Serving) -> None:
    waiting = [Raw(keyed, key) for key in (SECRET, SECRET, OTHER, OTHER)]
    for raw in waiting[:2]:
        raw.begin(10**6)
    eventually(lambda: keyed.service.admission.held == 2)
    status, headers, answer = ask(keyed, recording())
    assert (status, answer["error"]["type"]) == (429, "rate_limit_error")
    assert int(headers["retry-after"]) >= 1
    assert "of yours" in answer["error"]["message"]
    for raw in waiting[2:]:
        raw.begin(10**6)
    eventually(lambda: keyed.service.admission.held == 4)
    with pytest.raises(openai.RateLimitError, match="wait already"):
        keyed.client(OTHER).audio.transcriptions.create(model="mini/da", file=DANISH)
    for raw in waiting:
        raw.close()
    eventually(lambda: nothing_is_left(keyed))


def test_a_client_that_sends_nothing_any_more_is_given_up(
    keyed: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keyed.service, "options", replace(keyed.service.options, timeout=0.5))
    raw = Raw(keyed)
    raw.begin(10**6)
    raw.send(recording()[:1000])
    status, _, answer = raw.answer()
    assert (status, answer["error"]["code"]) == (408, "timeout")
    raw.close()
    eventually(lambda: nothing_is_left(keyed))


def test_a_connection_on_which_no_request_comes_is_closed(
    keyed: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keyed.service, "options", replace(keyed.service.options, timeout=0.3))
    silent, slow = Raw(keyed), Raw(keyed)
    slow.send(b"POST /v1/audio/tra")
    assert [raw.socket.recv(1) for raw in (silent, slow)] == [b"", b""]
    silent.close()
    slow.close()


def test_a_client_that_goes_away_takes_its_work_along(keyed: Serving) -> None:
    samples = np.tile(read_audio(DANISH).samples, 30)
    path = keyed.service.uploads.folder.parent / f"{PREFIX}long.flac"
    soundfile.write(path, samples, 16_000)
    body = recording(audio=path.read_bytes())
    path.unlink()
    raw = Raw(keyed)
    raw.begin(len(body))
    raw.send(body)
    eventually(lambda: keyed.service.engine.statistics().jobs == 1)
    raw.close()
    eventually(lambda: nothing_is_left(keyed))
    assert keyed.service.engine.statistics().cancelled >= 1


# --- nonsense

TYPES = ("", "application/json", "multipart/form-data", "multipart/form-data; boundary=", "text/plain")
VALUES = (b"", b"\0", b"\xff\xfe", b"nan", b"-1", b"1e999", b"true", b"../../etc/passwd", b"'", b"x" * 70_000)
FIELDS = (
    "model",
    "language",
    "prompt",
    "response_format",
    "temperature",
    "timestamp_granularities[]",
    "stream",
    "file",
    "",
    "\u0000",
    "model[]",
)


def nonsense(random: Random) -> tuple[bytes, str]:
    """Return a body that is wrong in some way, and its type."""
    audio = bytearray(DANISH.read_bytes())
    for _ in range(random.choice((0, 0, 1, 30))):
        audio[random.randrange(len(audio))] = random.randrange(256)
    if random.random() < 0.5:
        del audio[random.randrange(len(audio)) :]
    parts: list[Any] = [("file", bytes(audio), random.choice(("a.flac", "", "\r\n", "a\\b", "x" * 900)))]
    if random.random() < 0.8:
        parts.append(("model", random.choice((b"mini/da", b"auto", b"mini/dx", b"hf://a/b", b"/", *VALUES))))
    for _ in range(random.randrange(4)):
        parts.append((random.choice(FIELDS), random.choice(VALUES)))
    random.shuffle(parts)
    body = bytearray(form(*parts, end=random.random() < 0.9))
    for _ in range(random.choice((0, 0, 0, 5))):
        body[random.randrange(min(len(body), 400))] = random.randrange(256)
    return bytes(body), random.choice(TYPES) if random.random() < 0.1 else ""


def send_nonsense(server: Serving, seed: int) -> int:
    body, kind = nonsense(Random(seed))
    raw = Raw(server)
    try:
        raw.begin(len(body), kind=kind)
        raw.send(body)
        status, _, answer = raw.answer()
    finally:
        raw.close()
    assert status < 500, (seed, answer)
    if status != 200:
        assert answer["error"]["message"]
        assert tempfile.gettempdir() not in answer["error"]["message"]
    return status


def check_nonsense(server: Serving, seeds: range) -> None:
    found = {send_nonsense(server, seed) for seed in seeds}
    assert 400 in found
    assert found <= {200, 400, 404, 408, 413}
    eventually(lambda: nothing_is_left(server))
    assert server.client(SECRET).audio.transcriptions.create(model="mini/da", file=DANISH).text


def test_nonsense_is_an_error_of_whoever_sent_it(keyed: Serving) -> None:
    check_nonsense(keyed, range(60))


@pytest.mark.slow
def test_much_nonsense_is_an_error_of_whoever_sent_it(keyed: Serving) -> None:
    check_nonsense(keyed, range(60, 1060))


def test_forms_without_an_end_or_a_name_are_malformed(keyed: Serving) -> None:
    bodies = {
        b"": "malformed",
        form(("model", b"mini/da"), end=False): "malformed",
        f"--{BOUNDARY}\r\n\r\nx\r\n--{BOUNDARY}--\r\n".encode(): "no name",
        form(("model", b"mini/da"), ("file", b"x", "a"), ("file", b"x", "b")): "several files",
        form(*[(f"f{number}", b"") for number in range(70)]): "more than",
        form(("model", b"mini/da"), ("model", b"mini/pl"), ("file", b"x", "a")): "2 times",
        form(("model", b"mini/da"), ("file", b"in text")): "no recording",
        form(("file", b"x", "a")): "no model",
        form(*[("x" * 3000, b"") for _ in range(30)]): "headers",
    }
    for body, expected in bodies.items():
        status, _, answer = ask(keyed, body)
        assert status == 400
        assert expected in answer["error"]["message"]


def test_other_routes_and_methods_are_errors_of_the_same_kind(keyed: Serving) -> None:
    for path, status in (("/v1/chat/completions", 404), ("/v1/audio/transcriptions", 405), ("/x", 404)):
        code, body = get(keyed, path)
        assert code == status
        assert json.loads(body)["error"]["type"] == "invalid_request_error"


# --- what is noticed, counted and written down


def test_a_quarantine_is_noticed_while_it_runs(keyed: Serving, alice: openai.OpenAI) -> None:
    assert alice.audio.transcriptions.create(model="mini/pt", file=DANISH).text is not None
    places = Places(
        keyed.service.options.registry, Path(keyed.service.options.registry or "").parent / "store"
    )
    retire(AdapterRef.parse("mini/pt@1.0.0"), "quarantined", "it learnt from noise", places)

    def is_listed() -> bool:
        return "mini/pt" in {model.id for model in alice.models.list()}

    eventually(lambda: not is_listed())
    for model in ("mini/pt", "mini/pt@1.0.0"):
        with pytest.raises(openai.NotFoundError, match=r"quarantined \(it learnt from noise\)") as raised:
            alice.audio.transcriptions.create(model=model, file=DANISH)
        assert raised.value.code == "model_retired"
    assert alice.audio.transcriptions.create(model="mini/da", file=DANISH).text


def test_requests_audio_and_adapters_are_counted(keyed: Serving, alice: openai.OpenAI) -> None:
    alice.audio.transcriptions.create(model="mini/da", file=DANISH)
    text = get(keyed, "/metrics")[1].decode()
    for line in (
        'adapter_hub_requests_total{route="transcriptions",status="200"}',
        'adapter_hub_audio_seconds_total{adapter="mini/da@1.0.0"}',
        'adapter_hub_real_time_factor_count{adapter="mini/da@1.0.0"}',
        'adapter_hub_resident_bytes{adapter="mini/da@1.0.0"}',
        "adapter_hub_batch_fill",
        "adapter_hub_windows_waiting",
        "adapter_hub_requests_open",
    ):
        assert line in text
    assert SECRET not in text


def test_the_log_says_who_asked_for_what_and_nothing_that_was_said(
    keyed: Serving, alice: openai.OpenAI, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, LOGGER.name)
    said = alice.audio.transcriptions.create(
        model="mini/da", file=("interview with eve.flac", DANISH.read_bytes()), prompt="a secret name"
    ).text
    eventually(lambda: bool(caplog.messages))
    line = json.loads(caplog.messages[-1])
    assert (line["client"], line["route"], line["status"]) == ("alice", "transcriptions", 200)
    assert (line["model"], line["adapter"]) == ("mini/da", "mini/da@1.0.0")
    assert line["audio_seconds"] == pytest.approx(1.687, abs=0.01)
    for secret in (said, "eve", "secret", SECRET):
        assert secret not in caplog.text


# --- starting and stopping


def test_one_base_model_is_served_and_another_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no such adapter"), serving(tmp_path, models=("mini/nope",)):
        pass


def test_only_what_was_named_is_served_on_request(tmp_path: Path) -> None:
    with serving(tmp_path, only=True, models=("mini/da", "mini/pl*0.5+mini/it*0.5")) as server:
        client = server.client()
        names = {model.id for model in client.models.list()}
        assert names == {"whisper-1", "danish", "mini/da", "mini/pl*0.5+mini/it*0.5"}
        with pytest.raises(openai.NotFoundError, match="not served"):
            client.audio.transcriptions.create(model="mini/pl", file=DANISH)
        blend = client.audio.transcriptions.create(
            model="mini/pl*0.5+mini/it*0.5", file=DANISH, language="pl"
        )
        offline = adapter_hub.load("mini/pl*0.5+mini/it*0.5", language="pl").transcribe(DANISH)
        assert blend.text == offline[0].text


def test_a_server_that_stops_finishes_what_it_has_accepted_and_refuses_the_rest(tmp_path: Path) -> None:
    body = recording()
    with serving(tmp_path, models=("mini/da",)) as server:
        accepted, late = [Raw(server, None) for _ in range(8)], Raw(server, None)
        for raw in accepted:
            raw.begin(len(body))
            raw.send(body[:5000])
        eventually(lambda: server.service.admission.held == 8)
        server.server.stop()
        late.begin(len(body))
        late.send(body)
        status, headers, answer = late.answer()
        assert (status, answer["error"]["code"], "retry-after" in headers) == (503, "stopping", True)
        assert get(server, "/ready")[0] == 503
        for raw in accepted:
            raw.send(body[5000:])
        texts = {raw.answer()[2]["text"] for raw in accepted}
        assert texts == {adapter_hub.load("mini/da").transcribe(DANISH)[0].text}
        for raw in (*accepted, late):
            raw.close()
    assert not server.service.uploads.folder.exists()


def test_an_address_of_others_needs_keys_or_a_word(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", "--host", "0.0.0.0", "--port", "0"]) == 1
    assert "--api-key-file" in capsys.readouterr().err
    assert [is_loopback(host) for host in ("127.0.0.1", "127.9.9.9", "::1", "[::1]", "localhost")] == [
        True
    ] * 5
    assert [is_loopback(host) for host in ("0.0.0.0", "::", "10.0.0.1", "example.com")] == [False] * 4


def test_a_port_that_is_taken_is_one_line_before_anything_is_loaded(
    capsys: pytest.CaptureFixture[str],
) -> None:
    taken = Server.bound("127.0.0.1", 0).listener
    taken.listen()
    port = taken.getsockname()[1]
    assert main(["serve", "--port", str(port)]) == 1
    assert capsys.readouterr().err.splitlines() == [
        f"error: port {port} of 127.0.0.1 is taken by another program; choose another with --port"
    ]
    taken.close()


def test_options_come_from_variables_too(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, text in {
        "MODELS": "mini/da, auto",
        "ALIASES": "whisper-1=auto",
        "ONLY": "1",
        "REFRESH": "5",
    }.items():
        monkeypatch.setenv(f"ADAPTER_HUB_SERVE_{name}", text)
    found = ServingOptions.from_environment()
    assert (found.models, found.aliases, found.only, found.refresh) == (
        ("mini/da", "auto"),
        {"whisper-1": "auto"},
        True,
        5.0,
    )
    monkeypatch.setenv("ADAPTER_HUB_SERVE_BATCH_SIZE", "many")
    with pytest.raises(InvalidInputError, match="BATCH_SIZE=many: expected a whole number"):
        ServingOptions.from_environment()
    for text in ("x", "=auto", "x=", "auto=mini/da", "a b=auto"):
        with pytest.raises(InvalidInputError, match="alias"):
            parse_aliases([text])


def test_the_application_runs_in_any_server_that_speaks_asgi(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ADAPTER_HUB_SERVE_MODELS", "base-model")
    monkeypatch.setenv("ADAPTER_HUB_SERVE_CACHE", str(tmp_path))
    from adapter_hub.serving import app

    async def ready() -> list[Any]:
        sent: list[Any] = []

        async def receive() -> Any:
            return {"type": "http.request", "body": b""}

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {"type": "http", "method": "GET", "path": "/ready", "headers": [], "query_string": b""}
        async with app.router.lifespan_context(app):
            await app(scope, receive, send)
        return sent

    assert [message.get("status") for message in asyncio.run(ready())] == [200, None]


def test_what_a_killed_server_had_received_is_removed_by_the_next_one() -> None:
    left = Path(tempfile.mkdtemp(prefix=PREFIX))
    (left / "lock").touch()
    (left / "recording").write_bytes(b"x")
    running = UploadFolder()
    other = UploadFolder()
    assert not left.exists()
    assert running.folder.exists()
    assert running.folder.stat().st_mode & 0o777 == 0o700
    running.close()
    other.close()
    assert not running.folder.exists()


@contextlib.contextmanager
def process(*words: str) -> Iterator[tuple[subprocess.Popen[str], Serving]]:
    """Run the command in a process of its own, on a free port."""
    command = [sys.executable, "-m", "adapter_hub", "serve", "--port", "0", "--json", *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as running:
        assert running.stdout is not None
        text = ""
        while not text.endswith("}\n"):
            line = running.stdout.readline()
            assert line
            text += line
        try:
            yield running, Serving(json.loads(text)["url"], None, [], None)  # type: ignore[arg-type]
        finally:
            running.kill()


@pytest.mark.slow
def test_a_signal_under_load_loses_no_request_that_was_accepted() -> None:
    expected = adapter_hub.load("mini/da").transcribe(DANISH)[0].text
    with process("mini/da", "--max-per-key", "128") as (running, server), ThreadPoolExecutor(64) as pool:
        asked = [pool.submit(ask, server, recording(), None) for _ in range(64)]
        time.sleep(1.0)
        running.send_signal(signal.SIGTERM)
        answers = []
        for job in asked:
            with contextlib.suppress(ConnectionError, http.client.HTTPException):
                answers.append(job.result())
        assert running.wait(60) == 0
    assert {status for status, _, _ in answers} <= {200, 503}
    assert {answer["text"] for status, _, answer in answers if status == 200} == {expected}
    assert len(answers) == 64  # none was dropped without an answer


@pytest.mark.slow
def test_a_server_that_is_killed_starts_again_where_it_was() -> None:
    before = set(Path(tempfile.gettempdir()).glob(f"{PREFIX}*"))
    with process("mini/da") as (running, server):
        raw = Raw(server, None)
        raw.begin(10**6)
        raw.send(recording()[:5000])
        time.sleep(0.5)
        left = set(Path(tempfile.gettempdir()).glob(f"{PREFIX}*")) - before
        running.kill()
        running.wait()
        raw.close()
    assert left
    with process("mini/da") as (running, server):
        assert ask(server, recording(), None)[0] == 200
        assert not any(folder.exists() for folder in left)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_two_thousand_mixed_requests_are_each_the_offline_answer(tmp_path: Path) -> None:
    clips = [CLIPS / "da.flac", CLIPS / "pl.flac"]
    models = ["mini/da", "mini/pl", "mini/it", "mini/da-pair", "auto", "base-model"]
    expected = {
        (model, clip): adapter_hub.load(model).transcribe(clip)[0].text for model in models for clip in clips
    }
    random = Random(1)
    wanted = [(random.choice(models), random.choice(clips)) for _ in range(2000)]
    with serving(tmp_path, max_queue=64) as server, ThreadPoolExecutor(32) as pool:
        client = server.client(timeout=600)

        def text(wish: tuple[str, Path]) -> str:
            return client.audio.transcriptions.create(model=wish[0], file=wish[1]).text

        for wish, found in zip(wanted, pool.map(text, wanted), strict=True):
            assert found == expected[wish], wish
        eventually(lambda: nothing_is_left(server))
