"""`sync`: the adapters of a lock file, installed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from adapter_hub.cli.terminal.arguments import PATH, allow_quarantined_option, json_option
from adapter_hub.cli.terminal.echo import echo_error, echo_json, echo_line
from adapter_hub.cli.terminal.global_options import GlobalOptions
from adapter_hub.cli.terminal.lock_options import lock_file_option

if TYPE_CHECKING:
    from adapter_hub.errors import AdapterHubError


@click.command()
@click.option(
    "--locked", is_flag=True, help="Install exactly what the file pins, or fail; never write the file."
)
@lock_file_option
@click.option(
    "--to",
    metavar="FOLDER",
    type=PATH,
    help="Also copy each to a sub-folder of this one, named like the adapter; an older version is replaced.",
)
@allow_quarantined_option
@json_option
@click.pass_obj
def sync(
    options: GlobalOptions,
    locked: bool,
    path: Path,
    to: Path | None,
    allow_quarantined: str | None,
    as_json: bool,
) -> int:
    """Install the adapters of a lock file, and print where they are.

    Without --locked, requirements that were edited, and versions that must no longer be used, are locked
    again first. What is in the cache needs neither network nor store. Exits with 1 if one of them could not
    be installed.
    """
    from adapter_hub.exchange import sync as install
    from adapter_hub.exchange import update_lock
    from adapter_hub.exchange.places import warning_once

    places = warning_once(options.opened())
    problems: dict[str, AdapterHubError] = {}
    if not locked:
        update_lock(path, places, allow_quarantined=allow_quarantined)
    installed = install(
        path,
        places,
        to=to,
        allow_quarantined=allow_quarantined,
        failed=problems.__setitem__,
    )
    rows: list[dict[str, Any]] = [
        {"ref": artifact.ref, "digest": artifact.digest, "path": str(artifact.path)} for artifact in installed
    ]
    if as_json:
        echo_json(rows + [{"ref": ref, "error": str(error)} for ref, error in problems.items()])
    else:
        for row in rows:
            echo_line(f"{row['ref']}  {row['path']}")
    for error in problems.values():
        echo_error(error)
    return 1 if problems else 0
