"""The engine of reproductions, with a paper of its own: workers, order, failures, resuming."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tiny_paper import SETTINGS, Guess, TinyPaper

from adapter_hub.errors import AdapterHubError
from adapter_hub.trainers import reproduction
from adapter_hub.trainers.reproduction.cells import Cell
from adapter_hub.trainers.reproduction.reproducing import ReproduceOptions, reproduce
from adapter_hub.trainers.reproduction.run import Run
from adapter_hub.trainers.reproduction.workers import Answer, Workers


def cell(name: str) -> Cell[Guess]:
    return Cell(name, name.partition("/")[0], Guess())


def settings(folder: Path, *cells: str) -> Path:
    path = folder / "tiny.toml"
    path.write_text(SETTINGS.replace('["look", "guess"]', json.dumps(cells)))
    return path


def crew(folder: Path, size: int, device: str | None = "cpu", gpus: tuple[str, ...] = ()) -> Workers:
    return Workers(TinyPaper.read(SETTINGS, "tiny"), folder, size, device, gpus)


def answer(workers: Workers) -> Answer:
    ((_, found),) = workers.answers()
    return found


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """Enter the paper in the table, which is all that the engine has to know of it."""
    monkeypatch.setitem(reproduction.PAPERS, "tiny", "tiny_paper:TinyPaper")


def test_a_worker_sees_its_own_gpu_and_calls_it_the_first(tmp_path: Path) -> None:
    before = dict(os.environ)
    with crew(tmp_path, 2, "cuda:1", ("5", "7")) as workers:
        for name in ("look/1", "look/2"):
            workers.give(cell(name), None)
        assert os.environ == before
        assert workers.idle == 0
        found: dict[str, Answer] = {}
        while workers.busy:
            found |= {done.name: said for done, said in workers.answers()}
    outcomes = [found[name].outcome or {} for name in ("look/1", "look/2")]
    assert [o["CUDA_VISIBLE_DEVICES"] for o in outcomes] == ["5", "7"]
    assert {o["device"] for o in outcomes} == {"cuda"}
    assert len({o["pid"] for o in outcomes}) == 2


def test_a_worker_says_in_one_line_what_a_cell_was_refused_for_and_goes_on_until_it_dies(
    tmp_path: Path,
) -> None:
    with crew(tmp_path, 1) as workers:
        found = []
        for name in ("look/1", "refuse", "look/2", "die", "look/3"):
            workers.give(cell(name), None)
            found.append(answer(workers))
    first, refused, second, died, third = found
    assert (refused.outcome, refused.error) == (None, "not like this")
    assert first.outcome is not None
    assert first.outcome == second.outcome
    assert first.outcome["OMP_NUM_THREADS"] == "1"
    log = tmp_path / "logs" / "worker-1.log"
    assert (died.outcome, died.error) == (None, f"its worker ended with exit code 3; see {log}")
    assert "== refuse\nTraceback" in log.read_text()
    assert third.outcome is not None
    assert third.outcome["pid"] != first.outcome["pid"]


def test_what_is_learned_is_used_and_a_finished_cell_is_not_done_again(tmp_path: Path) -> None:
    said: list[str] = []
    options = ReproduceOptions("tiny", settings=settings(tmp_path, "look", "guess"), device="cpu")
    report = reproduce(tmp_path / "run", options, tell=said.append)
    assert report.read_text().split() == ["guess/0.1", "guess/0.5", "guess/twice-0.1", "look"]
    assert "learning rate of guess: 0.1 (on dev 0.1: 10.00 %, 0.5: 50.00 %)" in said
    assert said[0] == "0 of 4 cells are finished"
    assert sum(line.startswith("[") for line in said) == 4
    assert Run.open(TinyPaper, tmp_path / "run").outcomes["guess/twice-0.1"] == {"da": 0.2}
    records = {path: path.read_bytes() for path in (tmp_path / "run" / "cells").iterdir()}
    reproduce(tmp_path / "run", options, tell=said.append)
    assert "4 of 4 cells are finished" in said
    assert {path: path.read_bytes() for path in (tmp_path / "run" / "cells").iterdir()} == records


def test_a_cell_that_fails_is_its_own_failure_and_is_tried_again_by_the_next_run(tmp_path: Path) -> None:
    said: list[str] = []
    options = ReproduceOptions(
        "tiny", settings=settings(tmp_path, "die", "look", "refuse"), device="cpu", jobs=1
    )
    for _ in range(2):
        with pytest.raises(
            AdapterHubError, match=r"^failed cells: 2, with 0 that depend on them; the first is die: its wo"
        ):
            reproduce(tmp_path / "run", options, tell=said.append)
    assert said.count("failed: refuse: not like this") == 2
    assert sum("] look  " in line for line in said) == 1


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for processes in /proc")
def test_a_run_that_is_killed_leaves_no_worker_behind(tmp_path: Path) -> None:
    program = (
        "from pathlib import Path\n"
        "from adapter_hub.trainers import reproduction\n"
        "from adapter_hub.trainers.reproduction.reproducing import ReproduceOptions, reproduce\n"
        "if __name__ == '__main__':\n"
        "    reproduction.PAPERS['tiny'] = 'tiny_paper:TinyPaper'\n"
        "    options = ReproduceOptions('tiny', settings=Path('tiny.toml'), device='cpu')\n"
        "    reproduce(Path('run'), options, tell=print)\n"
    )
    (tmp_path / "program.py").write_text(program)
    settings(tmp_path, "sleep/1", "sleep/2")
    paths = os.pathsep.join([str(Path(__file__).parent), str(Path(__file__).parents[1])])
    environment = os.environ | {"PYTHONPATH": paths}
    logs = [tmp_path / "run" / "logs" / f"worker-{number}.log" for number in (1, 2)]
    with subprocess.Popen([sys.executable, "program.py"], cwd=tmp_path, env=environment) as process:
        deadline = time.monotonic() + 120
        while not all(log.exists() and "sleep" in log.read_text() for log in logs):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.1)
        left = children(process.pid)
        process.send_signal(signal.SIGKILL)
    assert len(left) >= 2
    while any(Path(f"/proc/{pid}").exists() for pid in left):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def children(parent: int) -> list[int]:
    """Return the processes that one has started."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it has just ended
        if int(fields[1]) == parent:
            found.append(int(path.parent.name))
    return found
