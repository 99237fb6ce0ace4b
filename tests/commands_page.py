"""docs/commands.md, made of the help texts: every command, its arguments, options and one example.

`make readme` writes it, tests/test_docs.py compares it, tests/test_documented_commands.py types the examples.
"""

from __future__ import annotations

from collections.abc import Iterator

import click

from adapter_hub.cli import SECTIONS, cli
from adapter_hub.cli.terminal.examples import EXAMPLES


def page(_: str) -> str:
    """Return docs/commands.md."""
    parts = [
        "# Commands",
        "Written by `make readme` from the help texts, which `adapter-hub COMMAND --help` prints.",
        "## Global options",
        _paragraphs(cli.help),
        _options(cli),
    ]
    context = click.Context(cli, info_name="adapter-hub")
    for title, section in SECTIONS.items():
        parts.append(f"## {title}")
        for name in section:
            command = cli.get_command(context, name)
            assert command is not None
            for path, leaf in _leaves(name, command):
                parts += [f"### {path}", *_command(path, leaf)]
    return "\n\n".join(parts) + "\n"


def _leaves(path: str, command: click.Command) -> Iterator[tuple[str, click.Command]]:
    if not isinstance(command, click.Group):
        yield path, command
        return
    for name, inner in sorted(command.commands.items()):
        yield from _leaves(f"{path} {name}", inner)


def _command(path: str, command: click.Command) -> Iterator[str]:
    pieces = command.collect_usage_pieces(click.Context(command))
    yield f"```text\n{' '.join(['adapter-hub', path, *pieces])}\n```"
    yield _paragraphs(command.help)
    yield f"```sh\n{EXAMPLES[path]}\n```"
    yield _options(command)


def _paragraphs(text: str | None) -> str:
    assert text
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in text.strip().split("\n\n"))


def _options(command: click.Command) -> str:
    rows = ["| option | meaning |", "| --- | --- |"]
    context = click.Context(command)
    for parameter in command.params:
        record = parameter.get_help_record(context)
        if isinstance(parameter, click.Option) and record is not None:
            names, meaning = record
            rows.append(f"| `{names.replace('|', chr(92) + '|')}` | {' '.join(meaning.split())} |")
    return "\n".join(rows) if len(rows) > 2 else ""
