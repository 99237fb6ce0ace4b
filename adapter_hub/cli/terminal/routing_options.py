"""The options of `transcribe` and `bulk` that say among which adapters and languages `auto` chooses.

@routing_options
def transcribe(…, languages, adapters, threshold, fallback) -> None: …
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from adapter_hub.cli.terminal.arguments import PLACE, Number, WordList

Command = TypeVar("Command", bound="Callable[..., Any]")
OPTIONS = (
    click.option(
        "--languages",
        type=WordList(),
        default="",
        metavar="LIST",
        help="With auto or base-model: the languages to choose from, like da,pl. Default: all.",
    ),
    click.option(
        "--adapter",
        "adapters",
        multiple=True,
        metavar="REF",
        type=PLACE,
        help="With auto: an adapter to choose from; may be repeated. Default: all that the registries list.",
    ),
    click.option(
        "--threshold",
        metavar="NUMBER",
        type=Number(0, 1),
        default=0.5,
        show_default=True,
        help="With auto: the minimum probability of a language for its adapter to be used.",
    ),
    click.option(
        "--fallback",
        metavar="REF",
        type=PLACE,
        help="With auto: the adapter to use where no other fits. Default: the base model alone.",
    ),
)


def routing_options(command: Command) -> Command:
    """Add the options to a command, in the order in which its help shows them.

    Args:
        command: takes `languages`, `adapters`, `threshold` and `fallback`.
    """
    for option in reversed(OPTIONS):
        command = option(command)
    return command
