"""What a Hub that lies can do: name files, send without end, ask for the token, and answer nonsense."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import product, repeat
from pathlib import Path
from typing import Any

import pytest
from audit_defects import make_home
from command_line import Run
from hub_places import hub_client, hub_store
from loopback_hub import LoopbackHub
from loopback_hub.answers import Answer
from making import make_artifact, write_weights
from sampling import sampled

from adapter_hub.exchange import Places, publish
from adapter_hub.hub import RepoId
from adapter_hub.registry.file import FileRegistry

BASE, PEFT = "test/tiny-whisper", "bob/theirs"
COMMANDS = {
    "fetch": ("base-model", "fetch", BASE),
    "import": ("import", f"hf://{PEFT}", "--language", "da", "--out", "taken"),
    "pull": ("pull", "hf://alice/da"),
    "registry": ("--registry", "hf://datasets/alice/registry", "list"),
    "search": ("search",),
    "search all": ("search", "--limit", "1000000"),
    "with base model": ("pull", "hf://alice/da", "--with-base-model"),
}


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a Hub's folder with a base model, somebody's PEFT adapter, an adapter and a registry."""
    folder = tmp_path_factory.mktemp("filled")
    with LoopbackHub(folder / "hub") as hub:
        model = make_home(folder / "home").base_model
        write_weights(folder / "theirs", base_model_name_or_path=BASE)
        for repo, place in ((BASE, model), (PEFT, folder / "theirs")):
            client = hub_client(hub, repo.partition("/")[0])
            client.create_repo(RepoId(repo))
            parent = client.refs(RepoId(repo)).branches["main"]
            files = {path.name: path for path in place.iterdir()}
            client.commit(RepoId(repo), additions=files, message="mine", parent=parent)
        store = hub_store(hub, "alice", folder / "cache")
        registry = FileRegistry(folder / "registry.json")
        artifact = make_artifact(folder / "da", "alice/da")
        publish(artifact.path, Places(registry, store))
        hub.create("datasets/alice/registry")
        hub.write("datasets/alice/registry", {"registry.json": registry.path.read_bytes()})
    return folder / "hub"


@pytest.fixture
def hub(filled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LoopbackHub]:
    shutil.copytree(filled, tmp_path / "hub")
    with LoopbackHub(tmp_path / "hub") as running:
        monkeypatch.setenv("HF_ENDPOINT", running.endpoint)
        monkeypatch.setenv("HF_TOKEN", running.token("alice"))
        monkeypatch.setenv("ADAPTER_HUB_RETRY_SECONDS", "0.05")
        monkeypatch.setenv("ADAPTER_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "client"))
        (tmp_path / "victim").mkdir()
        (tmp_path / "victim" / "bashrc").write_text("the user's own")
        yield running


def outside(folder: Path) -> dict[str, bytes]:
    """Return every file that no command has any business with."""
    ours = {"hub", "cache", "taken"}
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.relative_to(folder).parts[0] not in ours
    }


def is_one_line(err: str) -> bool:
    errors = [line for line in err.splitlines() if not line.startswith("warning: ")]
    printable = all(character.isprintable() or character == "\n" for character in err)
    return len(errors) <= 1 and len(err) < 4000 and printable and "Traceback" not in err


# files are named by us


def headed(**headers: str) -> Callable[[Answer], None]:
    def forge(answer: Answer) -> None:
        answer.headers |= {name.replace("_", "-"): value for name, value in headers.items()}

    return forge


@pytest.mark.parametrize(
    ("header", "command"),
    sampled(
        product(
            ["ETag", "X-Linked-Etag", "X-Repo-Commit", "Content-Disposition"],
            ["fetch", "import", "pull", "registry", "with base model"],
        ),
        lambda header, command: header == "ETag" or command == "with base model",
    ),
)
def test_no_header_of_a_server_names_a_file(
    hub: LoopbackHub, run: Run, tmp_path: Path, header: str, command: str
) -> None:
    before = outside(tmp_path)
    for place in (str(tmp_path / "victim" / "bashrc"), "../../../victim/bashrc", "x\\..\\y", "."):
        value = f'attachment; filename="{place}"' if header == "Content-Disposition" else f'"{place}"'
        hub.faults.add("forge", endpoint="resolve", times=None, forge=headed(**{header: value}))
        outcome = run(*COMMANDS[command])
        assert outcome.code in (0, 1), outcome
        assert is_one_line(outcome.err), outcome
        hub.faults.clear()
        assert outside(tmp_path) == before
        shutil.rmtree(tmp_path / "cache", ignore_errors=True)
        shutil.rmtree(tmp_path / "taken", ignore_errors=True)
    names = {path.name for path in (tmp_path / "cache").rglob("*")}
    assert not [name for name in names if "bashrc" in name or "\\" in name]


def test_a_server_cannot_name_a_folder_to_write_chunks_to(hub: LoopbackHub, run: Run, tmp_path: Path) -> None:
    evil = f"local://{tmp_path / 'victim'}"
    hashed = {"X_Xet_Hash": "0" * 64, "X_Xet_Refresh_Route": f"{hub.endpoint}/x", "X_Xet_Cas_Url": evil}
    hub.faults.add("forge", endpoint="resolve", times=None, forge=headed(**hashed))
    before = outside(tmp_path)
    assert run(*COMMANDS["fetch"]).code == 0
    assert outside(tmp_path) == before
    assert hub.log.count(path="xet") == 0


# fields of answers

NO_TEXT = [None, 0, -1, 1.5, True, [], [[]], {}, {"a": [{}]}, [1, None], 10**300]
TEXTS = [
    "",
    "../../victim/bashrc",
    "/etc/passwd",
    "\x1b[2J\nerror: forged",
    "x" * 20_000,
    "\ud800",
    "é\u202e",
]
FIELDS: list[tuple[str, str, tuple[str, ...]]] = [
    ("info", "fetch", ("id",)),
    ("info", "fetch", ("sha",)),
    ("info", "pull", ("id",)),
    ("info", "pull", ("_id",)),
    ("info", "pull", ("createdAt",)),
    ("info", "import", ("cardData",)),
    ("info", "import", ("cardData", "language")),
    ("info", "import", ("cardData", "license")),
    ("info", "import", ("cardData", "base_model")),
    ("info", "import", ("tags",)),
    ("refs", "pull", ("tags",)),
    ("refs", "pull", ("branches", "0", "name")),
    ("refs", "pull", ("tags", "0", "name")),
    ("refs", "pull", ("tags", "0", "targetCommit")),
    ("refs", "registry", ("branches", "0", "targetCommit")),
    ("tree", "fetch", ("0", "path")),
    ("tree", "fetch", ("0", "type")),
    ("tree", "fetch", ("0", "size")),
    ("tree", "fetch", ("0", "oid")),
    ("tree", "import", ("2", "lfs")),
    ("tree", "import", ("2", "lfs", "oid")),
    ("list", "search", ("0",)),
    ("list", "search", ("0", "id")),
    ("list", "search", ("0", "downloads")),
    ("list", "search", ("0", "lastModified")),
    ("list", "search", ("0", "gated")),
    ("list", "search", ("0", "cardData")),
    ("list", "search", ("0", "cardData", "language")),
    ("list", "search", ("0", "cardData", "base_model")),
    ("list", "search", ("0", "cardData", "license")),
]


def with_field(keys: tuple[str, ...], value: Any) -> Callable[[Answer], None]:
    """Change one field of an answer's JSON; made if it is not there."""

    def forge(answer: Answer) -> None:
        whole = json.loads(answer.body)
        place = whole
        for key in keys[:-1]:
            place = place[int(key)] if isinstance(place, list) else place.setdefault(key, {})
        if isinstance(place, list):
            place[int(keys[-1])] = value
        else:
            place[keys[-1]] = value
        answer.body = json.dumps(whole).encode()

    return forge


ODD = (None, {"a": [{}]}, 10**300, TEXTS[1], TEXTS[3])  # one of each kind


@pytest.mark.parametrize(
    "values", [ODD, pytest.param((*NO_TEXT, *TEXTS), marks=pytest.mark.slow)], ids=["some", "all"]
)
@pytest.mark.parametrize(
    ("endpoint", "command", "keys"),
    FIELDS,
    ids=lambda item: item if isinstance(item, str) else ".".join(item),
)
def test_a_field_of_any_type_is_no_traceback_and_no_file_elsewhere(
    hub: LoopbackHub,
    run: Run,
    tmp_path: Path,
    endpoint: str,
    command: str,
    keys: tuple[str, ...],
    values: tuple[Any, ...],
) -> None:
    before = outside(tmp_path)
    for value in values:
        fault = hub.faults.add("forge", endpoint=endpoint, times=None, forge=with_field(keys, value))
        outcome = run(*COMMANDS[command])
        hub.faults.clear()
        assert fault.fired
        assert outcome.code in (0, 1), outcome
        assert is_one_line(outcome.err), (value, outcome)
        assert "\x1b" not in outcome.out
        assert outside(tmp_path) == before
        for made in ("cache", "taken"):
            shutil.rmtree(tmp_path / made, ignore_errors=True)


@pytest.mark.parametrize(
    "body", [b"[]", b"{}", b"null", b"7", b'"x"', b"", b"\xff", b"[" * 100_000, b"1" * 6000]
)
@pytest.mark.parametrize(
    ("endpoint", "command"),
    [("info", "fetch"), ("refs", "pull"), ("tree", "fetch"), ("list", "search"), ("resolve", "registry")],
)
def test_an_answer_of_another_kind_is_one_line(
    hub: LoopbackHub, run: Run, body: bytes, endpoint: str, command: str
) -> None:
    def forge(answer: Answer) -> None:
        answer.body, answer.file, answer.length = body, None, None

    hub.faults.add("forge", endpoint=endpoint, times=None, forge=forge)
    outcome = run(*COMMANDS[command])
    assert outcome.code in (0, 1), outcome
    assert is_one_line(outcome.err), outcome


@pytest.mark.parametrize(
    "status", [300, 304, 400, 401, 403, 404, 409, 410, 416, 418, 429, 451, 500, 503, 599]
)
@pytest.mark.parametrize(
    "body", [b"[]", b'{"error": {"a": 1}}', b'{"errors": 7}', b"\x1b[2J\nx", b"[" * 50_000]
)
def test_any_status_with_any_body_is_one_line(hub: LoopbackHub, run: Run, status: int, body: bytes) -> None:
    def forge(answer: Answer) -> None:
        answer.status, answer.body, answer.file, answer.length = status, body, None, None
        answer.headers |= {"X-Error-Message": "x\x1b[31my" * 3, "X-HF-Warning": f"{status}; \x1b[2Jforged"}

    hub.faults.add("forge", times=None, forge=forge)
    outcome = run(*COMMANDS["fetch"])
    assert outcome.code == 1
    assert is_one_line(outcome.err), outcome


# bytes without end


def packed(size: int) -> Callable[[Answer], None]:
    bomb = gzip.compress(bytes(size))

    def forge(answer: Answer) -> None:
        answer.body, answer.file, answer.length = bomb, None, None
        answer.headers["Content-Encoding"] = "gzip"

    return forge


def endless(answer: Answer) -> None:
    answer.pieces = repeat(b" " * 65536)


def endless_list(answer: Answer) -> None:
    answer.headers["Link"], answer.status = '<?cursor=1>; rel="next"', 200
    row = {"type": "file", "oid": "0" * 40, "size": 1, "id": "a/b"}
    answer.body = json.dumps([{**row, "path": f"{os.urandom(8).hex()}/x"} for _ in range(5000)]).encode()


BOMBS: dict[str, tuple[str, str, Callable[[Answer], object]]] = {
    "JSON that unpacks to gigabytes": ("info", "fetch", packed(2**30)),
    "refs that unpack to gigabytes": ("refs", "pull", packed(2**30)),
    "a list without end": ("tree", "fetch", endless_list),
    "a list of repositories without end": ("list", "search all", endless_list),
    "an answer without end": ("info", "fetch", endless),
    "a page without end": ("tree", "fetch", endless),
    "a file that unpacks to gigabytes": ("resolve", "fetch", packed(2**30)),
    "a file without end": ("resolve", "fetch", endless),
    "a manifest without end": ("resolve", "pull", endless),
    "a PEFT adapter without end": ("resolve", "import", endless),
    "a registry without end": ("resolve", "registry", endless),
}


# each is a process of its own: for every kind of bytes that do not end, one
TYPICAL = ("JSON that unpacks to gigabytes", "a list without end", "a page without end", "a file without end")

# the memory of the command alone: what the system says of a child begins with that of its parent
PROGRAM = """
import re, sys
from pathlib import Path
from adapter_hub.cli import main
code = main(sys.argv[1:])
print(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
sys.exit(code)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads what Linux says of a process")
@pytest.mark.parametrize("what", sampled(BOMBS, lambda what: what in TYPICAL))
def test_what_does_not_end_is_one_line_and_little_memory_and_disk(
    hub: LoopbackHub, tmp_path: Path, what: str
) -> None:
    endpoint, command, forge = BOMBS[what]
    hub.faults.add("forge", endpoint=endpoint, times=None, forge=forge)
    cache = tmp_path / "cache"
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *COMMANDS[command]],
        env={**os.environ, **hub.environment("alice"), "ADAPTER_HUB_CACHE": str(cache)},
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    err = done.stderr
    assert done.returncode == 1, err
    assert err.splitlines()[-1].startswith("error: ")
    assert is_one_line(err), err
    assert any(words in err for words in ("may", "more than", "expected")), err
    assert int(done.stdout.split()[-1]) < 400_000, "kB"
    assert sum(path.stat().st_size for path in cache.rglob("*") if path.is_file()) < 2**20
