"""`reproduce`: the tables of a paper."""

from __future__ import annotations

import json
import os
from pathlib import Path

import click

from adapter_hub.cli.terminal.arguments import PATH, Number
from adapter_hub.cli.terminal.echo import echo_json, echo_line, echo_note, echo_text
from adapter_hub.cli.terminal.global_options import GlobalOptions
from adapter_hub.cli.terminal.tables import table
from adapter_hub.errors import InvalidInputError
from adapter_hub.trainers.reproduction import PAPERS


def _numbers(text: str | None) -> tuple[int, ...] | None:
    if text is None:
        return None
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise InvalidInputError(f"--tables {text!r}: expected numbers, like 3,4") from None


@click.command()
@click.argument("paper", type=click.Choice(list(PAPERS)))
@click.option(
    "--scale",
    type=click.Choice(["mini", "real", "paper"]),
    default="mini",
    show_default=True,
    help="Synthesised speech and two cores, a real Whisper on recordings at hand, or the paper's size.",
)
@click.option("--settings", "file", metavar="FILE", type=PATH, help="Your own settings, a TOML file.")
@click.option("--base-model", metavar="FOLDER", help="Base model, where the settings leave it open.")
@click.option("--data", metavar="FOLDER", help="Folder of all recordings, where the settings leave it open.")
@click.option("--out", metavar="FOLDER", type=PATH, help="Folder of the run, which can be resumed.")
@click.option(
    "--jobs",
    metavar="N",
    type=click.IntRange(1),
    default=2,
    show_default=True,
    help="Number of cells to run at a time, each on one GPU, if there are GPUs.",
)
@click.option(
    "--tables", metavar="LIST", help="Tables to reproduce, like 3,4. Default: all that the settings name."
)
@click.option(
    "--minutes",
    metavar="N",
    type=Number(0),
    help="Start no further cell after this many minutes; the report marks what is missing.",
)
@click.option("--dry-run", is_flag=True, help="Print the cells and how long they take, and run nothing.")
@click.option("--report-only", is_flag=True, help="Only write the report again, from what is finished.")
@click.option("--json", "as_json", is_flag=True, help="Print all numbers as JSON.")
@click.pass_obj
def reproduce(
    options: GlobalOptions,
    paper: str,
    scale: str,
    file: Path | None,
    base_model: str | None,
    data: str | None,
    out: Path | None,
    jobs: int,
    tables: str | None,
    minutes: float | None,
    dry_run: bool,
    report_only: bool,
    as_json: bool,
) -> None:
    """Train and evaluate every system of a paper, and print its tables beside the paper's numbers.

    PAPER is lora-whisper or parameter-averaging. The run can be killed at any time: the same command resumes
    with what is not finished. Scale real is parameter-averaging's: give --base-model and --data.

    Needs the extra `demo`: `pip install '.[demo]'` in a clone of the project.
    """
    from adapter_hub.trainers.reproduction import reproducing

    os.environ["ADAPTER_HUB_CACHE"] = str(options.cache_folder)  # workers are processes of their own
    wanted = reproducing.ReproduceOptions(
        paper=paper,
        scale=scale,
        settings=file,
        base_model=base_model,
        data=data,
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
        raise InvalidInputError(
            "--out is missing: expected the folder of the run, like --out runs/lora-whisper"
        )
    if report_only:
        report = reproducing.rebuild_report(out, wanted, tell=echo_note)
    else:
        report = reproducing.reproduce(out, wanted, tell=echo_note)
    if as_json:
        echo_json(json.loads(report.with_name("results.json").read_bytes()))
    else:
        echo_line(report)
