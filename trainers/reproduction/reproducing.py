"""`adapter-hub reproduce`: run the cells of a paper's tables, several at a time, then write the report.

    reproduce(Path("runs/lora-whisper"), ReproduceOptions("lora-whisper", jobs=2), tell=print)

Kill it whenever you like: the same command resumes. A cell that fails is reported and the run goes on; what
depends on it is named at the end. Nothing finished is done again.
"""

from __future__ import annotations

import os
import platform
import sys
import time
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from adapter_hub.artifact.privacy import disclosures, plain_name
from adapter_hub.base_model.naming import split_claim
from adapter_hub.errors import AdapterHubError, ConflictError
from adapter_hub.packages import package_versions
from adapter_hub.reporting import Tell
from adapter_hub.trainers.provenance import code_revision
from adapter_hub.trainers.reproduction.cells import Cell, Outcome
from adapter_hub.trainers.reproduction.paper import (
    Paper,
    PaperSettings,
    completed,
    paper_class,
    settings_text,
)
from adapter_hub.trainers.reproduction.run import Run, chosen_tables
from adapter_hub.trainers.reproduction.workers import Answer, Workers, visible_gpus


@dataclass(frozen=True)
class ReproduceOptions:
    """What to reproduce, and how.

    Attributes:
        paper: one of `PAPERS`.
        scale: one of the paper's, like `mini` or `paper`.
        settings: another settings file instead of the scale's.
        base_model: id or folder, for settings that leave it open.
        data: the folder of all recordings, for settings that leave it open.
        jobs: worker processes.
        tables: some of the settings'; None for all of them.
        minutes: after which no further cell is begun; None for no limit.
        device: torch's name; None for a GPU if there is one.
        command: to be noted in the report.
    """

    paper: str = "lora-whisper"
    scale: str = "mini"
    settings: Path | None = None
    base_model: str | None = None
    data: str | None = None
    jobs: int = 2
    tables: tuple[int, ...] | None = None
    minutes: float | None = None
    device: str | None = None
    command: str = ""

    @property
    def where(self) -> str:
        """What to call the settings in errors."""
        return str(self.settings or f"settings of scale {self.scale}")

    def text(self, paper: type[Paper]) -> str:
        """Return the settings as TOML, with what they leave open.

        Args:
            paper: the paper.

        Raises:
            NotFoundError: no such scale or file. InvalidInputError: not UTF-8, or nothing was left open.
        """
        text = settings_text(paper, self.scale, self.settings)
        opened = {"base_model": self.base_model, "data": self.data}
        return completed(text, {key: value for key, value in opened.items() if value}, self.where)


def reproduce(folder: Path, options: ReproduceOptions, *, tell: Tell) -> Path:
    """Run what is not finished yet, and write the report.

    Args:
        folder: new, or of an interrupted run of the same settings.
        options: what, and how.
        tell: receives lines of progress.

    Returns:
        The report, a Markdown file.

    Raises:
        ConflictError: another run works in the folder, or it is something else.
        AdapterHubError: cells failed, or the plan is hopeless; the report with gaps is written nevertheless.
    """
    paper = paper_class(options.paper)
    run = Run.start(paper, folder, options.text(paper), options.where, options.tables)
    try:
        with FileLock(folder / "lock", timeout=0):
            run = Run.open(paper, folder, options.tables)  # another run may just have ended
            run.note_start(_provenance(options, run))
            failed = work_through(run, options, tell)
            report = run.paper.report(run, tell)
    except Timeout:
        raise ConflictError(f"{folder}: another run works there; wait, or choose another --out") from None
    tell(f"report: {report}")
    if run.plan.hopeless:
        raise AdapterHubError(run.plan.hopeless)
    if failed:
        blocked = sum(bool(run.plan.missing(cell, run.outcomes)) for cell in run.left(failed))
        first, reason = next(iter(failed.items()))
        raise AdapterHubError(
            f"failed cells: {len(failed)}, with {blocked} that depend on them; the first is {first}: "
            f"{reason}; run the same command to try again"
        )
    return report


def work_through(run: Run, options: ReproduceOptions, tell: Tell) -> dict[str, str]:
    """Run every cell that can be run, each as soon as what it needs is there.

    Args:
        run: opened, and locked.
        options: how.
        tell: receives a line for every cell.

    Returns:
        Why cells failed, by name.
    """
    _look(run, tell)
    tell(f"{len(run.outcomes)} of {len(run.plan.cells)} cells are finished")
    failed: dict[str, str] = {}
    end = inf if options.minutes is None else time.monotonic() + 60 * options.minutes
    spent = estimated = 0.0  # seconds of the cells that were run now
    gpus = visible_gpus(options.device)
    with Workers(run.paper, run.folder, options.jobs, options.device, gpus) as workers:
        while True:
            while workers.idle and time.monotonic() < end:
                cell = run.next(failed.keys() | workers.busy)
                if cell is None:
                    break
                workers.give(cell, run.paper.recipe(cell))
            if not workers.busy:
                break
            for cell, answer in workers.answers():
                if answer.outcome is None:
                    failed[cell.name] = answer.error
                    tell(f"failed: {cell.name}: {answer.error}")
                    continue
                run.finish(cell, answer.seconds, answer.outcome)
                _look(run, tell)
                spent, estimated = spent + answer.seconds, estimated + cell.effort
                factor = spent / max(estimated, 1e-9) / options.jobs
                tell(_line(run, cell, answer, factor * sum(c.effort for c in run.left(failed))))
    _tell_of_the_rest(run, failed, tell)
    return failed


def _line(run: Run, cell: Cell[Any], answer: Answer, left: float) -> str:
    """Return the line of a finished cell, with the seconds that are left for all others."""
    found = run.paper.summary(answer.outcome or {})
    minutes = round(left / 60)
    parts = [
        f"[{len(run.outcomes)}/{len(run.plan.cells)}] {cell.name}",
        f"{answer.seconds:.0f} s",
        found,
        f"{minutes // 60}:{minutes % 60:02d} h left",
    ]
    return "  ".join(part for part in parts if part)


def _look(run: Run, tell: Tell) -> None:
    """Learn what follows from the finished cells; write choices that are new down, and report them."""
    run.look()
    for name in run.note_choices():
        choice = run.plan.choices[name]
        tell(f"{choice.quantity} of {name}: {choice.rate:g} (on dev {choice.tried(' %')})")


def _tell_of_the_rest(run: Run, failed: dict[str, str], tell: Tell) -> None:
    """Say which cells did not run, and why."""
    left = list(run.left(failed))
    for cell in left:
        if failed and (missing := run.plan.missing(cell, run.outcomes)):
            tell(f"not run: {cell.name}: needs {', '.join(missing)}")
    if left and not failed and not run.plan.hopeless:
        tell(f"time is up: {len(left)} cells left; the same command resumes")


def _provenance(options: ReproduceOptions, run: Run) -> Outcome:
    revision, dirty = code_revision()
    return {
        "command": options.command,
        "tables": list(run.tables),
        "jobs": options.jobs,
        "code_revision": revision,
        "dirty": dirty,
        "python": platform.python_version(),
        "machine": f"{platform.machine()}, {os.cpu_count()} logical cores",
        "packages": package_versions(),
    }


def rebuild_report(folder: Path, options: ReproduceOptions, *, tell: Tell) -> Path:
    """Write the report again from what is finished, without running anything.

    Args:
        folder: of the run.
        options: the paper, and the tables.
        tell: receives lines of progress.
    """
    run = Run.open(paper_class(options.paper), folder, options.tables)
    return run.paper.report(run, tell)


def planned(options: ReproduceOptions) -> tuple[PaperSettings, list[tuple[str, str, float]]]:
    """Return the settings and the cells of a plan: kind, name, estimated seconds.

    Args:
        options: the paper, its settings, the tables.
    """
    paper = paper_class(options.paper)
    read = paper.read(options.text(paper), options.where)
    plan = read.plan(chosen_tables(read.settings.tables, options.tables), {})
    return read.settings, [(cell.kind, cell.name, cell.effort) for cell in plan.cells]


def command_line() -> str:
    """Return the command as it was typed, but for where its files are on this machine."""
    return " ".join(["adapter-hub", *map(_published, sys.argv[1:])])


def _published(word: str) -> str:
    option, equals, value = word.partition("=") if word.startswith("--") else ("", "", word)
    claimed, _ = split_claim(value)
    if any(disclosures(value)):
        value = claimed or f"…/{Path(value).name}"
    return option + equals + "/".join(part and plain_name(part, "…") for part in value.split("/"))
