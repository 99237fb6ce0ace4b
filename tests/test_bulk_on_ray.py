"""`bulk` on a Ray of this machine: two workers give what one process gives, whoever is killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from command_line import Run
from small_whisper import write_speech

from adapter_hub.artifact.folder import Artifact

ROOT = Path(__file__).parents[1]
ROWS = 24
slow = pytest.mark.slow


@pytest.fixture(scope="module")
def words(base_folder: Path, adapters: list[Artifact], tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The command for many rows of three adapters, and a broken one; without --out."""
    folder = tmp_path_factory.mktemp("clips")
    for i in range(4):
        write_speech(folder / f"{i}.wav", 16.0 - i, seed=i)
    rows = [{"audio": f"{i % 4}.wav", "id": i, "model": str(adapters[i % 3].path)} for i in range(ROWS - 1)]
    lines = [json.dumps(row) for row in [*rows, {"audio": "absent.wav", "id": "broken"}]]
    (folder / "list.jsonl").write_text("".join(f"{line}\n" for line in lines))
    return [
        *(
            "bulk",
            str(folder / "list.jsonl"),
            "--model",
            "base-model",
            "--language",
            "pl",
            "--shard-rows",
            "2",
        ),
        *("--base-model", str(base_folder), "--beams", "2", "--temperatures", "0"),
    ]


@pytest.fixture(scope="module")
def whole(words: list[str], tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The output of one process."""
    folder = tmp_path_factory.mktemp("one")
    done = start(folder, *words, "--out", "out")
    done.communicate(timeout=200)
    assert done.returncode == 1
    return output(folder / "out")


def start(folder: Path, *words: str) -> subprocess.Popen[str]:
    """Start a command in a process group of its own, with places of its own."""
    places = {"ADAPTER_HUB_CACHE": str(folder / "cache"), "ADAPTER_HUB_REGISTRY": str(folder / "r.json")}
    return subprocess.Popen(
        [sys.executable, "-m", "adapter_hub", *words],
        cwd=folder,
        env={**os.environ, **places, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def output(out: Path) -> dict[str, bytes]:
    names = [path.name for path in out.iterdir() if path.name != ".lock"]
    return {name: (out / name).read_bytes() for name in names}


def parts(out: Path) -> list[Path]:
    return sorted(out.glob("part-*"))


def until(true: Callable[[], object], seconds: float = 200) -> None:
    limit = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < limit, "it takes too long"
        time.sleep(0.02)


def workers_of(folder: Path) -> Iterator[int]:
    """Yield the processes of the actors that were started from a folder."""
    mark = f"ADAPTER_HUB_CACHE={folder / 'cache'}".encode()
    for place in Path("/proc").glob("[0-9]*"):
        try:
            is_worker = (place / "cmdline").read_bytes().startswith(b"ray::MapWorker")
            if is_worker and mark in (place / "environ").read_bytes().split(b"\0"):
                yield int(place.name)
        except OSError:
            continue


@slow
def test_a_worker_that_is_killed_half_way_changes_nothing(
    words: list[str], whole: dict[str, bytes], tmp_path: Path
) -> None:
    done = start(tmp_path, *words, "--workers", "2", "--out", "out")
    until(lambda: parts(tmp_path / "out") or done.poll() is not None)
    victims = list(workers_of(tmp_path))
    assert victims
    os.kill(victims[0], signal.SIGKILL)
    assert len(parts(tmp_path / "out")) < ROWS // 2
    out, err = done.communicate(timeout=250)
    assert output(tmp_path / "out") == whole
    assert out.startswith(f"{ROWS} recordings of ")
    lines = err.splitlines()
    assert [line for line in lines if line.startswith("error: ")] == lines[-1:]
    assert lines[-1].startswith(f"error: 1 of {ROWS} recordings failed; ")
    others = [line for line in lines[:-1] if f" of {ROWS} recordings, " not in line]
    assert not others, err  # nothing of Ray's


@slow
def test_a_driver_that_is_killed_half_way_goes_on(
    words: list[str], whole: dict[str, bytes], tmp_path: Path
) -> None:
    killed = start(tmp_path, *words, "--workers", "2", "--out", "out")
    until(lambda: parts(tmp_path / "out") or killed.poll() is not None)
    killed.kill()
    killed.communicate()
    before = {path: path.stat().st_mtime_ns for path in parts(tmp_path / "out")}
    assert 0 < len(before) < ROWS // 2
    assert not (tmp_path / "out/summary.json").exists()
    until(lambda: not list(workers_of(tmp_path)))  # they go with their driver
    done = start(tmp_path, *words, "--workers", "2", "--out", "out")
    done.communicate(timeout=250)
    assert done.returncode == 1
    assert output(tmp_path / "out") == whole
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_without_ray_several_workers_are_refused_in_one_line(
    run: Run, monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    for name in ("ray", "ray.data", "ray.data.exceptions"):
        monkeypatch.setitem(sys.modules, name, None)
    done = run(*words, "--workers", "2", "--out", "out")
    assert done.code == 1
    assert [line for line in done.err.splitlines() if line.startswith("error")] == [
        "error: several workers and --address need Ray: run `pip install '.[ray]'` in the project's checkout"
    ]
