"""The option that `lock` and `sync` share."""

from __future__ import annotations

from pathlib import Path

import click

from adapter_hub.cli.terminal.arguments import PATH

lock_file_option = click.option(
    "--file",
    "path",
    metavar="FILE",
    type=PATH,
    default=Path("adapters.lock"),
    show_default=True,
    help="The lock file.",
)
