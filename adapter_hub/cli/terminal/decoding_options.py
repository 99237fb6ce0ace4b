"""The options of `transcribe` and `evaluate` that say how to decode, as `TranscriptionOptions` declares them.

@decoding_options("beams", "batch_size", "timestamps")
def evaluate(…, **decoding: Unpack[OptionWords]) -> None: …
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, TypeVar, get_args

import click

from adapter_hub.cli.terminal.arguments import Number, NumberList
from adapter_hub.decoding.options import Task
from adapter_hub.transcription.options import TranscriptionOptions

Command = TypeVar("Command", bound="Callable[..., Any]")
FIELDS = {field.name: field for field in dataclasses.fields(TranscriptionOptions)}


def decoding_options(*names: str, **others: Any) -> Callable[[Command], Command]:
    """Return a decorator that adds options to a command, in the order in which they are named.

    Args:
        names: fields of `TranscriptionOptions`; each is an option of the same name, like `--batch-size`.
        others: their names and defaults, where the command has others than `TranscriptionOptions`.
    """

    def decorate(command: Command) -> Command:
        for name in reversed(names):
            field = FIELDS[name]
            command = _option(field, others.get(name, field.default))(command)
        return command

    return decorate


def _option(field: dataclasses.Field[Any], default: Any) -> Callable[[Command], Command]:
    limits = field.metadata
    kinds: dict[str, dict[str, Any]] = {
        "int": {"type": click.IntRange(limits["at_least"]), "metavar": "N"},
        "int | None": {"type": click.IntRange(limits["at_least"]), "metavar": "N"},
        "float | None": {"type": Number(limits["above"], min_open=True), "metavar": "SECONDS"},
        "tuple[float, ...]": {"type": NumberList(), "metavar": "LIST"},
        "str | None": {"metavar": "TEXT"},
        "Task | None": {"type": click.Choice(get_args(Task))},
    }
    how = kinds.get(str(field.type), {"is_flag": True})
    if isinstance(default, tuple):
        default = ",".join(f"{number:g}" for number in default)
    shown = default is not None and not how.get("is_flag")
    name = f"--{field.name.replace('_', '-')}"
    return click.option(name, default=default, show_default=shown, help=limits["meaning"], **how)
