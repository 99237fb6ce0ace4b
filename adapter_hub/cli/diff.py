"""`diff`: the fields in which two versions differ."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

import click

from adapter_hub.cli.terminal.arguments import PLACE, json_option
from adapter_hub.cli.terminal.echo import echo_json, echo_note, echo_text
from adapter_hub.cli.terminal.global_options import GlobalOptions
from adapter_hub.cli.terminal.tables import fitting_table

FEW = 4  # alike fields that have a line each


@click.command()
@click.argument("first", metavar="REF", type=PLACE)
@click.argument("second", metavar="REF", type=PLACE)
@json_option
@click.pass_obj
def diff(options: GlobalOptions, first: str, second: str, as_json: bool) -> None:
    """Show the fields in which the manifests of two adapter versions differ.

    Fields of many modules, files or points of a training curve share a line; --json has each.
    """
    from adapter_hub.cli.terminal.version_lookup import find_version

    one, other = find_version(options, first), find_version(options, second)
    left, right = (dict(_flat(item.manifest.to_json())) for item in (one, other))
    names = [name for name in dict.fromkeys([*left, *right]) if left.get(name) != right.get(name)]
    if as_json:
        echo_json({name: [left.get(name), right.get(name)] for name in names})
    elif names:
        rows = [*_rows(names, left, right)]
        echo_text(fitting_table(["field", one.ref, other.ref], rows))
        if len(rows) < len(names):
            echo_note(f"{len(names)} fields differ, alike ones in one line; --json has each")
    else:
        echo_note(f"{one.ref} and {other.ref} are identical")


def _rows(names: Sequence[str], left: dict[str, Any], right: dict[str, Any]) -> Iterator[list[str]]:
    """Yield a line for each field; of many modules, files or points of a curve one line for all of them."""
    alike: dict[str, list[str]] = {}
    for name in names:
        item = re.match(r"[^.\[]+\[[^\]]*\]", name)  # like parents[seed], which only one of the two may have
        alone = item and not all(any(key.startswith(item[0]) for key in side) for side in (left, right))
        alike.setdefault(item[0] if item and alone else re.sub(r"\[[^\]]*\]", "[…]", name), []).append(name)
    for pattern, group in alike.items():
        if len(group) <= FEW:
            yield from ([_short(name), _short(left.get(name)), _short(right.get(name))] for name in group)
        else:
            sides = [[side[name] for name in group if name in side] for side in (left, right)]
            yield [f"{_short(pattern)} ({len(group)})", *(_range(values) for values in sides)]


def _range(values: Sequence[Any]) -> str:
    """Return what many values have in common."""
    different = list(dict.fromkeys(map(str, values)))
    if len(different) <= 1:
        return _short(different[0] if different else None)
    if all(isinstance(value, int | float) for value in values):
        return f"{min(values):g} to {max(values):g}"
    return f"{len(different)} values"


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
