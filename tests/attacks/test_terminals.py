"""What others wrote, printed: nothing in it acts on the terminal, forges a line or ends in a traceback."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest
from command_line import Run
from making import make_artifact, make_child, make_report

from adapter_hub.artifact.folder import Artifact
from adapter_hub.exchange import Places, attach
from adapter_hub.registry.file import FileRegistry
from adapter_hub.stores.folder import FolderStore

COMMAND = (sys.executable, "-m", "adapter_hub")
HOSTILE = {
    "clear": "\x1b[2J\x1b[H",
    "clipboard": "\x1b]52;c;ZXZpbA==\x07",
    "title": "\x1b]0;owned\x07",
    "line": "x\nerror: all is lost\nwarning: run this",
    "carriage": "x\rerror: all is lost",
    "c1": "\x9b2J\x9d52;c;ZXZpbA==\x9c",
    "bidi": "\u202eevil\u2066\u2069\u200e",
    "separators": "x\u2028error: all\u2029is\x85lost",
    "invisible": "\u200b\u2060\ufeff\u00ad\U000e0041",
    "delete": "\x08\x08\x7f",
}


def dangerous(text: str) -> set[str]:
    """Return the characters that must not reach a terminal; newlines are looked at line by line."""
    return {
        f"U+{ord(character):04X}"
        for character in text
        if character not in "\n\u200c\u200d"
        and unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp")
    }


def hostile_artifact(folder: Path, text: str, name: str = "test/pl") -> Artifact:
    """Make an adapter with `text` wherever a manifest takes free text."""
    source = {"id": f"d{text}", "split": f"s{text}", "license": f"l{text}", "hours": 1.0, "utterances": 3}
    training = {
        "steps": 1,
        "random_seed": 1,
        "hardware": f"cpu{text}",
        "wall_seconds": 1.0,
        "packages": {f"p{text}": f"1{text}"},
    }
    return make_artifact(
        folder,
        name,
        languages=[{"tag": f"pl{text}", "decode_language": f"pl{text}"}],
        license=f"MIT{text}",
        authors=[f"A{text}"],
        data=[{**source, "sha256": "0" * 64}],
        training=training,
    )


@pytest.fixture(params=HOSTILE.values(), ids=HOSTILE)
def hostile(request: pytest.FixtureRequest, run: Run, tmp_path: Path) -> str:
    """Publish an adapter, its child and a report, all with hostile text; retired for a hostile reason."""
    text = str(request.param)
    artifact = hostile_artifact(tmp_path / "pl", text)
    make_child(tmp_path / "da", artifact, "test/da")
    assert run("publish", "pl").code == 0
    assert run("publish", "da").code == 0
    report = make_report(artifact, data=f"numbers{text}", split=f"test{text}", normaliser=f"words{text}")
    attach(report, Places(FileRegistry(tmp_path / "registry.json"), FolderStore(tmp_path / "store")))
    assert run("retire", "test/pl@1.0.0", "--status", "yanked", "--reason", f"why{text}").code == 0
    return text


LOOKING = [
    ["list"],
    ["list", "--json"],
    ["show", "test/pl"],
    ["show", "test/pl", "--json"],
    ["show", "./pl"],
    ["diff", "test/pl", "test/da"],
    ["diff", "test/pl", "test/da", "--json"],
    ["lineage", "test/da"],
    ["lineage", "test/da", "--format", "mermaid"],
    ["lineage", "test/da", "--json"],
    ["card", "test/pl"],
    ["audit", "test/pl"],
    ["pull", "test/pl@1.0.0"],
    ["pull", "test/pl"],
    ["registry", "check"],
    ["cache", "list"],
    ["lock", "test/da"],
]


def test_no_command_prints_what_acts_on_the_terminal_or_begins_a_line(hostile: str, run: Run) -> None:
    assert hostile
    acting, began = {}, {}
    forged = ("error: all", "warning: run this", "evil", "is lost")
    for words in LOOKING:
        outcome = run(*words)
        if bad := dangerous(outcome.out) | dangerous(outcome.err):
            acting[" ".join(words)] = bad
        lines = (outcome.out + outcome.err).splitlines()
        if bad_lines := [line for line in lines if line.lstrip().startswith(forged)]:
            began[" ".join(words)] = bad_lines
    assert not acting
    assert not began


def test_json_holds_the_very_text_and_trees_have_a_line_for_every_adapter(hostile: str, run: Run) -> None:
    assert run("show", "./pl", "--json").json["manifest"]["license"] == f"MIT{hostile}"
    assert len(run("lineage", "test/da").out.splitlines()) == 2
    chart = run("lineage", "test/da", "--format", "mermaid").out.splitlines()
    assert [line.split("[")[0].split(" -->")[0].strip() for line in chart] == [
        "flowchart TD",
        "n0",
        "n1",
        "n1",
    ]


def on_a_terminal(words: list[str], folder: Path) -> str:
    """Return what a command writes to a real terminal."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen([*COMMAND, *words], stdin=theirs, stdout=theirs, stderr=theirs, cwd=folder)
    os.close(theirs)
    pieces = []
    while True:
        try:
            piece = os.read(ours, 65536)
        except OSError:  # Linux's way to say that nobody writes any more
            break
        if not piece:
            break
        pieces.append(piece)
    process.wait(timeout=60)
    os.close(ours)
    return b"".join(pieces).decode()


def test_a_real_terminal_gets_no_clipboard_and_no_clearing(run: Run, tmp_path: Path) -> None:
    hostile_artifact(tmp_path / "pl", "".join(HOSTILE.values()))
    for words in (["show", "./pl"], ["card", "./pl"], ["lineage", "./pl"]):
        written = on_a_terminal(words, tmp_path).replace("\r\n", "\n")
        assert "MIT" in written or "pl" in written
        assert not dangerous(written)


def environment(**changes: str) -> dict[str, str]:
    return {**os.environ, **changes}


@pytest.mark.parametrize(
    "changes",
    [
        {"PYTHONIOENCODING": "ascii"},
        {"LANG": "C", "LC_ALL": "C", "PYTHONUTF8": "0"},
        {"PYTHONIOENCODING": "latin-1"},
    ],
    ids=["ascii", "C", "latin-1"],
)
def test_a_stream_of_few_letters_gets_escapes_and_json_stays_json(
    changes: dict[str, str], run: Run, tmp_path: Path
) -> None:
    make_artifact(tmp_path / "pl", "test/pl", authors=["Bjørn 北 😀"])
    commands = [["show", "./pl"], ["--help"], ["card", "./pl"], ["lineage", "./pl"]]
    for words in commands if "PYTHONUTF8" in changes else commands[:1]:  # a process each
        done = subprocess.run(
            [*COMMAND, *words], capture_output=True, cwd=tmp_path, env=environment(**changes), check=False
        )
        assert (done.returncode, done.stderr) == (0, b""), words
    done = subprocess.run(
        [*COMMAND, "show", "./pl", "--json"],
        capture_output=True,
        cwd=tmp_path,
        env=environment(**changes),
        check=False,
    )
    assert done.returncode == 0
    encoding = "latin-1" if "latin-1" in changes.values() else "utf-8"
    assert json.loads(done.stdout.decode(encoding))["manifest"]["authors"] == ["Bjørn 北 😀"]


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_a_folder_whose_name_is_no_utf_8_is_shown_escaped(encoding: str, tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9\x1b[2J")
    make_artifact(tmp_path / name, "test/pl")
    for words in (["publish", f"./{name}"], ["show", f"./{name}"], ["show", f"./{name}-not-there"]):
        done = subprocess.run(
            [*COMMAND, "--registry", "registry.json", *words],
            capture_output=True,
            cwd=tmp_path,
            env=environment(PYTHONIOENCODING=encoding),
            check=False,
        )
        said = (done.stdout + done.stderr).decode(encoding)
        assert "Traceback" not in said
        assert not dangerous(said)
        assert done.returncode == (1 if "not-there" in words[1] else 0)


def test_a_reader_that_goes_away_is_no_error(tmp_path: Path) -> None:
    done = subprocess.run(
        f"{sys.executable} -m adapter_hub list --json | head -c 1; echo ${{PIPESTATUS[0]}}",
        executable="/bin/bash",
        shell=True,
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )
    assert done.stderr == ""
    assert done.stdout.endswith(("141\n", "0\n"))  # 0 where all fitted into the pipe
