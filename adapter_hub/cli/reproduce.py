"""`reproduce`: the tables of a paper."""

from __future__ import annotations

import json
from pathlib import Path

import click

from adapter_hub.cli.terminal.arguments import PATH, Number
from adapter_hub.cli.terminal.echo import echo_json, echo_line, echo_note, echo_text
from adapter_hub.cli.terminal.global_options import GlobalOptions
from adapter_hub.cli.terminal.tables import table
from adapter_hub.errors import InvalidInputError


def _numbers(text: str | None) -> tuple[int, ...] | None:
    if text is None:
        return None
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise InvalidInputError(f"--tables {text!r}: expected numbers, like 3,4") from None


@click.command()
@click.argument("paper", type=click.Choice(["lora-whisper"]))
@click.option(
    "--scale",
    type=click.Choice(["mini", "paper"]),
    default="mini",
    show_default=True,
    help="In miniature, on two cores and synthesised speech, or at the paper's size.",
)
@click.option("--settings", "file", type=PATH, help="GlobalOptions of your own, TOML.")
@click.option("--out", type=PATH, help="Folder of the run; kept, and resumed.")
@click.option(
    "--jobs",
    type=click.IntRange(1),
    default=2,
    show_default=True,
    help="Cells at a time; each has one GPU, if any.",
)
@click.option("--tables", help="Some of 2,3,4,5. Default: all that the settings name.")
@click.option("--minutes", type=Number(0), help="Begin no further cell after that; gaps are marked.")
@click.option("--dry-run", is_flag=True, help="Print the cells and their sizes, run nothing.")
@click.option("--report-only", is_flag=True, help="Write the report again from what is finished.")
@click.option("--json", "as_json", is_flag=True, help="Print every number as JSON.")
@click.pass_obj
def reproduce(
    options: GlobalOptions,
    paper: str,
    scale: str,
    file: Path | None,
    out: Path | None,
    jobs: int,
    tables: str | None,
    minutes: float | None,
    dry_run: bool,
    report_only: bool,
    as_json: bool,
) -> None:
    """Train and evaluate every system of a paper, and print its tables next to the paper's numbers.

    PAPER is lora-whisper. Kill it whenever you like: the same command resumes with what is not finished.
    Needs the extra `demo`: `pip install '.[demo]'` in the project's checkout.
    """
    from adapter_hub.trainers.reproduction import reproducing

    wanted = reproducing.ReproduceOptions(
        scale=scale,
        settings=file,
        jobs=jobs,
        tables=_numbers(tables),
        minutes=minutes,
        device=options.device,
        command=reproducing.command_line(),
    )
    if dry_run:
        chosen, cells = reproducing.planned(wanted)
        if as_json:
            echo_json([{"kind": kind, "name": name, "seconds": seconds} for kind, name, seconds in cells])
        else:
            rows = [[kind, name, f"{seconds:.0f}"] for kind, name, seconds in cells]
            echo_text(table(["kind", "cell", "about s"], rows))
        hours = sum(seconds for *_, seconds in cells) / 3600 / jobs
        echo_note(f"{chosen.name}: {len(cells)} cells, about {hours:.1f} h with {jobs} at a time")
        return
    if out is None:
        raise InvalidInputError("--out is missing: the folder of the run")
    if report_only:
        report = reproducing.rebuild_report(out, wanted.tables, tell=echo_note)
    else:
        report = reproducing.reproduce(out, wanted, tell=echo_note)
    if as_json:
        echo_json(json.loads(report.with_name("results.json").read_bytes()))
    else:
        echo_line(report)
