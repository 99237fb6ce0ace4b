"""`diff`: the fields in which two versions differ."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import click

from adapter_hub.cli.terminal.arguments import PLACE, json_option
from adapter_hub.cli.terminal.echo import echo_json, echo_note, echo_text
from adapter_hub.cli.terminal.global_options import GlobalOptions
from adapter_hub.cli.terminal.tables import table


@click.command()
@click.argument("first", metavar="REF", type=PLACE)
@click.argument("second", metavar="REF", type=PLACE)
@json_option
@click.pass_obj
def diff(options: GlobalOptions, first: str, second: str, as_json: bool) -> None:
    """Show the fields in which the manifests of two adapter versions differ."""
    from adapter_hub.cli.terminal.version_lookup import find_version

    one, other = find_version(options, first), find_version(options, second)
    left, right = (dict(_flat(item.manifest.to_json())) for item in (one, other))
    names = [name for name in dict.fromkeys([*left, *right]) if left.get(name) != right.get(name)]
    if as_json:
        echo_json({name: [left.get(name), right.get(name)] for name in names})
    elif names:
        rows = [[_short(name), *(_short(side.get(name)) for side in (left, right))] for name in names]
        echo_text(table(["field", one.ref, other.ref], rows))
    else:
        echo_note(f"{one.ref} and {other.ref} are identical")


def _short(value: Any) -> str:
    text = "" if value is None else " ".join(str(value).split())
    return text if len(text) <= 60 else f"{text[:59]}…"


def _flat(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield `(dotted path, value)`; items of lists are named by what identifies them, not by position."""
    if isinstance(value, dict):
        for name, item in value.items():
            yield from _flat(item, f"{path}.{name}" if path else name)
    elif isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
        for number, item in enumerate(value):
            keys = (item[name] for name in ("path", "tag", "role", "measure", "id") if name in item)
            yield from _flat(item, f"{path}[{next(keys, number)}]")
    elif value != []:
        yield path, value
