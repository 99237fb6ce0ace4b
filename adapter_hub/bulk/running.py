"""Running a bulk job, from its first row or from where it was stopped, to the summary of what is there.

    summary = run(job, rows, Path("out"), in_this_process, tell=print, progress=show)

Only this process writes into the output: each shard is there whole or not at all, so whatever is killed, the
next run makes what is missing. The summary is written last, after every row was found once in its shard.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from adapter_hub.bulk.job import Job, Opened
from adapter_hub.bulk.plan import PLAN_FILE, Block, Plan, read_plan, write_plan
from adapter_hub.bulk.rows import Row
from adapter_hub.bulk.shards import Column, carried_columns, check_form, read_shard, shard_bytes
from adapter_hub.bulk.transcribing import transcribed
from adapter_hub.errors import InvalidInputError
from adapter_hub.files.locks import held
from adapter_hub.files.writing import check_writable, is_temporary, make_folder, write_atomically
from adapter_hub.reporting import Tell

SUMMARY_FILE, LOCK_FILE = "summary.json", ".lock"
LISTED = 100  # rows that failed, in the summary
HOUR = 3600.0


@dataclass(frozen=True)
class Shard:
    """A shard that was made.

    Attributes:
        block: its rows.
        data: its bytes.
        seconds: of audio in it.
        failed: rows with an error.
    """

    block: Block
    data: bytes
    seconds: float
    failed: int


@dataclass(frozen=True)
class Work:
    """What is to do.

    Attributes:
        job: that is asked for.
        plan: of it.
        opened: gives it with its transcriber, which takes a while the first time.
        columns: of the input that are carried through.
        blocks: that are not done.
        heard: called within a block with recordings that are done, and their seconds of audio.
    """

    job: Job
    plan: Plan
    opened: Callable[[], Opened]
    columns: Mapping[str, Column]
    blocks: Sequence[Block]
    heard: Callable[[int, float], None]


Engine = Callable[[Work], Iterator[Shard]]


def in_this_process(work: Work) -> Iterator[Shard]:
    """Yield the shards one after another.

    Args:
        work: to do.
    """
    for block in work.blocks:
        yield made(work.opened(), block, work.columns, work.heard)


def made(
    opened: Opened,
    block: Block,
    columns: Mapping[str, Column],
    heard: Callable[[int, float], None] | None = None,
) -> Shard:
    """Transcribe a block.

    Args:
        opened: the job.
        block: of rows.
        columns: that are carried through.
        heard: called with recordings that are done, and their seconds of audio.
    """
    results = transcribed(opened, block.rows, heard)
    data = shard_bytes(results, block.rows, columns, opened.plan.form)
    failed = sum(result["error"] is not None for result in results)
    return Shard(block, data, sum(result["seconds"] for result in results), failed)


@dataclass(frozen=True)
class Progress:
    """How far a job is.

    Attributes:
        rows: that are done, those of earlier runs among them.
        of: all rows.
        failed: rows of this run with an error.
        seconds: of audio in this run.
        speed: hours of audio per hour, in this run.
        left: seconds of work, estimated; None where nothing is known yet.
    """

    rows: int
    of: int
    failed: int = 0
    seconds: float = 0.0
    speed: float = 0.0
    left: float | None = None


@dataclass
class _Meter:
    """Counts what is done, and tells it."""

    told: Progress
    tell: Callable[[Progress], None]
    started: float = field(default_factory=time.monotonic)
    before: int = 0
    part: tuple[int, float] = (0, 0.0)  # of the block that is being transcribed

    def __post_init__(self) -> None:
        self.before = self.told.rows

    def heard(self, count: int, seconds: float) -> None:
        self.part = self.part[0] + count, self.part[1] + seconds
        self._show(self.told.rows + self.part[0], self.told.seconds + self.part[1])

    def done(self, shard: Shard) -> None:
        self.part = 0, 0.0
        rows, seconds = self.told.rows + len(shard.block.rows), self.told.seconds + shard.seconds
        self.told = replace(self.told, rows=rows, seconds=seconds, failed=self.told.failed + shard.failed)
        self.told = self._show(rows, seconds)

    def _show(self, rows: int, seconds: float) -> Progress:
        passed = max(time.monotonic() - self.started, 1e-3)
        now, of = rows - self.before, self.told.of
        left = passed / now * (of - rows) if now else None
        shown = replace(self.told, rows=rows, seconds=seconds, speed=seconds / passed, left=left)
        self.tell(shown)
        return shown


@dataclass(frozen=True)
class Summary:
    """What a finished job has.

    Attributes:
        plan: of the job.
        shards: names of the files, in order.
        seconds: of audio.
        failed: rows with an error: the shard, the row's id, and why.
        truncated: rows whose recording is not whole.
    """

    plan: Plan
    shards: tuple[str, ...]
    seconds: float
    failed: tuple[tuple[str, str, str], ...]
    truncated: int

    def to_json(self) -> dict[str, Any]:
        """Return plain data, the same after every run of the job."""
        plan = self.plan
        return {
            "schema": "bulk-summary/1",
            "rows": plan.rows,
            "failed": len(self.failed),
            "truncated": self.truncated,
            "seconds": round(self.seconds, 3),
            "hours": round(self.seconds / HOUR, 3),
            "shards": len(self.shards),
            "settings": plan.settings,
            "base_model": {"id": plan.base_model_id, "digest": plan.base_model_digest},
            "adapters": [{"name": pin.name, "digest": pin.digest} for pin in plan.adapters],
            "errors": [
                {"shard": shard, "id": row, "error": error} for shard, row, error in self.failed[:LISTED]
            ],
        }


def run(
    job: Job,
    rows: Sequence[Row],
    out: Path,
    engine: Engine,
    *,
    tell: Tell,
    progress: Callable[[Progress], None],
    elsewhere: bool = False,
) -> Summary:
    """Run a job, or what is left of it.

    Args:
        job: that is asked for.
        rows: all.
        out: the folder of the output; it need not exist.
        engine: transcribes blocks.
        tell: called with warnings.
        progress: called now and then.
        elsewhere: whether the engine works in other processes, so that this one checks the job on the CPU and
            keeps no base model.

    Raises:
        ConflictError: the output is another job's, or another process is writing to it.
        InvalidInputError: the output holds something else, or a damaged shard.
        AdapterHubError: as `adapter_hub.load`.
    """
    check_form(job.form)
    if out.exists() and not out.is_dir():
        raise InvalidInputError(f"{out}: is a file; expected a folder for the shards")
    here = replace(job, places={**job.places, "device": "cpu"}) if elsewhere else job
    begun = None if read_plan(out) else here.begin(rows, tell)  # nothing is made for what cannot be
    with _alone(out):
        plan = read_plan(out)
        if plan is None:
            begun = begun or here.begin(rows, tell)
            plan = write_plan(begun.plan, out)
        if elsewhere:
            begun = None
        plan.check_same(rows, job.settings, out)
        blocks = list(plan.blocks(rows))
        missing = [block for block in blocks if not (out / block.name).is_file()]
        if missing:
            (out / SUMMARY_FILE).unlink(missing_ok=True)
            done = len(rows) - sum(len(block.rows) for block in missing)
            meter = _Meter(Progress(done, len(rows)), progress)
            opening = _Opening(job, plan, tell, begun)
            for shard in engine(Work(job, plan, opening, carried_columns(rows), missing, meter.heard)):
                write_atomically(out / shard.block.name, shard.data)
                meter.done(shard)
        summary = _summed(plan, blocks, out)
        text = json.dumps(summary.to_json(), indent=2, ensure_ascii=False)
        write_atomically(out / SUMMARY_FILE, f"{text}\n".encode())
        return summary


@dataclass
class _Opening:
    """Loads what a job needs when it is first asked for, unless that was done to begin it."""

    job: Job
    plan: Plan
    tell: Tell
    opened: Opened | None

    def __call__(self) -> Opened:
        if self.opened is None:
            self.opened = self.job.go_on(self.plan, self.tell)
        return self.opened


@contextmanager
def _alone(out: Path) -> Iterator[None]:
    """Hold the output of a job, and remove what a killed run left half-written in it."""
    check_writable(out / PLAN_FILE)
    make_folder(out)
    with held(out / LOCK_FILE, 0, str(out), "another process is writing to it; wait until it is done"):
        for file in out.iterdir():
            if is_temporary(file.name):
                file.unlink(missing_ok=True)
        yield


def _summed(plan: Plan, blocks: Sequence[Block], out: Path) -> Summary:
    """Read every shard, and see that each row is in its place once."""
    failed: list[tuple[str, str, str]] = []
    seconds, truncated = 0.0, 0
    for block in blocks:
        outcomes = read_shard(out / block.name)
        if [outcome.id for outcome in outcomes] != [row.id for row in block.rows]:
            raise InvalidInputError(
                f"{out / block.name}: does not hold its {len(block.rows)} rows; remove it and run the "
                "command again, which makes it anew"
            )
        failed += [(block.name, item.id, item.error) for item in outcomes if item.error is not None]
        seconds += sum(item.seconds for item in outcomes)
        truncated += sum(item.truncated is not None for item in outcomes)
    return Summary(plan, tuple(block.name for block in blocks), seconds, tuple(failed), truncated)
