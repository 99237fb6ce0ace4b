"""A worker of a reproduction: `python -m adapter_hub.trainers.reproduction.worker FOLDER [DEVICE]`.

Reads one cell a line from stdin and writes one answer a line to stdout, as JSON; imports, and what the
libraries keep in memory, serve all of its cells. It ends with its stdin, in the middle of a cell if need be:
a run that was killed leaves no worker behind, and its checkpoints are gone on from.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
import traceback
from pathlib import Path
from queue import SimpleQueue
from typing import Any, TextIO

from adapter_hub.errors import AdapterHubError
from adapter_hub.trainers.reproduction.cells import Cell, Work
from adapter_hub.trainers.reproduction.settings import parse_settings


def main() -> None:
    """Work until stdin ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints goes to the log
    jobs: SimpleQueue[str] = SimpleQueue()
    threading.Thread(target=_listen, args=(jobs,), daemon=True).start()
    folder = Path(sys.argv[1])
    settings = parse_settings((folder / "settings.toml").read_text(encoding="utf-8"), "settings.toml")
    import torch  # noqa: PLC0415 - after the thread that ends this process with its run

    from adapter_hub.trainers.reproduction.working import Workplace  # noqa: PLC0415

    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    place = Workplace(folder, settings, sys.argv[2] if len(sys.argv) > 2 else None, _log)
    while True:
        _answer(answers, _work(place, json.loads(jobs.get())))


def _listen(jobs: SimpleQueue[str]) -> None:
    for line in sys.stdin:
        jobs.put(line)
    os._exit(1)


def _work(place: Any, job: dict[str, Any]) -> dict[str, Any]:
    """Do one cell; what it refuses is an answer, what breaks it ends this worker."""
    cell = Cell(job["name"], job["kind"], Work.from_json(job["work"]), tuple(job["needs"]))
    _log(f"== {cell.name}")
    began = time.monotonic()
    try:
        outcome = place.run(cell, job["recipe"])
    except AdapterHubError as error:
        traceback.print_exc()
        return {"error": " ".join(str(error).split())}
    seconds = time.monotonic() - began
    _log(f"   {seconds:.1f} s")
    return {"outcome": outcome, "seconds": round(seconds, 2)}


def _answer(answers: TextIO, answer: dict[str, Any]) -> None:
    answers.write(json.dumps(answer) + "\n")
    answers.flush()


def _log(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    main()
