"""`demo`: the whole life of an adapter, offline."""

from __future__ import annotations

from pathlib import Path

import click

from adapter_hub.cli.terminal.arguments import PATH
from adapter_hub.cli.terminal.echo import echo_text


@click.command()
@click.option(
    "--out", metavar="FOLDER", type=PATH, default=Path("demo"), show_default=True, help="Folder to work in."
)
@click.option(
    "--quick", is_flag=True, help="Use a fraction of the data and steps; the scores then mean little."
)
def demo(out: Path, quick: bool) -> None:
    """Walk through the life of an adapter, offline, in under five minutes.

    A new language, Spanish: speech, similarity, training, evaluation, publishing, pulling, transcription,
    lineage and audit.

    Needs the extra `demo`: `pip install '.[demo]'` in a clone of the project.
    """
    from adapter_hub.trainers.demo import demonstrate

    demonstrate(out, say=echo_text, quick=quick)
