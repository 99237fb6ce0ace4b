"""`demo`: the whole life of an adapter, offline."""

from __future__ import annotations

from pathlib import Path

import click

from adapter_hub.cli.terminal.arguments import PATH
from adapter_hub.cli.terminal.echo import echo_text


@click.command()
@click.option("--out", type=PATH, default=Path("demo"), show_default=True, help="Folder to work in.")
@click.option("--quick", is_flag=True, help="A fraction of the data and steps; the numbers mean little.")
def demo(out: Path, quick: bool) -> None:
    """Live through the whole life of an adapter, offline, in under five minutes.

    Spanish, which the catalogue does not hold: speech, similarity, training, evaluation, publishing,
    pulling, transcription, lineage and audit. Needs the extra `demo`: `pip install '.[demo]'` in the
    project's checkout.
    """
    from adapter_hub.trainers.demo import demonstrate

    demonstrate(out, say=echo_text, quick=quick)
