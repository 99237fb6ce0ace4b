"""Try every fault of `hub_faults.py`, kills and races, and write down what came of them.

python tests/fault_table.py [--workers 8] [--most 3] [--kills 200] [--out benchmarks/results]

The trials run in several processes, each with a Hub of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import asdict
from functools import partial
from importlib.metadata import version
from itertools import count
from multiprocessing import get_context
from pathlib import Path
from typing import Any

COMMAND = "python tests/fault_table.py"
PACKAGES = ("huggingface_hub", "httpx2")
RACES = {
    "versions": "eight versions of one name",
    "names": "eight names",
    "same": "the same bytes of one version",
    "other": "other bytes of one version",
    "older": "eight versions beside a newer one",
    "older same": "the same bytes of a version beside a newer one",
    "older other": "other bytes of a version beside a newer one",
}
Row = dict[str, Any]

_hub: Any = None
_folder = Path()
_numbers = count()


def start_worker(folder: Path) -> None:
    """Serve a Hub of this process's own."""
    global _hub, _folder
    from loopback_hub import LoopbackHub

    _folder = folder / str(os.getpid())
    _hub = LoopbackHub(_folder / "hub", redirect=True).start()


def profiles(_: int) -> dict[str, Counter[str]]:
    from hub_faults import OPERATIONS, profile

    return {
        name: profile(_hub, _folder / f"p{number}", name, f"p{number}")
        for number, name in enumerate(OPERATIONS)
    }


def attempt(case: Any) -> Row:
    """Carry one case out in this process; what went wrong is a row, too."""
    from hub_faults import carry_out

    namespace = f"t{next(_numbers)}"
    row = asdict(case)
    try:
        outcome = carry_out(_hub, _folder / namespace, namespace, case)
    except Exception as error:  # noqa: BLE001 - it is told in the table
        return {**row, "failure": f"{type(error).__name__}: {error}"}
    line = re.sub(rf"\b{namespace}\b", "alice", outcome.line)
    line = re.sub(r"http://127\.0\.0\.1:\d+", "https://hub.example", line)
    return {**row, "error": outcome.error, "line": line, "seconds": round(outcome.seconds, 2)}


def try_all(folder: Path, workers: int, most: int) -> tuple[dict[str, Counter[str]], list[Row]]:
    from hub_faults import cases

    pool = ProcessPoolExecutor(
        workers, mp_context=get_context("spawn"), initializer=partial(start_worker, folder)
    )
    with pool:
        requests = pool.submit(profiles, 0).result()
        found = [case for name, counts in requests.items() for case in cases(name, counts, most)]
        random.Random("order").shuffle(found)
        rows = []
        for number, row in enumerate(pool.map(attempt, found, chunksize=1), 1):
            rows.append(row)
            if "failure" in row or number % 100 == 0:
                sys.stderr.write(f"{number} of {len(found)} {row.get('failure', '')}\n")
    rows.sort(key=lambda row: (row["operation"], row["endpoint"], row["fault"], row["always"], row["number"]))
    return requests, rows


def run_program(name: str, *words: str) -> str:
    """Run a program beside this file; return what it prints, or how it failed."""
    here = Path(__file__).parent
    paths = os.pathsep.join([str(here), str(here.parent)])
    with tempfile.TemporaryDirectory() as scratch:
        done = subprocess.run(
            [sys.executable, str(here / name), *(word.replace("FOLDER", scratch) for word in words)],
            env={**os.environ, "PYTHONPATH": paths},
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode:
        sys.stderr.write(done.stderr)
        return f"{' '.join(words[:-1])}: **failed**: {done.stderr.splitlines()[-1]}"
    return done.stdout.strip()


def kills_and_races(kills: int) -> list[str]:
    """Return the part of the page about clients that die and clients that meet."""
    if not kills:
        return []
    operations = ("publish", "publish an older version", "pull", "pull without a registry")
    with ThreadPoolExecutor(2) as pool:
        killed = list(
            pool.map(lambda name: run_program("hub_killing.py", name, str(kills), "FOLDER"), operations)
        )
    races = []
    for scenario, what in RACES.items():
        told = run_program("hub_racing.py", scenario, "FOLDER")
        if "failed" in told:
            races.append(told)
            continue
        value = json.loads(told)
        landed, lost = value["codes"][:8].count(0), value["codes"][:8].count(3)
        races.append(
            f"{what}: {landed} landed, {lost} were told that the version exists; {value['stale']} commits "
            f"were refused because somebody was faster, {value['seconds']} s"
        )
    return [
        "",
        "## Killed",
        "",
        "A client is killed (SIGKILL) when the Hub has received, carried out or answered its n-th request, "
        "before its n-th fsync, rename, unlink, rmdir or mkdir (`write`), or at a random moment (`time`). "
        "After each kill the disks are looked at, and a fresh process says the same again, which has to "
        "finish everything.",
        "",
        *(f"- {line}" for line in killed),
        "",
        "## Eight publishers in eight processes at the same moment",
        "",
        *(f"- {line}" for line in races),
    ]


def cell(rows: list[Row]) -> str:
    """Return `recovered + refused`, and what is left over in bold."""
    if not rows:
        return ""
    failed = sum("failure" in row for row in rows)
    refused = sum(row.get("error") is not None for row in rows)
    recovered = len(rows) - failed - refused
    text = " + ".join([str(recovered), *([f"{refused} e"] if refused else [])])
    return f"{text}, **{failed} failed**" if failed else text


def table(rows: list[Row], always: bool) -> list[str]:
    from hub_faults import FAULTS

    chosen: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in rows:
        if row["always"] is always:
            chosen[row["endpoint"], row["fault"]].append(row)
    lines = [f"| request | {' | '.join(FAULTS)} |", f"|---|{'---|' * len(FAULTS)}"]
    for endpoint in sorted({name for name, _ in chosen}):
        cells = [cell(chosen.get((endpoint, fault), [])) for fault in FAULTS]
        lines.append(f"| {endpoint} | {' | '.join(cells)} |")
    return lines


def examples(rows: list[Row]) -> list[str]:
    kinds = Counter(row["error"] for row in rows if row.get("error"))
    lines = []
    for kind, number in kinds.most_common():
        line = min((row["line"] for row in rows if row.get("error") == kind), key=len)
        lines.append(f"| {kind} | {number} | `` {line} `` |")
    return lines


def report(requests: dict[str, Counter[str]], rows: list[Row], seconds: float, more: list[str]) -> str:
    failed = [row for row in rows if "failure" in row]
    noticed = sum(row.get("error") is not None for row in rows)
    versions = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    by_operation = []
    for name, counts in requests.items():
        here = [row for row in rows if row["operation"] == name]
        once = cell([row for row in here if not row["always"]])
        always = cell([row for row in here if row["always"]])
        by_operation.append(f"| {name} | {sum(counts.values())} | {once} | {always} |")
    return "\n".join(
        [
            "# Faults of the Hub that were tried, and what came of them",
            "",
            f"`{COMMAND}` writes this page. {len(rows)} trials in {seconds / 60:.0f} minutes: "
            f"{len(rows) - noticed - len(failed)} were survived without a word, {noticed} ended in an error "
            f"of one line, {len(failed)} failed.",
            f"Python {platform.python_version()}, {versions}, a loopback Hub that speaks its protocol "
            "(`tests/loopback_hub`), the unmodified client.",
            "",
            "In each trial one machine publishes or pulls while the fault happens. Then the server's disk is "
            "looked at: what has a tag is whole, what is listed is there, the cache holds nothing wrong. The "
            "fault is removed and the same machine says the same again, which has to finish everything: "
            "registry and store agree, each version and each status is there once, another machine gets the "
            "bytes. `12` means that twelve trials were survived without a word; `+ 3 e` that three more "
            "ended in an error of one line and were mended by saying the same again.",
            "A tag that moves between two requests, a full disk and damaged downloads have tests of their "
            "own (`tests/test_hub_attacks.py`, `tests/test_hub_crash_safety.py`).",
            "`*` is the registry's repository, the others are the adapter's.",
            "",
            "| operation | requests | once | for good |",
            "|---|---|---|---|",
            *by_operation,
            "",
            "## Once, at one request",
            "",
            *table(rows, always=False),
            "",
            "## For good, until it is removed",
            "",
            "Some of these are survived, too: an answer that is lost after the work is looked up.",
            "",
            *table(rows, always=True),
            "",
            "## What the user reads",
            "",
            "| error | trials | the shortest line |",
            "|---|---|---|",
            *examples(rows),
            *more,
            *(["", "## Failed", "", *(f"- {row}" for row in failed)] if failed else []),
            "",
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, default=4 * (os.cpu_count() or 1), help="they mostly wait")
    parser.add_argument("--most", type=int, default=3, help="requests of one kind in one operation")
    parser.add_argument(
        "--kills", type=int, default=200, help="of each of four operations; 0: no races either"
    )
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    chosen = parser.parse_args()
    os.environ.update(HF_HUB_DISABLE_TELEMETRY="1", HF_HUB_DISABLE_PROGRESS_BARS="1")
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["HF_HOME"] = scratch
        requests, rows = try_all(Path(scratch), chosen.workers, chosen.most)
    seconds = time.monotonic() - started
    more = kills_and_races(chosen.kills)
    chosen.out.mkdir(parents=True, exist_ok=True)
    (chosen.out / "hub_faults.md").write_text(report(requests, rows, seconds, more))
    sys.exit(any("failure" in row for row in rows) or any("**failed**" in line for line in more))


if __name__ == "__main__":
    main()
