"""Whose registry decides: not one that lies in the folder, not one utterance, not a place on the Hub."""

from __future__ import annotations

import json
import os
import pty
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from command_line import Run
from making import make_artifact

import adapter_hub
from adapter_hub import embedded
from adapter_hub.base_model.digest import EMBEDDED_ID
from adapter_hub.formats.canonical import digest_of, sha256_hex
from adapter_hub.formats.registry_file import registry_bytes
from adapter_hub.registry.file import FileRegistry
from adapter_hub.registry.trust import trust_file

CLIPS = Path(__file__).parent.parent / "clips"
MINI = json.loads(embedded.registry_path().read_bytes())["adapters"]


def danish_clip() -> Path:
    found = sorted(path for path in CLIPS.rglob("*") if path.suffix in (".flac", ".wav"))
    return next((path for path in found if "da" in path.stem), found[0])


def write_registry(path: Path, adapters: dict[str, Any]) -> Path:
    """Write a registry as a hostile maker does: blocks with whatever is in them."""
    tree = {"schema": "registry/1", "registry_id": path.stem, "sequence": 1, "adapters": adapters}
    path.write_bytes(registry_bytes(tree))
    return path


def block(**changes: Any) -> dict[str, Any]:
    """Return mini/da's entry with other bytes, which are nowhere."""
    places = [{"store": "./nowhere", "path": "x"}]
    digests = {"digest": digest_of(b"theirs"), "function_digest": digest_of(b"its function")}
    return {**MINI["mini/da"]["1.0.0"], **digests, "locations": places, **changes}


@pytest.fixture
def alone(run: Run, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Commands in an empty folder, in which no registry is named."""
    monkeypatch.delenv("ADAPTER_HUB_REGISTRY")
    return run


# a registry in the current folder


def test_a_registry_in_the_current_folder_is_not_used_unless_named(alone: Run, tmp_path: Path) -> None:
    write_registry(tmp_path / "registry.json", {"evil/da": {"1.0.0": block()}})
    for words in (["list", "--json"], ["show", "mini/da"], ["pull", "mini/da"]):
        outcome = alone(*words)
        assert outcome.code == 0
        assert "evil" not in outcome.out
        (line,) = [line for line in outcome.err.splitlines() if "registry.json" in line]
        assert line.startswith("warning: ")
        assert "--registry registry.json" in line
        assert "adapter-hub registry trust registry.json" in line
    named = alone("--registry", "registry.json", "list", "--json")
    assert "evil/da" in named.out
    assert "is not used" not in named.err


def test_a_registry_in_the_current_folder_counts_once_it_is_trusted(alone: Run, tmp_path: Path) -> None:
    path = write_registry(tmp_path / "registry.json", {"evil/da": {"1.0.0": block()}})
    assert alone("registry", "trust").code == 0
    outcome = alone("list", "--json")
    assert "evil/da" in outcome.out
    assert outcome.err == ""
    path.write_bytes(path.read_bytes().replace(b'_id": "registry"', b'_id": "another"'))
    assert "is not used" in alone("list").err


def test_a_damaged_registry_in_the_current_folder_keeps_nobody_from_working(
    alone: Run, tmp_path: Path
) -> None:
    (tmp_path / "registry.json").write_text("{")
    assert alone("show", "mini/da").code == 0
    outcome = alone("registry", "trust")
    assert outcome.code == 1
    assert outcome.err.count("\n") == 1


def test_a_damaged_record_of_trust_is_told(alone: Run, tmp_path: Path) -> None:
    write_registry(tmp_path / "registry.json", {"evil/da": {"1.0.0": block()}})
    trust_file().parent.mkdir(parents=True)
    trust_file().write_text("{")
    outcome = alone("show", "mini/da")
    assert outcome.code == 0
    assert f"correct {trust_file()}, or move it away" in outcome.err


@pytest.mark.parametrize(("answer", "used"), [("y\n", True), ("n\n", False), ("\n", False)])
def test_on_a_terminal_the_user_is_asked_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: str, used: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    write_registry(tmp_path / "registry.json", {"evil/da": {"1.0.0": block()}})
    ours, theirs = pty.openpty()
    os.write(ours, answer.encode())
    command = [sys.executable, "-m", "adapter_hub", "list", "--json"]
    done = subprocess.run(
        command, stdin=theirs, stdout=subprocess.PIPE, stderr=theirs, timeout=30, check=True
    )
    assert ("evil/da" in done.stdout.decode()) is used
    said = b""
    while b"from now on?" not in said:
        said += os.read(ours, 10_000)
    again = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    assert ("evil/da" in again.stdout) is used
    assert ("is not used" in again.stderr) is not used


def test_the_python_face_ignores_a_registry_in_the_current_folder_with_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_registry(tmp_path / "registry.json", {"mini/da": {"2.0.0": block()}})
    with pytest.warns(UserWarning, match=r"registry\.json is not used"):
        transcriber = adapter_hub.load("mini/da", device="cpu")
    assert transcriber.adapter is not None
    assert transcriber.adapter.name == "mini/da@1.0.0"


# `auto`


def score(**changes: Any) -> dict[str, Any]:
    return {**MINI["mini/da"]["1.0.0"]["scores"][0], **changes}


NINE = ["cy", "da", "el", "it", "ja", "pl", "pt", "zh", "en"]
TAKERS = {
    "one utterance, nine languages": block(
        languages=NINE, decode_languages=NINE, scores=[score(n=1, value=0.0, data_sha256="0" * 64)]
    ),
    "one utterance of the same data": block(
        languages=NINE, decode_languages=NINE, scores=[score(n=1, value=0.0)]
    ),
    "many utterances of other data": block(
        languages=NINE, decode_languages=NINE, scores=[score(n=5000, value=0.0, data_sha256="0" * 64)]
    ),
    "the same, another split": block(
        languages=["da", "pl"], decode_languages=["da", "pl"], scores=[score(split="dev", value=0.0)]
    ),
    "no score at all": block(languages=NINE, decode_languages=NINE, scores=[]),
}


@pytest.mark.parametrize("case", sorted(TAKERS))
def test_no_report_that_does_not_compare_takes_auto_over(case: str, tmp_path: Path) -> None:
    from adapter_hub.model.base_model import load_base_model
    from adapter_hub.transcription.candidates import find_candidates

    theirs = FileRegistry(write_registry(tmp_path / "theirs.json", {"evil/all": {"1.0.0": TAKERS[case]}}))
    ours = FileRegistry(embedded.registry_path(), read_only=True)
    base = load_base_model(EMBEDDED_ID, device="cpu")
    candidates = find_candidates([theirs, ours], base)
    assert {str(candidates[code].ref).split("@")[0] for code in ("da", "pl")} == {"mini/da", "mini/pl"}


def test_fewer_errors_on_the_same_data_are_preferred(tmp_path: Path) -> None:
    from adapter_hub.model.base_model import load_base_model
    from adapter_hub.transcription.candidates import find_candidates

    better = block(scores=[score(value=0.01)])
    worse = block(scores=[score(value=0.9)], digest=digest_of(b"worse"))
    theirs = FileRegistry(write_registry(tmp_path / "theirs.json", {"a/worse": {"1.0.0": worse}}))
    others = FileRegistry(write_registry(tmp_path / "others.json", {"a/better": {"1.0.0": better}}))
    ours = FileRegistry(embedded.registry_path(), read_only=True)
    base = load_base_model(EMBEDDED_ID, device="cpu")
    candidate: Any = find_candidates([theirs, ours, others], base)["da"]
    order = []
    while candidate:
        order.append(candidate.ref.name)
        candidate = candidate.next
    assert order[0] == "a/better"
    assert order[-1] == "a/worse"


def test_auto_tries_the_next_adapter_where_one_has_no_bytes(run: Run, tmp_path: Path) -> None:
    theirs = write_registry(tmp_path / "theirs.json", {"evil/da": {"1.0.0": block()}})
    outcome = run(
        "--registry", theirs, "--device", "cpu", "transcribe", "auto", danish_clip(), "--languages", "da"
    )
    assert outcome.code == 0
    assert "mini/da@1.0.0" in outcome.err
    lines = [line for line in outcome.err.splitlines() if "auto cannot use evil/da@1.0.0" in line]
    assert len(lines) == 1
    assert "trying mini/da@1.0.0" in lines[0]


@pytest.fixture
def listening(monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.getsockname()[1]}")
        monkeypatch.setenv("HF_TOKEN", "hf_secret")
        yield server


@pytest.mark.parametrize("beside", [[], [{"store": "./nowhere", "path": "evil/da/1.0.0"}]])
def test_auto_asks_no_hub_because_of_a_place_in_a_file(
    run: Run, tmp_path: Path, listening: socket.socket, beside: list[dict[str, str]]
) -> None:
    places = [*beside, {"store": "hf://evil", "repo": "evil/da", "commit": "0" * 40}]
    theirs = write_registry(tmp_path / "theirs.json", {"evil/da": {"1.0.0": block(locations=places)}})
    outcome = run(
        "--registry", theirs, "--device", "cpu", "transcribe", "auto", danish_clip(), "--languages", "da"
    )
    assert outcome.code == 0
    assert "mini/da@1.0.0" in outcome.err
    assert "auto leaves out evil/da: on the Hub and not in the cache" in outcome.err
    with pytest.raises(BlockingIOError, match="temporarily unavailable"):
        listening.accept()


def test_a_registry_that_commands_named_before_stays_usable(run: Run, tmp_path: Path) -> None:
    assert run("publish", make_artifact(tmp_path / "da", "test/da").path).code == 0
    assert run("pull", "test/da").code == 0


# embellished reports


EMBELLISHED = ("words", "characters", "both")


@pytest.mark.parametrize("which", EMBELLISHED)
def test_a_report_whose_counts_are_not_those_of_its_texts_is_found(
    run: Run, tmp_path: Path, which: str
) -> None:
    report = json.loads(next((embedded.store_path() / "mini/da/evaluations").glob("*/*.json")).read_bytes())
    for part in ("words", "characters") if which == "both" else (which,):
        for counts in (report[part], *(row[part] for row in report["rows"])):
            length = counts["hits"] + counts["substitutions"] + counts["deletions"]
            counts.update(hits=length, substitutions=0, deletions=0, insertions=0)
    if which != "characters":
        report["interval"]["low"] = 0.0
    place = tmp_path / "store"
    words = ("--registry", tmp_path / "registry.json", "--store", place)
    assert run("mirror", "mini/it", "mini/da", "--from", "embedded", "--to", place).code == 0
    assert run(*words, "registry", "rebuild").code == 0
    (path,) = (place / "mini/da/evaluations").glob("*/*.json")
    raw = json.dumps(report).encode()
    path.with_name(f"{sha256_hex(raw)}.json").write_bytes(raw)
    path.unlink()
    outcome = run(*words, "audit", "mini/da@1.0.0")
    assert outcome.code == 1
    lines = [line for line in outcome.out.splitlines() if "report-miscounted" in line]
    assert 0 < len(lines) <= 4
    assert "but its texts give" in lines[0]


# namespaces


def test_a_named_registry_does_not_shadow_the_embedded_catalogue(run: Run, tmp_path: Path) -> None:
    theirs = write_registry(tmp_path / "theirs.json", {"mini/da": {"2.0.0": block(), "1.0.0": block()}})
    outcome = run("--registry", theirs, "pull", "mini/da")
    assert outcome.code == 0
    assert "mini/da@1.0.0" in outcome.out
    (line,) = [line for line in outcome.err.splitlines() if "mini/da in registry" in line]
    assert "the namespace mini belongs to the embedded catalogue" in line
    refused = run("--registry", theirs, "pull", "mini/da@2.0.0")
    assert refused.code == 1
    assert "registry trust --namespace mini" in refused.err
    exact = run("--registry", theirs, "pull", f"mini/da@2.0.0#{block()['digest']}")
    assert "cannot be fetched" in exact.err  # taken from there, where it has no bytes
    assert run("--registry", theirs, "registry", "trust", "--namespace", "mini").code == 0
    assert "does not count" not in run("--registry", theirs, "pull", "mini/da@2.0.0").err


def test_a_namespace_belongs_to_the_registry_where_it_was_first_seen(run: Run, tmp_path: Path) -> None:
    artifact = make_artifact(tmp_path / "da", "alice/da")
    places = ("--registry", tmp_path / "alice.json", "--store", tmp_path / "store")
    assert run(*places, "publish", artifact.path).code == 0
    assert run(*places, "pull", "alice/da").code == 0
    theirs = write_registry(tmp_path / "theirs.json", {"alice/da": {"2.0.0": block()}})
    refused = run("--registry", theirs, "pull", "alice/da")
    assert refused.code == 1
    assert refused.err.count("\n") == 1
    assert "the namespace alice belongs to another registry, where it was seen first" in refused.err


def test_a_mirror_of_the_same_versions_counts_without_a_word(run: Run, tmp_path: Path) -> None:
    place = tmp_path / "airgap"
    assert run("mirror", "mini/da", "--from", "embedded", "--to", place).code == 0
    words = ("--registry", place / "registry.json", "--store", place)
    assert run(*words, "registry", "rebuild").code == 0
    outcome = run(*words, "pull", "mini/da")
    assert (outcome.code, outcome.err) == (0, "")
