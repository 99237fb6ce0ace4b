"""`adapter-hub reproduce`: run the cells of the tables, then write the report.

    reproduce(Path("runs/lora-whisper"), ReproduceOptions(jobs=2), tell=print)

Kill it whenever you like; the same command resumes.
"""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from adapter_hub.errors import AdapterHubError, ConflictError, InvalidInputError
from adapter_hub.packages import package_versions
from adapter_hub.reporting import Tell
from adapter_hub.trainers.provenance import code_revision
from adapter_hub.trainers.reproduction.cells import Known
from adapter_hub.trainers.reproduction.crew import Crew, visible_gpus
from adapter_hub.trainers.reproduction.plan import plan
from adapter_hub.trainers.reproduction.queueing import Queue
from adapter_hub.trainers.reproduction.report import write_report
from adapter_hub.trainers.reproduction.run import Run
from adapter_hub.trainers.reproduction.settings import TABLES, Settings, parse_settings, settings_text


@dataclass(frozen=True)
class ReproduceOptions:
    """How to reproduce.

    Attributes:
        scale: `mini` or `paper`.
        settings: another settings file instead of the scale's.
        jobs: worker processes.
        tables: some of 2, 3, 4, 5; None for all of the settings'.
        minutes: after which no further cell is begun; None for no limit.
        device: torch's name; None for a GPU if there is one.
        command: to be noted in the report.
    """

    scale: str = "mini"
    settings: Path | None = None
    jobs: int = 2
    tables: tuple[int, ...] | None = None
    minutes: float | None = None
    device: str | None = None
    command: str = ""


def reproduce(folder: Path, options: ReproduceOptions, *, tell: Tell) -> Path:
    """Run what is not finished yet, and write the report.

    Args:
        folder: new, or of an interrupted run of the same settings.
        options: how.
        tell: receives lines of progress.

    Returns:
        The report, a Markdown file.

    Raises:
        ConflictError: another run works in the folder, or it is something else.
        AdapterHubError: cells failed, or every learning rate of a system diverged; the report with gaps is
            written nevertheless.
    """
    where = str(options.settings or f"settings of scale {options.scale}")
    run = Run.start(folder, settings_text(options.scale, options.settings), where)
    tables = chosen_tables(run.settings, options.tables)
    try:
        with FileLock(folder / "lock", timeout=0):
            queue = _run(run, options, tables, tell)
            report = write_report(run, tables, tell)
    except Timeout:
        raise ConflictError(f"{folder}: another run works there; wait, or choose another --out") from None
    tell(f"report: {report}")
    if hopeless := queue.hopeless():
        raise AdapterHubError(
            f"every learning rate of {', '.join(hopeless)} diverged, so nothing can be tested; try lower "
            "peak_learning_rates with another --out, or look for broken audio with `adapter-hub data check`"
        )
    if queue.failed:
        blocked = [c.name for c, reason in queue.left() if reason.startswith("needs ")]
        first, reason = next(iter(queue.failed.items()))
        raise AdapterHubError(
            f"{len(queue.failed)} cells failed, {len(blocked)} depend on them; the first is {first}: "
            f"{reason}; run the same command to try them again"
        )
    return report


def _run(run: Run, options: ReproduceOptions, tables: Sequence[int], tell: Tell) -> Queue:
    revision, dirty = code_revision()
    run.note_start(
        {
            "command": options.command,
            "tables": list(tables),
            "jobs": options.jobs,
            "code_revision": revision,
            "dirty": dirty,
            "python": platform.python_version(),
            "machine": f"{platform.machine()}, {os.cpu_count()} logical cores",
            "packages": package_versions(),
        }
    )
    stop = None if options.minutes is None else 60 * options.minutes
    queue = Queue(run, tables, tell, stop_after=stop)
    with Crew(run.folder, options.jobs, options.device, visible_gpus(options.device)) as crew:
        queue.work_through(crew)
    left = list(queue.left())
    for cell, reason in left:
        if reason.startswith("needs ") and queue.failed:
            tell(f"not run: {cell.name}: {reason}")
    if left and not queue.failed and not queue.hopeless():
        tell(f"time is up: {len(left)} cells left; the same command resumes")
    return queue


def rebuild_report(folder: Path, tables: tuple[int, ...] | None, *, tell: Tell) -> Path:
    """Write the report again from what is finished, without running anything."""
    run = Run.open(folder)
    return write_report(run, chosen_tables(run.settings, tables), tell)


def chosen_tables(settings: Settings, wanted: tuple[int, ...] | None) -> tuple[int, ...]:
    """Return the tables of a run.

    Raises:
        InvalidInputError: one that the paper does not have, or the settings leave out.
    """
    if wanted is None:
        return tuple(sorted(set(settings.tables)))
    for number in wanted:
        if number not in settings.tables:
            known = ", ".join(str(n) for n in TABLES if n in settings.tables)
            raise InvalidInputError(f"table {number}: none that can be reproduced; choose among {known}")
    return tuple(sorted(set(wanted)))


def planned(options: ReproduceOptions) -> tuple[Settings, list[tuple[str, str, float]]]:
    """Return the settings and the cells of a plan: kind, name, estimated seconds."""
    where = str(options.settings or f"settings of scale {options.scale}")
    settings = parse_settings(settings_text(options.scale, options.settings), where)
    cells = plan(settings, chosen_tables(settings, options.tables), Known())
    return settings, [(cell.kind, cell.name, cell.effort) for cell in cells]


def command_line() -> str:
    """Return the command as it was typed."""
    return " ".join(["adapter-hub", *sys.argv[1:]])
