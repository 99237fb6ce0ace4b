"""Options that the commands around training share."""

from __future__ import annotations

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
out_artifact_option = click.option(
    "--out", metavar="FOLDER", type=PATH, required=True, help="Folder of the new artifact; must not exist."
)
