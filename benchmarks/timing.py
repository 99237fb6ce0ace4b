"""Timing in turns: what several benchmarks share."""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import peft
import torch
import transformers

Row = dict[str, Any]


def in_turns(runs: Mapping[str, Callable[[], Any]], repeats: int) -> dict[str, list[float]]:
    """Return the CPU seconds of every run, each `repeats` times in turns; all have run once before."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(repeats):
        for name, run in runs.items():
            start = time.thread_time()  # one thread computes, and others share the machine
            run()
            seconds[name].append(time.thread_time() - start)
    return seconds


def ratio(over: list[float], under: list[float]) -> dict[str, float]:
    """Return the ratio of the medians, and the least and the largest of a turn."""
    turns = [a / b for a, b in zip(over, under, strict=True)]
    return {
        "ratio": round(statistics.median(over) / statistics.median(under), 3),
        "low": round(min(turns), 3),
        "high": round(max(turns), 3),
        "seconds": round(statistics.median(under), 5),
        "peer_seconds": round(statistics.median(over), 5),
    }


def against(seconds: dict[str, list[float]], name: str, base: str) -> Row:
    found = ratio(seconds[name], seconds[base])
    found["seconds"], found["base_seconds"] = found.pop("peer_seconds"), found.pop("seconds")
    return found


def machine(about: str = "float32, SDPA, rank 32 on every linear") -> str:
    cpu = next(
        (
            line.split(":")[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ),
        platform.processor(),
    )
    return (
        f"{cpu}, {torch.get_num_threads()} thread of {os.cpu_count()}, Python {platform.python_version()}, "
        f"torch {torch.__version__}, transformers {transformers.__version__}, peft {peft.__version__}"
        f"{', ' if about else ''}{about}"
    )


def peer_line(row: Row, *cells: object) -> str:
    """Return a line of a table: cells, then the peer's time over ours, then both."""
    numbers = f"{row['ratio']} ({row['low']} - {row['high']}) | {row['seconds']} | {row['peer_seconds']}"
    return f"| {' | '.join(map(str, cells))} | {numbers} |"
