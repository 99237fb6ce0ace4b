"""Kill publishers and pullers at requests, at writes to the disk, at random; a fresh process has to finish.

python tests/hub_killing.py publish 200 FOLDER      # 0: at every request and every write

This process serves the Hub and judges. Another one, without threads, forks every client: the client is
killed (SIGKILL) by the Hub when its n-th request was carried out or answered, by itself before its n-th
fsync, rename, unlink, rmdir or mkdir, or after a while.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import socket
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from hub_trials import Trial
from killing import kill_before
from loopback_hub import Entry, LoopbackHub

from adapter_hub.hub import RetryPolicy

PATIENT = RetryPolicy(20.0, 20.0, 0.02)
PHASES = ("received", "processed", "answered")
NEVER = 10**9


@dataclass(frozen=True)
class FarHub:
    """The Hub, as a client in another process knows it."""

    endpoint: str
    secret: str

    def token(self, _: str) -> str:
        return self.secret


class Clients:
    """A process that forks clients, one at a time, each stopped until it may go on."""

    def __init__(self) -> None:
        """Fork it; to be called before this process has any threads."""
        ours, theirs = socket.socketpair()
        self.process = os.fork()
        if self.process == 0:
            ours.close()
            code = 1
            try:
                _serve_clients(theirs)
                code = 0
            finally:
                os._exit(code)
        theirs.close()
        self._file = ours.makefile("rw")

    def start(self, trial: Trial, write: int = NEVER) -> int:
        """Fork a client that kills itself before its `write`-th write; return its id, stopped."""
        hub = trial.hub
        self._say(
            [hub.endpoint, hub.token("test"), str(trial.folder), trial.namespace, trial.operation, write]
        )
        return int(json.loads(self._file.readline()))

    def go_on(self, client: int) -> None:
        os.kill(client, signal.SIGCONT)

    def wait(self) -> tuple[int, int]:
        """Return the exit code of the client, -9 if it was killed, and how often it wrote (if it was not)."""
        code, writes = json.loads(self._file.readline())
        return code, writes

    def close(self) -> None:
        self._file.close()
        os.waitpid(self.process, 0)

    def _say(self, value: object) -> None:
        self._file.write(f"{json.dumps(value)}\n")
        self._file.flush()


def _serve_clients(connection: socket.socket) -> None:
    """Fork a client for every line, and tell its id and its end."""
    import huggingface_hub.file_download
    import huggingface_hub.hf_api  # noqa: F401 - once, not in every client

    os.fsync = lambda descriptor: None  # a killed process loses nothing that it wrote; the calls still count
    file = connection.makefile("rw")
    for line in file:
        endpoint, secret, folder, namespace, operation, write = json.loads(line)
        told, tell = os.pipe()
        client = os.fork()
        if client == 0:
            os.close(told)
            trial = Trial(FarHub(endpoint, secret), Path(folder), namespace, operation)
            _be_client(trial, write, tell)
        os.close(tell)
        os.waitpid(client, os.WUNTRACED)
        file.write(f"{client}\n")
        file.flush()
        code = os.waitstatus_to_exitcode(os.waitpid(client, 0)[1])
        writes = int(os.read(told, 20) or b"0")
        os.close(told)
        file.write(f"{json.dumps([code, writes])}\n")
        file.flush()


def _be_client(trial: Trial, write: int, tell: int) -> None:
    code = 1
    try:
        os.kill(os.getpid(), signal.SIGSTOP)
        count = kill_before(write)
        trial.act(PATIENT)
        os.write(tell, str(count()).encode())
        code = 0
    except BaseException:  # noqa: BLE001 - this is all that there is of it
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def kill(client: int) -> None:
    with contextlib.suppress(ProcessLookupError):  # it was done before
        os.kill(client, signal.SIGKILL)


@dataclass(frozen=True)
class Point:
    """Where to kill: `kind` is a phase of an exchange, `write`, or `time`."""

    kind: str
    number: int = 0
    seconds: float = 0.0


class Killer:
    """Kills a client at one exchange."""

    def __init__(self, hub: LoopbackHub) -> None:
        self._lock = threading.Lock()
        self._client, self._point = 0, Point("")
        self.seen: Counter[str] = Counter()
        hub.on_exchange(self._notice)

    def aim(self, client: int, point: Point) -> None:
        with self._lock:
            self._client, self._point = client, point
            self.seen.clear()

    def _notice(self, phase: str, _: Entry) -> None:
        with self._lock:
            self.seen[phase] += 1
            if phase == self._point.kind and self.seen[phase] == self._point.number:
                kill(self._client)


class Killing:
    """Trials of one operation, with all that they need."""

    def __init__(self, hub: LoopbackHub, clients: Clients, folder: Path, operation: str) -> None:
        self.hub, self.clients, self.folder, self.operation = hub, clients, folder, operation
        self.killer = Killer(hub)
        self.number = 0

    def trial(self) -> Trial:
        self.number += 1
        namespace = f"t{self.number}"
        trial = Trial(self.hub, self.folder / namespace, namespace, self.operation)
        trial.prepare()
        return trial

    def run(self, trial: Trial, point: Point) -> tuple[int, int]:
        """Run a client until its end, or until `point`; return its exit code and its writes."""
        client = self.clients.start(trial, point.number if point.kind == "write" else NEVER)
        self.killer.aim(client, point)
        self.clients.go_on(client)
        if point.kind == "time":
            time.sleep(point.seconds)
            kill(client)
        code, writes = self.clients.wait()
        self.killer.aim(0, Point(""))
        self.hub.settle()
        return code, writes

    def points(self) -> list[Point]:
        """Return every point of an undisturbed run, and as many moments."""
        trial = self.trial()
        client = self.clients.start(trial)
        self.killer.aim(client, Point(""))
        started = time.monotonic()
        self.clients.go_on(client)
        code, writes = self.clients.wait()
        seconds = time.monotonic() - started
        self.hub.settle()
        requests = self.killer.seen["received"]
        assert code == 0
        trial.judge_finished()
        found = [Point(phase, number) for phase in PHASES for number in range(1, requests + 1)]
        found += [Point("write", number) for number in range(1, writes + 1)]
        chance = random.Random(self.operation)
        return found + [Point("time", seconds=chance.uniform(0, seconds)) for _ in found]

    def kill(self, wanted: int) -> Iterator[Point]:
        """Kill at points chosen by a seed, judge, let a fresh process finish; yield where it was killed."""
        killed = 0
        for point in self._chosen(wanted):
            trial = self.trial()
            code, _ = self.run(trial, point)
            assert code in (0, -signal.SIGKILL), f"{point}: exit code {code}"
            trial.judge()
            if code == 0:
                continue  # it was done before
            assert self.run(trial, Point(""))[0] == 0, f"{point}: saying it again failed"
            trial.judge_finished()
            killed += 1
            yield point
            if killed == wanted:
                return

    def _chosen(self, wanted: int) -> Iterator[Point]:
        """Yield points in a random order, always the same; without a number, each request and write once."""
        points = [point for point in self.points() if wanted or point.kind != "time"]
        random.Random(f"{self.operation} {wanted}").shuffle(points)
        yield from points
        while wanted:
            yield Point("time", seconds=random.uniform(0, 0.2))


def main(operation: str, wanted: int, folder: Path) -> None:
    os.environ.update(
        HF_HUB_DISABLE_TELEMETRY="1", HF_HUB_DISABLE_PROGRESS_BARS="1", HF_HOME=str(folder / "hf")
    )
    tempfile.tempdir = str(folder)  # what the killed leave there
    clients = Clients()
    with LoopbackHub(folder / "hub", redirect=True) as hub:
        started = time.monotonic()
        killing = Killing(hub, clients, folder, operation)
        points = list(killing.kill(wanted))
        kinds = Counter(point.kind for point in points)
        told = ", ".join(f"{kinds[kind]} {kind}" for kind in sorted(kinds))
        print(  # noqa: T201
            f"{operation}: {len(points)} kills at {len(set(points))} points ({told}), "
            f"{time.monotonic() - started:.0f} s"
        )
    clients.close()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))
