"""`data check`: what of a data set can be trained on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from adapter_hub.cli.terminal.arguments import PATH, PLACE, json_option
from adapter_hub.cli.terminal.echo import echo_json, echo_line, echo_text
from adapter_hub.cli.terminal.global_options import GlobalOptions
from adapter_hub.cli.terminal.tables import counted, table
from adapter_hub.escaping import shown

if TYPE_CHECKING:
    from adapter_hub.trainers.data.check import DataReport


@click.group()
def data() -> None:
    """Check data sets before training on them."""


@data.command("check", short_help="Report what can be trained on.")
@click.argument("place", metavar="FOLDER|FILE.jsonl|RECIPE.toml", type=PATH)
@click.option(
    "--base-model",
    metavar="ID|FOLDER",
    type=PLACE,
    help="The base model, of which no weights are read. Default: the recipe's, else the embedded one.",
)
@json_option
@click.pass_obj
def data_check(options: GlobalOptions, place: Path, base_model: str | None, as_json: bool) -> int:
    """Report what part of a data set can be trained on, and why the rest cannot.

    Reads every file of a folder (one split, or the sub-folders train, dev and test), of a JSONL file or of
    all sources of a recipe, as training would. Exits with 1 if a row would be dropped.
    """
    from adapter_hub.trainers.data.check import base_model_at, check_data, sources_at

    cache = options.cache_folder
    sources, rules = sources_at(place, cache)
    report = check_data(sources, base_model_at(place, base_model, cache), rules)
    if as_json:
        echo_json(report.to_json())
    else:
        _print_report(report)
    return 1 if not report.clean else 0


def _print_report(report: DataReport) -> None:
    from adapter_hub.trainers.data.input_lengths import said

    headings = [
        "split",
        "utterances",
        "usable",
        "hours",
        "shortest s",
        "median s",
        "longest s",
        "tokens",
        "speakers",
    ]
    echo_text(
        table(
            headings,
            [
                [
                    s.split,
                    s.utterances,
                    s.usable,
                    s.hours,
                    s.shortest_seconds,
                    s.median_seconds,
                    s.longest_seconds,
                    s.longest_tokens,
                    s.speakers,
                ]
                for s in report.splits
            ],
        )
    )
    for split in report.splits:
        if split.input_seconds and not split.split.startswith(("dev", "test")):
            echo_line(f"{split.split}: {said(split.input_seconds)}")
        if split.domains:
            domains = ", ".join(f"{shown(name)} {count}" for name, count in split.domains.items())
            echo_line(f"domains of {split.split}: {domains}")
        for row in split.dropped:
            echo_line(f"dropped from {split.split}: {row.id}: {row.reason}")
    for pair, speakers in report.shared_speakers.items():
        echo_line(
            f"{pair} share {counted(len(speakers), 'speaker')} ({', '.join(speakers[:5])}): "
            "scores are not on new voices"
        )
    for pair, count in report.shared_transcripts.items():
        echo_line(f"{pair} share {counted(count, 'transcript')}")
