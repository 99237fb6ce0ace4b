"""`recipe new`: a commented recipe to start from."""

from __future__ import annotations

from pathlib import Path

import click

from adapter_hub.cli.terminal.arguments import PATH
from adapter_hub.cli.terminal.echo import echo_note, echo_text
from adapter_hub.cli.terminal.training_options import base_model_option
from adapter_hub.errors import InvalidInputError

METHODS = ("lora", "warm-start", "expert-pair", "full-fine-tuning")  # trainers.methods.METHODS, without torch


@click.group()
def recipe() -> None:
    """Write recipes, the input of `train`."""


@recipe.command("new", short_help="Write a commented recipe.")
@click.argument("method", type=click.Choice(METHODS))
@click.option(
    "--language", metavar="TAG", default="da", show_default=True, help="BCP 47 tag of the new adapter."
)
@click.option(
    "--namespace", metavar="NAME", default="my-name", show_default=True, help="Namespace of the new adapter."
)
@base_model_option
@click.option("--out", metavar="FILE", type=PATH, help="File to write. Default: stdout.")
def recipe_new(method: str, language: str, namespace: str, base_model: str, out: Path | None) -> None:
    """Write a commented recipe to start from.

    METHOD is lora (from scratch), warm-start (from the adapter of a similar language), expert-pair (a
    frozen adapter of a similar language beside a new one, weighted by a gate) or full-fine-tuning (a
    baseline: every weight of the base model, nothing to publish).
    """
    from adapter_hub.files.writing import write_atomically
    from adapter_hub.trainers.recipe import new_recipe

    text = new_recipe(method, language=language, namespace=namespace, base_model=base_model)
    if out is None:
        echo_text(text)
        return
    if out.exists():
        raise InvalidInputError(f"{out}: already exists; choose another --out or remove it")
    write_atomically(out, text.encode())
    echo_note(f"wrote {out}; next: adapter-hub train {out} --out FOLDER")
