"""`cache list|prune|verify`: the adapters and data kept on this machine."""

from __future__ import annotations

import time

import click

from adapter_hub.cli.terminal.arguments import Number, json_option
from adapter_hub.cli.terminal.echo import echo_json, echo_line, echo_note, echo_text
from adapter_hub.cli.terminal.global_options import GlobalOptions
from adapter_hub.cli.terminal.tables import size_text, table


@click.group()
def cache() -> None:
    """List, prune or verify what is cached on this machine."""


@cache.command("list", short_help="List what is in the cache.")
@json_option
@click.pass_obj
def list_entries(options: GlobalOptions, as_json: bool) -> None:
    """List pulled adapters and cached data, with their size and when they were last used."""
    opened = options.open_cache()
    entries = [*opened.entries(), *opened.data()]
    rows = [
        {
            "ref": entry.ref,
            "digest": entry.digest or None,
            "size": entry.size,
            "used": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(entry.used)) if entry.used else None,
            "path": str(entry.path),
        }
        for entry in entries
    ]
    if as_json:
        echo_json(rows)
    elif rows:
        cells = [[row["ref"], size_text(int(row["size"] or 0)), row["used"], row["path"]] for row in rows]
        echo_text(table(["adapter", "size", "last used", "path"], cells))
    else:
        echo_note("the cache is empty")


@cache.command(short_help="Remove what has not been used for a while.")
@click.option(
    "--unused-days",
    metavar="N",
    type=Number(min=0),
    default=30.0,
    show_default=True,
    help="Minimum number of days since the last use.",
)
@json_option
@click.pass_obj
def prune(options: GlobalOptions, unused_days: float, as_json: bool) -> None:
    """Remove what has not been used for a while; the next pull or training brings it back."""
    gone = options.open_cache().prune(unused_days)
    if as_json:
        echo_json([{"ref": entry.ref, "digest": entry.digest or None, "size": entry.size} for entry in gone])
        return
    for entry in gone:
        echo_line(f"removed {entry.ref}")
    echo_note(f"{size_text(sum(entry.size for entry in gone))} freed")


@cache.command(short_help="Hash every file in the cache again.")
@json_option
@click.pass_obj
def verify(options: GlobalOptions, as_json: bool) -> int:
    """Hash every file in the cache again; exit with 1 if one is damaged."""
    problems = options.open_cache().verify()
    if as_json:
        echo_json(problems)
    else:
        for ref, problem in problems.items():
            echo_line(f"{ref}: {problem}")
        outcome = (
            f"{len(problems)} damaged; the next pull fetches them again" if problems else "no damage found"
        )
        echo_note(outcome)
    return 1 if problems else 0
