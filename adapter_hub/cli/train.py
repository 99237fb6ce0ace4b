"""`train`: an adapter from a recipe."""

from __future__ import annotations

from pathlib import Path

import click

from adapter_hub.cli.terminal.arguments import PATH
from adapter_hub.cli.terminal.echo import echo_json, echo_line, echo_note
from adapter_hub.cli.terminal.global_options import GlobalOptions
from adapter_hub.cli.terminal.progress import Teller
from adapter_hub.cli.terminal.training_options import out_artifact_option


@click.command()
@click.argument("recipe_file", metavar="RECIPE.toml", type=PATH)
@out_artifact_option
@click.option(
    "--tensorboard",
    metavar="FOLDER",
    type=PATH,
    help="Write TensorBoard event files to a sub-folder of this one, named like --out.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the manifest as JSON.")
@click.pass_obj
def train(
    options: GlobalOptions, recipe_file: Path, out: Path, tensorboard: Path | None, as_json: bool
) -> int:
    """Train an adapter from a recipe.

    Ctrl-C ends the step and saves a checkpoint, as training does by itself after each epoch and every half an
    hour (the recipe's save_minutes); the same command resumes from it. The artifact appears whole or not at
    all; publish it with `adapter-hub publish`. The method full-fine-tuning writes a Whisper folder instead.

    On several GPUs, or machines that share the folder of --out: `torchrun --nproc-per-node 4 -m adapter_hub
    train RECIPE.toml --out FOLDER`. The processes share the rows of each step, so the result stays the same
    but for rounding.
    """
    from adapter_hub.formats.full_fine_tune import FullFineTune
    from adapter_hub.trainers.loop.process_group import OtherProcessError, is_main_process
    from adapter_hub.trainers.training import train as run

    try:
        outcome = run(
            recipe_file,
            out,
            registries=options.registries(),
            cache=options.open_cache(),
            device=options.device,
            tell=Teller(),
            tensorboard=tensorboard,
        )
    except OtherProcessError:
        return 1
    if not is_main_process():
        return 0
    full = isinstance(outcome, FullFineTune)
    if as_json:
        echo_json((outcome if isinstance(outcome, FullFineTune) else outcome.manifest).to_json())
    else:
        echo_line(f"{outcome.ref} {outcome.digest} in {out}")
    if full:
        echo_note(f"next: adapter-hub evaluate base-model --data FOLDER --base-model {out}")
    else:
        place = out if out.is_absolute() else f"./{out}"
        echo_note(f"next: adapter-hub evaluate {place} --data FOLDER --beside base-model --out report.json")
        echo_note(f"then: adapter-hub publish {out} --report report.json")
    return 0
