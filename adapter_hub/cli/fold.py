"""`fold`: a static expert pair as one ordinary LoRA."""

from __future__ import annotations

from pathlib import Path

import click

from adapter_hub.cli.terminal.arguments import PLACE
from adapter_hub.cli.terminal.echo import echo_json, echo_line, echo_note
from adapter_hub.cli.terminal.global_options import GlobalOptions
from adapter_hub.cli.terminal.training_options import out_artifact_option


@click.command()
@click.argument("ref", metavar="REF", type=PLACE)
@out_artifact_option
@click.option(
    "--as",
    "as_ref",
    metavar="NAME@VERSION",
    help="Name of the artifact. Default: the pair's name with -folded.",
)
@click.option(
    "--base-model", metavar="ID|FOLDER", type=PLACE, help="The base model. Default: the pair's own."
)
@click.option("--json", "as_json", is_flag=True, help="Print the manifest as JSON.")
@click.pass_obj
def fold(
    options: GlobalOptions, ref: str, out: Path, as_ref: str | None, base_model: str | None, as_json: bool
) -> None:
    """Turn an expert pair with a static gate into one ordinary LoRA, exactly.

    REF is an expert pair. The rank of the LoRA is the sum of the ranks of both halves, and plain PEFT can
    load it. A gate that weights every token differently has no such form and is refused.
    """
    from adapter_hub.exchange import pull
    from adapter_hub.formats.reference import AdapterRef
    from adapter_hub.model.base_model import load_base_model, load_pinned_base_model
    from adapter_hub.trainers.folding import fold as run

    name = AdapterRef.parse(as_ref) if as_ref else None
    pair, cache = pull(ref, options), options.cache_folder
    base = (
        load_base_model(base_model, device=options.device, cache=cache)
        if base_model
        else load_pinned_base_model(pair.manifest.base_model, device=options.device, cache=cache)
    )
    folded = run(base, pair, out, name)
    if as_json:
        echo_json(folded.manifest.to_json())
    else:
        echo_line(f"{folded.ref} {folded.digest} in {out}")
    echo_note(f"next: adapter-hub publish {out}")
