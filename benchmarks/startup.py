"""CPU seconds that the light commands take, on the embedded catalogue and on 1000 versions.

    python benchmarks/startup.py

The peer in the same run is a process that imports click and pydantic and does nothing: what any command
line with records pays. Goal: under 0.3 s of CPU for every command.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from pages import page

from adapter_hub import embedded
from adapter_hub.formats.canonical import digest_of

RUNS = 9
COMMAND = "python benchmarks/startup.py > benchmarks/results/startup.md"
ABOUT = """
CPU seconds of a whole process that runs a command, on the embedded catalogue and on a registry with 1000
versions more; the goal is under 0.3 s. The last column is that time over the peer's, a process that imports
click and pydantic and does nothing: 2 is twice as long.
"""
MEASURE = (
    "import resource, sys; {body}; used = resource.getrusage(resource.RUSAGE_SELF); "
    "print(used.ru_utime + used.ru_stime, file=sys.stderr)"
)


def seconds(body: str, environment: dict[str, str]) -> float:
    """Return the CPU seconds of a fresh process that runs `body`."""
    command = [sys.executable, "-c", MEASURE.format(body=body)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True, cwd="/")
    return float(done.stderr.splitlines()[-1])


def running(words: str) -> str:
    """Return the program that runs a command line."""
    return f"from adapter_hub.cli import main; assert main({words.split()!r}) == 0"


def thousand_versions(folder: Path) -> Path:
    """Write a registry of 1000 versions, made of the embedded catalogue's blocks."""
    tree = json.loads(embedded.registry_path().read_bytes())
    blocks = [block for versions in tree["adapters"].values() for block in versions.values()]
    tree |= {"registry_id": "benchmark", "adapters": {}}
    for number in range(1000):
        block = blocks[number % len(blocks)] | {"digest": digest_of(str(number).encode()), "parents": []}
        tree["adapters"].setdefault(f"many/a{number // 5}", {})[f"1.{number % 5}.0"] = block
    path = folder / "registry.json"
    path.write_text(json.dumps(tree, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    return path


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        cache = {"ADAPTER_HUB_CACHE": f"{name}/cache", "XDG_DATA_HOME": f"{name}/data"}
        plain = dict(os.environ) | cache
        many = plain | {"ADAPTER_HUB_REGISTRY": str(thousand_versions(Path(name)))}
        cases = {"peer: click and pydantic imported": ("import click, pydantic", plain)}
        cases["--help"] = (running("--help"), plain)
        for words in ("list", "show mini/da", "lineage mini/da", "audit"):
            cases[f"{words}, embedded catalogue"] = (running(f"{words} --json"), plain)
        for words in ("list", "show mini/da", "lineage mini/da", "audit mini/da"):
            cases[f"{words}, 1000 versions more"] = (running(f"{words} --json"), many)
        results = {case: [seconds(*arguments) for _ in range(RUNS)] for case, arguments in cases.items()}
    peer = statistics.median(next(iter(results.values())))
    lines = ["| command (--json) | CPU s, median (min - max) | of the peer's |", "|---|---|---|"]
    for case, found in results.items():
        median = statistics.median(found)
        spread = f"{median:.3f} ({min(found):.3f} - {max(found):.3f})"
        lines.append(f"| {case} | {spread} | {median / peer:.1f} |")
    note = f"Python {platform.python_version()}, {os.cpu_count()} cores, {RUNS} runs each"
    print(page("CPU time of the light commands", ABOUT, COMMAND, "\n".join(lines), note), end="")


if __name__ == "__main__":
    main()
