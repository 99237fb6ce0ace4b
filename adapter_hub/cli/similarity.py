"""`similarity`: the languages that new speech sounds like."""

from __future__ import annotations

from pathlib import Path

import click

from adapter_hub.cli.terminal.arguments import PATH, json_option
from adapter_hub.cli.terminal.echo import echo_json, echo_text
from adapter_hub.cli.terminal.global_options import GlobalOptions
from adapter_hub.cli.terminal.progress import Bar
from adapter_hub.cli.terminal.tables import table
from adapter_hub.cli.terminal.training_options import base_model_option


@click.command()
@click.option("--data", "folder", type=PATH, required=True, help="Speech of the new language.")
@click.option("--split", help="Sub-folder to read, such as train.")
@click.option("--language", metavar="TAG", help="Language of the speech, like da; it is no candidate.")
@click.option(
    "--among",
    help="Candidate languages, such as pl,pt,it,zh. "
    "Default: every language with a lora adapter on this base model.",
)
@click.option(
    "--segments",
    type=click.IntRange(1),
    default=200,
    show_default=True,
    help="Utterances to draw (M of equation 4).",
)
@click.option("--random-seed", default=1, show_default=True, help="Decides which ones.")
@base_model_option
@json_option
@click.pass_obj
def similarity(
    options: GlobalOptions,
    folder: Path,
    split: str | None,
    language: str | None,
    among: str | None,
    segments: int,
    random_seed: int,
    base_model: str,
    as_json: bool,
) -> None:
    """Rank languages by similarity to new speech, to choose the seed of a warm start.

    LoRA-Whisper, equation 4: the share of utterances whose most probable language it is.
    """
    from adapter_hub.data.dataset import read_dataset
    from adapter_hub.model.base_model import load_base_model
    from adapter_hub.trainers.similarity import candidates, measure_similarity, ranked

    base = load_base_model(base_model, device=options.device)
    own = language.partition("-")[0].lower() if language else ""
    known = candidates(options.registries(), base, leave_out=own)
    languages = [code for code in (among.split(",") if among else sorted(known)) if code != own]
    bar = Bar("identifying languages", segments)
    measured = measure_similarity(
        base,
        read_dataset(folder, split),
        among=languages,
        segments=segments,
        random_seed=random_seed,
        progress=lambda done, _: bar.at(done),
    )
    bar.close()
    if as_json:
        echo_json(measured.to_json())
        return
    rows = [
        [
            k,
            f"{measured.scores[k]:.3f}",
            f"{measured.mean_probabilities[k]:.3f}",
            str(known[k]) if k in known else None,
        ]
        for k in ranked(measured)
    ]
    echo_text(table(["language", "similarity", "mean probability", "adapter"], rows))
