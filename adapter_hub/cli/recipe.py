"""`recipe new`: a commented recipe to start from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from adapter_hub.cli.terminal.arguments import PATH
from adapter_hub.cli.terminal.echo import echo_note, echo_text
from adapter_hub.cli.terminal.global_options import GlobalOptions
from adapter_hub.cli.terminal.training_options import base_model_option
from adapter_hub.errors import InvalidInputError

METHODS = ("lora", "warm-start", "expert-pair", "full-fine-tuning")  # trainers.methods.METHODS, without torch


@click.group()
def recipe() -> None:
    """Write recipes, the input of `train`."""


@recipe.command("new", short_help="Write a commented recipe.")
@click.argument("method", type=click.Choice(METHODS))
@click.option(
    "--language", metavar="TAG", help="BCP 47 tag of the new adapter. Default: that of the rows of --data."
)
@click.option(
    "--decode-language", metavar="CODE", help="Whisper's code of the language whose token it borrows."
)
@click.option("--namespace", metavar="NAME", help="Namespace of the new adapter, like alice.")
@click.option("--author", "authors", metavar="NAME", multiple=True, help="Author; may be repeated.")
@click.option("--license", metavar="SPDX", help="Licence of the new adapter, like CC-BY-4.0.")
@click.option(
    "--data",
    metavar="FOLDER|FILE.jsonl",
    type=PATH,
    help="The data, with splits or one of them: their paths, language and licence are filled in.",
)
@click.option("--data-license", metavar="SPDX", help="Licence of the data. Default: that in their README.md.")
@base_model_option
@click.option("--out", metavar="FILE", type=PATH, help="File to write. Default: stdout.")
@click.pass_obj
def recipe_new(options: GlobalOptions, /, method: str, out: Path | None, **wishes: Any) -> None:
    """Write a commented recipe to start from.

    METHOD is lora (from scratch), warm-start (from the adapter of a similar language), expert-pair (a
    frozen adapter of a similar language beside a new one, weighted by a gate) or full-fine-tuning (a
    baseline: every weight of the base model, nothing to publish).

    What is given is checked as `train` does. What is not given, and is neither shown by the data nor has a
    default, is a placeholder, which `train` refuses: an adapter is published with it for ever.
    """
    from adapter_hub.files.writing import write_atomically
    from adapter_hub.trainers.drafting import Wishes, draft
    from adapter_hub.trainers.recipe_template import placeholders

    if out is not None and out.exists():
        raise InvalidInputError(f"{out}: already exists; choose another --out or remove it")
    made = draft(method, Wishes(cache=options.cache_folder, **wishes), out or Path("recipe.toml"))
    if out is None:
        echo_text(made.text)
    else:
        write_atomically(out, made.text.encode())
        echo_note(f"wrote {out}")
    place, left = out or "RECIPE.toml", placeholders(made.recipe)
    first = f"write your own {', '.join(left)} in it, then: " if left else ""
    echo_note(f"next: {first}adapter-hub train {place} --out FOLDER")
