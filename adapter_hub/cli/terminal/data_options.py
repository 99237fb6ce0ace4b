"""The options that name a split of a data set, wherever it is, and the opening of it.

@data_options(required=True)
def evaluate(options: GlobalOptions, data: str, split: str | None, **columns: Any) -> None:
    dataset = open_data(options, data, split, **columns)
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from adapter_hub.cli.terminal.arguments import PLACE
from adapter_hub.cli.terminal.echo import echo_note

if TYPE_CHECKING:
    from adapter_hub.cli.terminal.global_options import GlobalOptions
    from adapter_hub.data.dataset import Dataset

Command = TypeVar("Command", bound="Callable[..., Any]")
PLACES = "A folder with metadata and audio, a JSONL file, or hf://datasets/NAMESPACE/NAME@COMMIT."


def data_options(*, required: bool, meaning: str = PLACES) -> Callable[[Command], Command]:
    """Return a decorator that adds the options; the command receives `data`, `split` and three columns.

    Args:
        required: whether `--data` is.
        meaning: help of `--data`.
    """
    options = (
        click.option("--data", required=required, metavar="PLACE", type=PLACE, help=meaning),
        click.option(
            "--split",
            metavar="NAME",
            help="Split of the data. Default: test, unless PLACE is a single split.",
        ),
        click.option(
            "--config", metavar="NAME", help="On the Hub: the configuration of the data set, like da_dk."
        ),
        click.option(
            "--text-column",
            metavar="NAME",
            default="transcription",
            show_default=True,
            help="On the Hub: the column with the reference transcripts.",
        ),
        click.option(
            "--audio-column",
            metavar="NAME",
            default="audio",
            show_default=True,
            help="On the Hub: the column with the audio.",
        ),
    )

    def decorate(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


def open_data(options: GlobalOptions, place: str, split: str | None, **columns: Any) -> Dataset:
    """Return the rows of a split of a data set; without a name it is `test`, where the place has splits.

    Args:
        options: the global ones.
        place: of the data set.
        split: of it, or None.
        columns: configuration and columns of a data set on the Hub.
    """
    from adapter_hub.data.dataset import holds_rows, read_dataset
    from adapter_hub.data.hub_dataset import HubSplit, read_hub_dataset
    from adapter_hub.formats.reference import is_hub

    if is_hub(place):
        wanted = HubSplit.parse(place, split=split or "test", **columns)
        return read_hub_dataset(wanted, options.cache_folder, tell=echo_note)
    folder = Path(place)
    if split is None and folder.is_dir() and not holds_rows(folder):
        split = "test"
    return read_dataset(folder, split)
