"""Peak memory of decoding with an adapter, against transformers' `generate` on the merged model.

    OMP_NUM_THREADS=1 python benchmarks/memory.py --shape small --batch 1 --batch 4

Each side runs in a process of its own, from the encoder's output to tokens; what counts is the most resident
memory while it searches beyond what it had with its model loaded. Ours includes the decoder's weights once
more in the order of the CPU's kernels, and the adapter. Adds to the results of `decoding.py`; needs Linux.
"""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import torch
from decoding import Bench, write
from random_whisper import merged, random_adapter, random_base

from adapter_hub.model.quiet import quiet
from adapter_hub.model.session import Session

STATUS, RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def resident(field: str) -> int:
    """Return a line of the process's status in KiB: VmRSS is now, VmHWM is the most since the last reset."""
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(field))
    return int(line.split()[1])


def measured(side: str, shape: str, batch: int, beams: int, tokens: int) -> dict[str, Any]:
    """Return what one side needs, MiB, and the tokens that it found."""
    torch.set_num_threads(1)
    base = random_base(shape)
    adapter = random_adapter(base, 0)
    bench = Bench(shape, base, [adapter], [], 1, tokens)
    run: Callable[[], list[list[int]]]
    if side == "ours":
        run = bench.ours(Session(base), [adapter] * batch, beams)
    else:
        run = bench.generate(merged(base, adapter), batch, beams)
    gc.collect()
    before = resident("VmRSS")
    RESET.write_text("5")
    with quiet(), torch.inference_mode():
        texts = run()
    return {"mib": round((resident("VmHWM") - before) / 1024), "texts": texts}


def one(shape: str, batch: int, beams: int, tokens: int) -> dict[str, Any]:
    """Return a row: both sides, each in a process of its own."""
    found = {}
    for side in ("ours", "theirs"):
        arguments = ["--side", side, "--shape", shape, "--tokens", str(tokens)]
        arguments += ["--batch", str(batch), "--beams", str(beams)]
        done = subprocess.run(
            [sys.executable, __file__, *arguments], check=True, capture_output=True, text=True, env=os.environ
        )
        found[side] = json.loads(done.stdout.splitlines()[-1])
    if found["ours"]["texts"] != found["theirs"]["texts"]:
        sys.exit(f"error: batch {batch}: tokens differ")
    ours, theirs = found["ours"]["mib"], found["theirs"]["mib"]
    return {"batch": batch, "beams": beams, "ours": ours, "theirs": theirs, "ratio": round(theirs / ours, 2)}


@click.command()
@click.option("--shape", default="small", type=click.Choice(["mini", "tiny", "small"]))
@click.option("--batch", "batches", multiple=True, type=int, default=(1, 4))
@click.option("--beams", default=5)
@click.option("--tokens", default=8, help="Tokens of every text.")
@click.option("--side", type=click.Choice(["ours", "theirs"]), help="Measure one side in this process.")
@click.option("--out", type=click.Path(path_type=Path), default=Path("benchmarks/results/decoding"))
def main(shape: str, batches: tuple[int, ...], beams: int, tokens: int, side: str | None, out: Path) -> None:
    if side is not None:
        print(json.dumps(measured(side, shape, batches[0], beams, tokens)))
        return
    rows = []
    for batch in batches:
        rows.append(one(shape, batch, beams, tokens) | {"tokens": tokens})
        print(shape, rows[-1], flush=True)
    results = json.loads(out.with_suffix(".json").read_text())
    results["shapes"].setdefault(shape, {})["memory"] = rows
    write(results, out)


if __name__ == "__main__":
    main()
