"""`attach`: reports that were saved, published with their adapters."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from adapter_hub.cli.terminal.arguments import PATH, json_option
from adapter_hub.cli.terminal.echo import echo_error, echo_json, echo_line
from adapter_hub.cli.terminal.global_options import GlobalOptions
from adapter_hub.cli.terminal.reports import read_report
from adapter_hub.errors import AdapterHubError


@click.command()
@click.argument("files", metavar="REPORT...", type=PATH, nargs=-1, required=True)
@click.option(
    "--with-speakers",
    is_flag=True,
    help="Publish the names of speakers and files, which are numbers and digests otherwise.",
)
@json_option
@click.pass_obj
def attach(options: GlobalOptions, files: tuple[Path, ...], with_speakers: bool, as_json: bool) -> int:
    """Publish reports that `evaluate --out` has written, with the adapters that they are about.

    Their scores stand in the registry and on the cards from then on, with the rates of the models beside. An
    adapter that was published under another name than it was evaluated as is found by what its weights do.
    """
    from adapter_hub.exchange import attach as attach_report
    from adapter_hub.isolation import isolated

    failures: list[AdapterHubError] = []
    done: list[dict[str, Any]] = []
    for file in files:
        with isolated(str(file), failures.append):
            report = read_report(file)
            subject = attach_report(report, options, with_speakers=with_speakers)
            done.append(
                {
                    "ref": f"{subject.name}@{subject.version}",
                    "data": report.data,
                    "split": report.split,
                    "metric": report.primary,
                    "value": report.value,
                }
            )
    if as_json:
        echo_json(done)
    for row in done if not as_json else ():
        rate = f"{row['metric'].upper()} {100 * row['value']:.1f} %"
        echo_line(f"{row['ref']}  {rate} on {row['data']}/{row['split']}")
    for failure in failures:
        echo_error(failure)
    return 1 if failures else 0
