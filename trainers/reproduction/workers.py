"""The worker processes of a run: one cell at a time each, and what each may use of the machine.

A worker keeps its imports, and what the libraries hold in memory, for all of its cells. It ends with the
process that started it, in the middle of a cell if need be: a run that was killed leaves no worker behind.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from adapter_hub.errors import AdapterHubError
from adapter_hub.trainers.reproduction.cells import Cell, Outcome
from adapter_hub.trainers.reproduction.paper import Paper, Workplace

SPAWN = multiprocessing.get_context("spawn")  # CUDA does not survive a fork


@dataclass(frozen=True)
class Answer:
    """What a worker says about a cell: its outcome, or why there is none."""

    outcome: Outcome | None = None
    seconds: float = 0.0
    error: str = ""


@dataclass
class Workers:
    """So many processes, started when they are needed; one that dies is replaced.

    Attributes:
        paper: whose cells they do.
        folder: of the run.
        size: how many.
        device: torch's name; None for a GPU if there is one.
        gpus: that they share out among them, see `visible_gpus`.
    """

    paper: Paper
    folder: Path
    size: int
    device: str | None = None
    gpus: Sequence[str] = ()
    _processes: dict[int, tuple[BaseProcess, Connection]] = field(default_factory=dict)
    _busy: dict[Connection, tuple[int, Cell[Any]]] = field(default_factory=dict)

    def __enter__(self) -> Workers:
        (self.folder / "logs").mkdir(exist_ok=True)
        return self

    def __exit__(self, *_: object) -> None:
        """End every process; a training goes on from its last checkpoint in the next run."""
        for process, connection in self._processes.values():
            process.kill()
            process.join()
            connection.close()

    @property
    def idle(self) -> int:
        """How many of them have nothing to do."""
        return self.size - len(self._busy)

    @property
    def busy(self) -> set[str]:
        """The names of the cells that are being done."""
        return {cell.name for _, cell in self._busy.values()}

    def log(self, number: int) -> Path:
        """Return where a worker's output goes."""
        return self.folder / "logs" / f"worker-{number}.log"

    def give(self, cell: Cell[Any], recipe: str | None) -> None:
        """Let a worker that has nothing to do do a cell.

        Args:
            cell: whose needs are finished.
            recipe: of a training.
        """
        taken = {number for number, _ in self._busy.values()}
        number = next(n for n in range(1, self.size + 1) if n not in taken)
        process, connection = self._processes.get(number) or self._start(number)
        if not process.is_alive():
            process, connection = self._start(number)
        with suppress(OSError):  # it has just died: the answer says so
            connection.send((cell, recipe))
        self._busy[connection] = number, cell

    def answers(self) -> Iterator[tuple[Cell[Any], Answer]]:
        """Wait for at least one cell to be done, and yield those that are."""
        for connection in wait(list(self._busy)):
            assert isinstance(connection, Connection)
            number, cell = self._busy.pop(connection)
            try:
                yield cell, connection.recv()
            except (OSError, EOFError):
                process, _ = self._processes[number]
                process.join()
                error = f"its worker ended with exit code {process.exitcode}; see {self.log(number)}"
                yield cell, Answer(error=error)

    def _start(self, number: int) -> tuple[BaseProcess, Connection]:
        """Start a worker's process, or the next one after one that died."""
        ours, theirs = SPAWN.Pipe()
        device = "cuda" if self.device and self.gpus else self.device  # it sees its own GPU alone
        arguments = (theirs, self.paper, self.folder, device, self.log(number))
        process = SPAWN.Process(target=serve, args=arguments)
        with _environment(share(number, self.size, self.gpus)):
            process.start()
        theirs.close()
        self._processes[number] = process, ours
        return process, ours


def serve(connection: Connection, paper: Paper, folder: Path, device: str | None, log: Path) -> None:
    """Do cells until the other end is closed; what is printed meanwhile goes to the log.

    Args:
        connection: receives cells with their recipes, sends an `Answer` for each.
        paper: whose cells they are.
        folder: of the run.
        device: torch's name; None for a GPU if there is one.
        log: the file that output is appended to.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the run, which ends its workers
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with log.open("a") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    place = Workplace(folder, device, _say)
    with suppress(EOFError):
        while True:
            connection.send(_do(paper, place, *connection.recv()))


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _do(paper: Paper, place: Workplace, cell: Cell[Any], recipe: str | None) -> Answer:
    """Do one cell; what it refuses is an answer, what breaks it ends this process."""
    _say(f"== {cell.name}")
    began = time.monotonic()
    try:
        outcome = paper.do(place, cell, recipe)
    except AdapterHubError as error:
        traceback.print_exc()
        return Answer(error=" ".join(str(error).split()))
    seconds = time.monotonic() - began
    _say(f"   {seconds:.1f} s")
    return Answer(outcome, round(seconds, 2))


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


def visible_gpus(device: str | None) -> tuple[str, ...]:
    """Return the GPUs that a run may use, by the names that CUDA_VISIBLE_DEVICES knows them by.

    Args:
        device: torch's name: one GPU, or all that are visible; None for all of them, if there are any.
    """
    kind, _, index = (device or "cuda").partition(":")
    if kind != "cuda":
        return ()
    import torch  # noqa: PLC0415 - slow to import, and the workers do it, too

    count, listed = torch.cuda.device_count(), os.environ.get("CUDA_VISIBLE_DEVICES")
    names = listed.split(",")[:count] if listed is not None else [str(number) for number in range(count)]
    return tuple(name for number, name in enumerate(names) if index in ("", str(number)))


def share(worker: int, workers: int, gpus: Sequence[str]) -> dict[str, str]:
    """Return the environment of a worker: one GPU and its part of the cores, or one core.

    With a GPU the cores only decode and featurise audio. Without one a worker has a single thread, so that
    the same cell gives the same numbers with any number of workers.

    Args:
        worker: counted from 1.
        workers: how many there are.
        gpus: to be used, in turns if they are fewer than workers.
    """
    threads = 1
    if gpus:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        threads = max(1, cores // workers)
    environment = {"OMP_NUM_THREADS": str(threads), "TOKENIZERS_PARALLELISM": "false"}
    if gpus:
        environment["CUDA_VISIBLE_DEVICES"] = gpus[(worker - 1) % len(gpus)]
    return environment


@contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    """Set variables for a process that is started now: numpy and torch read them when they are imported."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
