"""Kill a bulk job at every write to the disk, start it again each time, and print what is left to judge.

    python tests/bulk_killing.py LIST MODEL BASE_MODEL OUT STRIDE

A child process kills itself (SIGKILL) just before its n-th fsync, rename, unlink or mkdir; the next one
goes on in the same folder. It prints how many were killed.
"""

from __future__ import annotations

import itertools
import os
import signal
import sys
from pathlib import Path

import torch
from killing import in_child, kill_before

from adapter_hub.bulk.job import Job
from adapter_hub.bulk.rows import read_rows
from adapter_hub.bulk.running import in_this_process, run


def main(place: Path, model: str, base_model: str, out: Path, stride: int) -> None:
    torch.set_num_threads(1)
    rows = read_rows(place)
    how = {"base_model": base_model}
    job = Job(model, how, {"beams": 1, "temperatures": (0.0,)}, mixed=True, shard_rows=2)

    def go_on(number: int) -> None:
        kill_before(number)
        run(job, rows, out, in_this_process, tell=print, progress=lambda _: None)

    for killed, number in enumerate(itertools.count(1, stride)):
        status = in_child(lambda number=number: go_on(number))
        if status == 0:
            print(killed)  # noqa: T201
            return
        assert os.WIFSIGNALED(status), status
        assert os.WTERMSIG(status) == signal.SIGKILL


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3], Path(sys.argv[4]), int(sys.argv[5]))
