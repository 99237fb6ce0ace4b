"""The worker processes of a run, what each may use of the machine, and what they report."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue
from typing import IO, Any

from adapter_hub.trainers.reproduction.cells import Cell


@dataclass(frozen=True)
class Report:
    """A worker's answer about a cell: an outcome, or why there is none."""

    worker: int
    cell: Cell
    outcome: dict[str, Any] | None
    seconds: float = 0.0
    error: str = ""


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


@dataclass
class Crew:
    """So many workers, each with one cell at a time; one that dies is replaced.

    Attributes:
        folder: of the run.
        size: how many.
        device: torch's name; None for a GPU if there is one.
        gpus: that the workers share out among them, see `visible_gpus`.
    """

    folder: Path
    size: int
    device: str | None = None
    gpus: Sequence[str] = ()
    reports: SimpleQueue[Report] = field(default_factory=SimpleQueue)
    _processes: dict[int, subprocess.Popen[str]] = field(default_factory=dict)
    _logs: dict[int, IO[str]] = field(default_factory=dict)

    def __enter__(self) -> Crew:
        (self.folder / "logs").mkdir(exist_ok=True)
        return self

    def __exit__(self, *_: object) -> None:
        """Close every worker's stdin, at which it ends."""
        for process in self._processes.values():
            if process.stdin:
                process.stdin.close()
        for process in self._processes.values():
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            if process.stdout:
                process.stdout.close()
        for log in self._logs.values():
            log.close()

    def log(self, worker: int) -> Path:
        """Return where a worker's talk goes."""
        return self.folder / "logs" / f"worker-{worker}.log"

    def give(self, worker: int, cell: Cell, recipe: str | None) -> None:
        """Let a worker do a cell; its report comes in `reports`."""
        process = self._processes.get(worker)
        if process is None or process.poll() is not None:
            process = self.start(worker)
        job = {"name": cell.name, "kind": cell.kind, "work": cell.work.to_json()}
        line = json.dumps({**job, "needs": cell.needs, "recipe": recipe})
        threading.Thread(target=self._follow, args=(worker, process, cell, line), daemon=True).start()

    def start(self, worker: int) -> subprocess.Popen[str]:
        """Start a worker's process, or the next one after one that died."""
        if worker in self._logs:
            self._logs[worker].close()
        self._logs[worker] = self.log(worker).open("a", encoding="utf-8")
        command = [sys.executable, "-m", "adapter_hub.trainers.reproduction.worker", str(self.folder)]
        if self.device is not None:
            command.append("cuda" if self.gpus else self.device)  # it sees its own GPU alone
        self._processes[worker] = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._logs[worker],
            text=True,
            env=os.environ | share(worker, self.size, self.gpus),
            start_new_session=True,  # Ctrl-C is for the run, which closes the workers' stdin
        )
        return self._processes[worker]

    def _follow(self, worker: int, process: subprocess.Popen[str], cell: Cell, line: str) -> None:
        """Wait for the answer of one cell."""
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(line + "\n")
            process.stdin.flush()
            answer = json.loads(process.stdout.readline())
        except (OSError, ValueError):
            code = process.wait()
            error = f"its worker ended with exit code {code}; see {self.log(worker)}"
            self.reports.put(Report(worker, cell, None, error=error))
            return
        self.reports.put(
            Report(worker, cell, answer.get("outcome"), answer.get("seconds", 0.0), answer.get("error", ""))
        )
