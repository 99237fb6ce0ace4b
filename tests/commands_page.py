"""docs/commands.md, made of the help texts: every command, its arguments, options and one example.

`make readme` writes it, tests/test_docs.py compares it, tests/test_documented_commands.py types the examples.
"""

from __future__ import annotations

from collections.abc import Iterator

import click

from adapter_hub.cli import SECTIONS, cli

# in this order they build on one another: what `train` makes, `publish` publishes
EXAMPLES = {
    "list": "adapter-hub list --language da",
    "search": "adapter-hub search --language es --base-model openai/whisper-small --peft",
    "show": "adapter-hub show mini/da",
    "card": "adapter-hub card mini/da",
    "lineage": "adapter-hub lineage mini/it --descendants",
    "diff": "adapter-hub diff mini/da mini/da-scratch",
    "transcribe": "adapter-hub transcribe auto talk.wav --format srt --out talk.srt",
    "pull": "adapter-hub pull 'mini/da~=1.0' --to da",
    "lock": "adapter-hub lock 'mini/da~=1.0'",
    "sync": "adapter-hub sync --locked",
    "base-model fetch": "adapter-hub base-model fetch openai/whisper-small",
    "base-model show": "adapter-hub base-model show openai/whisper-small",
    "data check": "adapter-hub data check data/es",
    "similarity": "adapter-hub similarity --data data/es --split train --language es",
    "recipe new": "adapter-hub recipe new lora --data data/es --language es --namespace alice --author Alice "
    "--license CC-BY-4.0 --out es.toml",
    "train": "adapter-hub train es.toml --out out/es",
    "average": "adapter-hub average mini/pl mini/it --rank 12 --as alice/pl-it@1.0.0 --out out/pl-it",
    "extract": "adapter-hub extract ./whisper-es --base-model openai/whisper-small --rank 32 --language es "
    "--license MIT --as alice/es-extracted@1.0.0 --out out/es-extracted",
    "fold": "adapter-hub fold alice/es-pair --out out/es-folded",
    "evaluate": "adapter-hub evaluate ./out/es --data data/es --out report.json",
    "compare": "adapter-hub compare base.json report.json",
    "reproduce": "adapter-hub reproduce lora-whisper --dry-run",
    "demo": "adapter-hub demo --quick --out demo",
    "publish": "adapter-hub publish out/es",
    "attach": "adapter-hub attach report.json",
    "import": "adapter-hub import hf://bob/whisper-lora-es --out out/theirs",
    "mirror": "adapter-hub mirror mini/da --from embedded --to ./mirror",
    "retire": 'adapter-hub retire alice/es@1.0.0 --status deprecated --reason "use 1.1.0"',
    "audit": "adapter-hub audit mini/da",
    "registry check": "adapter-hub registry check",
    "registry rebuild": "adapter-hub registry rebuild",
    "registry trust": "adapter-hub registry trust mine/registry.json",
    "cache list": "adapter-hub cache list",
    "cache prune": "adapter-hub cache prune --unused-days 7",
    "cache verify": "adapter-hub cache verify",
}


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
