"""What a newcomer reads fits the terminal: lists, differences, and errors that name the right file."""

from __future__ import annotations

import errno
import os
import time
from pathlib import Path

import pytest
from command_line import Run
from making import make_artifact

from adapter_hub.cli.terminal.echo import LONGEST_MESSAGE, echo_error
from adapter_hub.cli.terminal.errors import outcome_of
from adapter_hub.cli.terminal.tables import fitting_table
from adapter_hub.files.locks import held
from adapter_hub.files.reading import copy_regular
from adapter_hub.files.writing import folder_in_the_making, naming, write_atomically

MODULES = tuple(f"model.encoder.layers.{i}.{name}" for i in range(24) for name in ("fc1", "fc2"))


def test_a_list_fits_eighty_columns_with_mine_first(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("zoe/a-very-long-name-of-an-adapter-for-danish-telephone-speech", "alice/da"):
        folder = tmp_path / name.replace("/", "-")
        assert run("publish", make_artifact(folder, name).path).code == 0
    whole = run("list").out.splitlines()
    monkeypatch.setenv("COLUMNS", "80")
    lines = run("list").out.splitlines()
    assert max(map(len, lines)) <= 80
    assert len(lines) == len(whole)
    assert [line.split("/")[0] for line in lines[1:4]] == ["alice", "zoe", "mini"]
    assert all("active" in line for line in lines[1:])
    assert [line.split("/")[0] for line in whole[1:4]] == ["alice", "zoe", "mini"]


@pytest.mark.parametrize("columns", ["40", "60", "80", "120"])
def test_columns_are_left_out_before_cells_are_cut(columns: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    rows = [["alice/da@1.0.0", "ab" * 10, "cd" * 10, "漢字" * 10]]
    lines = fitting_table(["adapter", "spare", "other", "text"], rows, ["spare", "other"]).splitlines()
    assert lines[0].split()[0] == "adapter"
    assert ("spare" in lines[0]) == (int(columns) > 100)
    assert len(lines[1]) <= int(columns)


def test_a_difference_of_every_module_is_a_line(run: Run, tmp_path: Path) -> None:
    for rank in (4, 8):
        make_artifact(tmp_path / str(rank), f"test/r{rank}", rank=rank, modules=MODULES)
    done = run("diff", "./4", "./8")
    lines = done.out.splitlines()
    assert len(lines) < 24
    (line,) = [line for line in lines if ".rank (48)" in line]
    assert line.split()[-2:] == ["4", "8"]
    assert "alike ones in one line; --json has each" in done.err
    assert len(run("diff", "./4", "./8", "--json").json) > 48


@pytest.mark.parametrize("text", ["x" * 98_000, "\x1b" * 3_000, "a\nb " * 5_000])
def test_an_error_is_never_longer_than_a_screen(text: str, capfd: pytest.CaptureFixture[str]) -> None:
    echo_error(f"{text}; do this next")
    said = capfd.readouterr().err
    assert len(said) <= LONGEST_MESSAGE + 10
    assert said.startswith("error: ")
    assert said.endswith("; do this next\n")
    assert said.count("\n") == 1


def test_a_full_disk_is_named_by_the_file_that_was_written(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "source.bin"

    def of_a_copy() -> None:  # as shutil tells it when the disk gets full in between
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(source), None, "copy.bin")

    def unnamed() -> None:
        with naming(tmp_path / "target.bin"), Path("/dev/full").open("wb", buffering=0) as file:
            file.write(b"x")

    class SafetensorError(Exception):
        """As safetensors raises it."""

    def in_words() -> None:
        with folder_in_the_making(tmp_path / "out"):
            raise SafetensorError("I/O error: No space left on device (os error 28)")

    for action, name in (
        (of_a_copy, "copy.bin"),
        (unnamed, "target.bin"),
        (in_words, "out"),
    ):
        assert outcome_of(action, "publish") == 1
        said = capfd.readouterr().err
        assert f"{name}: no space left on device; nothing was left half-written" in said
        assert "source.bin" not in said
    assert not (tmp_path / "out").exists()


def test_a_file_beyond_the_limit_is_named(tmp_path: Path) -> None:
    import resource
    import signal

    source = tmp_path / "source.bin"
    source.write_bytes(bytes(100_000))
    limits, before = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, limits[1]))
    try:
        for write in (
            lambda: copy_regular(source, tmp_path / "target.bin", 100_000),
            lambda: write_atomically(tmp_path / "target.bin", bytes(100_000)),
        ):
            with pytest.raises(OSError, match=r"target\.bin") as caught:
                write()
            assert caught.value.errno == errno.EFBIG
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)


def test_a_lock_that_cannot_be_made_says_why_at_once() -> None:
    place = Path("/proc/self")  # says that it can be written, and cannot
    started = time.monotonic()
    with (
        pytest.raises(OSError, match=r"/proc/self/registry\.json\.lock"),
        held(place / "registry.json.lock", 600.0, "x"),
    ):
        pass
    assert time.monotonic() - started < 5


def test_a_lock_file_can_be_taken_by_everybody_who_may_write_to_its_folder(tmp_path: Path) -> None:
    tmp_path.chmod(0o775)
    before = os.umask(0o077)
    try:
        with held(tmp_path / "lock", 1.0, "x"):
            assert (tmp_path / "lock").stat().st_mode & 0o777 == 0o664
    finally:
        os.umask(before)
