"""`card`: the model card of a version."""

from __future__ import annotations

import click

from adapter_hub.cli.terminal.arguments import json_option, ref_argument
from adapter_hub.cli.terminal.echo import echo_json, echo_text
from adapter_hub.cli.terminal.global_options import GlobalOptions


@click.command()
@ref_argument
@json_option
@click.pass_obj
def card(options: GlobalOptions, ref: str, as_json: bool) -> None:
    """Print the model card of an adapter version, rendered from its manifest, reports and status."""
    from adapter_hub.cards import render_card
    from adapter_hub.cli.terminal.version_lookup import find_version

    found = find_version(options, ref)
    status = found.claims.status_of(found.manifest.version)
    store = found.block.locations[0].store if found.block and found.block.locations else ""
    text = render_card(found.manifest, found.claims.reports, status, store=store)
    if as_json:
        echo_json({"ref": found.ref, "digest": found.digest, "card": text})
    else:
        echo_text(text)
