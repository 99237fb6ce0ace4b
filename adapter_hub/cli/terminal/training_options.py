"""Options that the commands around training share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from adapter_hub.base_model.digest import EMBEDDED_ID
from adapter_hub.cli.terminal.arguments import PATH, PLACE

base_model_option = click.option(
    "--base-model",
    metavar="ID|FOLDER",
    type=PLACE,
    default=EMBEDDED_ID,
    show_default=True,
    help="The base model.",
)


def _checked(_: click.Context, __: click.Parameter, folder: Path) -> Path:
    """Refuse a folder that could not be made, before hours of work."""
    from adapter_hub.files.writing import check_writable

    check_writable(folder)
    return folder


def out_folder_option(meaning: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return an option for a folder that is made, refused early where it could not be.

    Args:
        meaning: its help.
    """
    return click.option("--out", metavar="FOLDER", type=PATH, required=True, callback=_checked, help=meaning)


out_artifact_option = out_folder_option("Folder of the new artifact; must not exist.")


def trained_for_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that say what weights from elsewhere do not record: authors, task and timestamps.

    Args:
        command: receives `authors`, `task` and `timestamps`.
    """
    options = (
        click.option("--author", "authors", metavar="NAME", multiple=True, help="Author; may be repeated."),
        click.option(
            "--task",
            type=click.Choice(["transcribe", "translate"]),
            default="transcribe",
            show_default=True,
            help="What it was trained for.",
        ),
        click.option("--timestamps", is_flag=True, help="It was trained with timestamp tokens."),
    )
    for option in reversed(options):
        command = option(command)
    return command
