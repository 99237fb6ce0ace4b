"""`retire`: the status of a published version."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from adapter_hub.cli.terminal.arguments import json_option, ref_argument
from adapter_hub.cli.terminal.echo import echo_json, echo_line
from adapter_hub.cli.terminal.global_options import GlobalOptions

if TYPE_CHECKING:
    from adapter_hub.formats.claims import Status


@click.command()
@ref_argument
@click.option(
    "--status",
    type=click.Choice(["yanked", "deprecated", "quarantined", "withdrawn", "active"]),
    required=True,
    help="deprecated: works with a warning; yanked: only exact references find it; quarantined: refused, "
    "with all descendants; withdrawn: its files are removed; active: in use again.",
)
@click.option(
    "--reason", metavar="TEXT", required=True, help="Why; shown to everyone who asks for the version."
)
@json_option
@click.pass_obj
def retire(options: GlobalOptions, ref: str, status: Status, reason: str, as_json: bool) -> None:
    """Change the status of a published version, and print the descendants that this affects."""
    from adapter_hub.exchange import retire as retire_version
    from adapter_hub.formats.reference import AdapterRef

    affected = retire_version(
        AdapterRef.parse(ref),
        status,
        reason,
        options,
    )
    if as_json:
        echo_json({"ref": ref, "status": status, "descendants": affected})
        return
    echo_line(f"{ref} is {status}")
    for item in affected:
        echo_line(f"descendant: {item}")
