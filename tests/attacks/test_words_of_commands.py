"""Hostile words for every command, and what nobody foresaw: one line, an exit code, never a traceback."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import pytest
from command_line import Run
from making import make_artifact

from adapter_hub.cli import COMMANDS, cli
from adapter_hub.cli.terminal.crash_reports import MOST_FILES, crash_reports_folder, without_secrets
from adapter_hub.cli.terminal.errors import outcome_of
from adapter_hub.errors import InvalidInputError
from adapter_hub.formats.reference import expanded
from adapter_hub.paths import cache_folder, registry_path

COMMAND = (sys.executable, "-m", "adapter_hub")
WORDS = {
    "nothing": "",
    "nul": "\0",
    "nobody": "~nosuchuser",
    "long": "a" * 5000,
    "bytes": os.fsdecode(b"\xff\xfe"),
    "escape": "\x1b[2J\nerror: forged",
    "here": ".",
    "hub": "hf://",
    "dots": "mini/da~=1." + "9" * 4000,
    "version": "mini/da@1e999",
    "infinite": "1e999",
    "nan": "nan",
    "negative": "-1",
    "digits": "9" * 5000,
}
# those that look, and those that would load torch or ask the Hub before they look at their words
LIGHT = [name for name in COMMANDS if name not in {"demo", "reproduce", "search", "base-model"}]
HEAVY = {"transcribe", "evaluate", "similarity", "train", "fold", "check", "new", "bulk", "export", "serve"}
PLAUSIBLE = {"status": "active", "method": "lora", "source": "nowhere", "refs": "mini/da"}
NARROWED = {"audit": "mini/da"}  # of all adapters it would take seconds, word by word


def commands() -> Iterator[tuple[list[str], click.Command]]:
    """Yield every light command with the words that call it."""
    context = click.Context(cli)
    for name in LIGHT:
        command = cli.get_command(context, name)
        assert command is not None
        if isinstance(command, click.Group):
            yield from (([name, below], found) for below, found in command.commands.items())
        else:
            yield [name], command


def calls(word: str) -> Iterator[list[str]]:
    """Yield every command with `word` for one of its options or arguments, the others plausible."""
    for path, command in commands():
        if HEAVY & set(path):
            continue
        for one in command.params:
            if getattr(one, "is_flag", False):
                continue
            options, arguments = [], []
            for parameter in command.params:
                if parameter is not one and not parameter.required:
                    continue
                value = word if parameter is one else PLAUSIBLE.get(str(parameter.name), "x")
                if isinstance(parameter, click.Argument):
                    arguments.append(value)
                else:
                    options += [parameter.opts[0], value]
            narrowed = [NARROWED[path[0]]] if path[0] in NARROWED and not arguments else []
            yield [*path, *options, "--", *arguments, *narrowed]


@pytest.mark.parametrize("word", WORDS.values(), ids=WORDS)
def test_whatever_the_words_are_a_command_says_one_line(word: str, run: Run) -> None:
    for words in calls(word):
        outcome = run(*words)
        shown = [text[:30] for text in words]
        assert outcome.code in (0, 1, 2), shown
        assert "Traceback" not in outcome.err, shown
        assert "unexpected" not in outcome.err, shown
        errors = [line for line in outcome.err.splitlines() if line.startswith("error: ")]
        assert len(errors) == (0 if outcome.code == 0 else 1) or words[0] in ("audit", "registry"), shown
        assert all(len(line) < 6000 for line in outcome.err.splitlines()), shown
        if outcome.code == 2:
            assert outcome.err.startswith("error: "), shown
            assert outcome.err.count("\n") == 1, shown


@pytest.mark.parametrize("option", ["--registry", "--store", "--cache"])
@pytest.mark.parametrize("word", ["", "\0", "~nosuchuser", "~nosuchuser/x"], ids=repr)
def test_a_place_that_is_none_is_wrong_usage(option: str, word: str, run: Run) -> None:
    for words in (["list"], ["publish", "x"], ["pull", "mini/da"], ["cache", "list"]):
        outcome = run(option, word, *words)
        assert outcome.code == 2
        assert outcome.err.startswith(f"error: Invalid value for '{option}'")
        assert outcome.err.count("\n") == 1


@pytest.mark.parametrize("name", ["ADAPTER_HUB_REGISTRY", "ADAPTER_HUB_STORE", "ADAPTER_HUB_CACHE"])
def test_a_place_from_the_environment_is_checked_alike(
    name: str, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, "~nosuchuser")
    outcome = run("list")
    assert outcome.code == 2
    assert "no such user here" in outcome.err


@pytest.mark.parametrize("function", [cache_folder, registry_path, expanded])
@pytest.mark.parametrize("text", ["~nosuchuser", "a\0b"])
def test_the_library_refuses_such_a_place_as_an_error_of_the_user(
    function: Callable[[str], Path], text: str
) -> None:
    with pytest.raises(InvalidInputError, match="no such user here|expected the name of a file"):
        function(text)


def test_a_file_that_is_called_like_a_home_is_that_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "~nosuchuser").mkdir()
    assert expanded("~nosuchuser") == Path("~nosuchuser")
    assert expanded("~") == Path.home()


def fail(error: BaseException) -> Callable[[], object]:
    def command() -> object:
        raise error

    return command


class UnspeakableError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("not even this")


@pytest.mark.parametrize(
    "error",
    [
        AssertionError("x\x1b[2J\nerror: forged"),
        RecursionError("maximum recursion depth exceeded"),
        UnicodeEncodeError("utf-8", "\udc80", 0, 1, "surrogates not allowed"),
        KeyError("a" * 100_000),
        ExceptionGroup("several", [ValueError("one")]),
        UnspeakableError(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_the_unexpected_is_one_line_and_a_file(error: Exception, capfd: pytest.CaptureFixture[str]) -> None:
    assert outcome_of(fail(error), "list") == 1
    said = capfd.readouterr().err
    assert said.startswith(f"error: unexpected {type(error).__name__} (")
    assert said.count("\n") == 1
    assert len(said) < 5000
    assert "\x1b" not in said
    (file,) = crash_reports_folder().glob("failure-*.txt")
    assert str(file) in said
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.parent.stat().st_mode & 0o077 == 0
    assert file.stat().st_size < 1_000_000
    text = file.read_text(encoding="utf-8")
    assert text.startswith("command: adapter-hub list\n")
    assert "Traceback" in text
    assert "\x1b" not in text


def test_only_the_newest_records_are_kept(capfd: pytest.CaptureFixture[str]) -> None:
    for _ in range(MOST_FILES + 3):
        outcome_of(fail(AssertionError("again")), "list")
    assert len(list(crash_reports_folder().glob("failure-*.txt"))) == MOST_FILES
    assert capfd.readouterr().err.count("\n") == MOST_FILES + 3


def test_a_record_holds_no_secret_and_not_the_user_s_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "plain-secret-value")
    monkeypatch.setenv("HOME", "/elsewhere/alice")
    text = without_secrets(
        "hf_abcdefghijklmnop at http://bob:pass@host/x with plain-secret-value in /elsewhere/alice/x; "
        "Authorization: Bearer abcdefghijk, password=opensesame"
    )
    for part in ("abcdefghij", "pass@", "plain-secret", "alice", "opensesame"):
        assert part not in text


def test_where_no_record_can_be_written_the_line_says_what_helps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    assert outcome_of(fail(AssertionError("x")), "list") == 1
    assert "run the command again with ADAPTER_HUB_DEBUG=1" in capfd.readouterr().err


def test_a_developer_can_have_the_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADAPTER_HUB_DEBUG", "1")
    with pytest.raises(AssertionError, match="x"):
        outcome_of(fail(AssertionError("x")), "list")


SCRIPT = """
import logging, sys, threading, warnings
from adapter_hub.cli.terminal.errors import outcome_of

def command():
    thread = threading.Thread(target=lambda: 1 / 0)
    thread.start()
    thread.join()
    warnings.warn("told\\x1b[2J\\nerror: forged")
    logging.getLogger("adapter_hub").warning("logged %s", "\\x1b]52;c;x\\x07\\nerror: forged")
    logging.getLogger("somebody").warning("else's\\x9b2J")

sys.exit(outcome_of(command, "list"))
"""


def test_warnings_logs_and_threads_say_one_harmless_line_each(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    lines = done.stderr.splitlines()
    assert done.returncode == 0
    assert lines[0].startswith("error: unexpected ZeroDivisionError (division by zero)")
    assert lines[1:] == [
        "warning: told\\x1b[2J error: forged",
        "logged \\x1b]52;c;x\\x07 error: forged",
        "else's\\x9b2J",
    ]


def test_a_command_leaves_python_s_own_ways_as_they_were() -> None:
    before = (threading.excepthook, sys.unraisablehook, warnings.showwarning)
    outcome_of(lambda: 0, "list")
    assert (threading.excepthook, sys.unraisablehook, warnings.showwarning) == before


def test_a_message_of_a_megabyte_is_cut_in_the_middle(run: Run, tmp_path: Path) -> None:
    make_artifact(tmp_path / "pl", "test/pl")
    value = json.loads((tmp_path / "pl" / "adapter.json").read_bytes())
    value["x" * 1_000_000] = 1
    (tmp_path / "pl" / "adapter.json").write_text(json.dumps(value), encoding="utf-8")
    outcome = run("show", "./pl")
    assert outcome.code == 1
    assert len(outcome.err) < 5000
