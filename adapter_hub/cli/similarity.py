"""`similarity`: the languages that new speech sounds like."""

from __future__ import annotations

from pathlib import Path

import click

from adapter_hub.cli.terminal.arguments import PATH, WordList, json_option
from adapter_hub.cli.terminal.echo import echo_json, echo_note, echo_text
from adapter_hub.cli.terminal.global_options import GlobalOptions
from adapter_hub.cli.terminal.progress import Bar
from adapter_hub.cli.terminal.tables import table
from adapter_hub.cli.terminal.training_options import base_model_option


@click.command()
@click.option(
    "--data",
    "folder",
    metavar="FOLDER",
    type=PATH,
    required=True,
    help="Folder with speech of the new language.",
)
@click.option(
    "--split", metavar="NAME", help="Split to read, like train. Default: the folder is a single split."
)
@click.option(
    "--language", metavar="TAG", help="Language of the speech, like da; it is left out of the ranking."
)
@click.option(
    "--among",
    type=WordList(),
    default="",
    metavar="LIST",
    help="Languages to rank, like pl,pt,it,zh. Default: those of all lora adapters on this base model.",
)
@click.option(
    "--segments",
    metavar="N",
    type=click.IntRange(1),
    default=200,
    show_default=True,
    help="Number of utterances to draw (M in equation 4).",
)
@click.option("--random-seed", metavar="N", default=1, show_default=True, help="Seed of the draw.")
@base_model_option
@json_option
@click.pass_obj
def similarity(
    options: GlobalOptions,
    folder: Path,
    split: str | None,
    language: str | None,
    among: tuple[str, ...],
    segments: int,
    random_seed: int,
    base_model: str,
    as_json: bool,
) -> None:
    """Rank languages by their similarity to new speech, to choose the seed of a warm start.

    The similarity is the share of utterances in which the base model finds a language to be the most
    probable (LoRA-Whisper, equation 4).
    """
    from adapter_hub.base_model.families import WHISPER
    from adapter_hub.data.dataset import read_dataset
    from adapter_hub.model.base_model import load_base_model
    from adapter_hub.trainers.similarity import base_languages, candidates, measure_similarity, ranked

    base = load_base_model(base_model, device=options.device, cache=options.cache_folder, families=(WHISPER,))
    own = next(iter(base_languages([language] if language else [])), "")
    known = candidates(options.registries(), base, leave_out=own)
    languages = [code for code in base_languages(among or sorted(known)) if code != own]
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
            f"{measured.scores[k]:.3f}" if len(languages) > 1 else None,
            f"{measured.mean_probabilities[k]:.3f}",
            str(known[k]) if k in known else None,
        ]
        for k in ranked(measured)
    ]
    if len(languages) == 1:
        echo_note(f"{languages[0]} is the only candidate, so its share says nothing; name more with --among")
    echo_text(table(["language", "similarity", "mean probability", "adapter"], rows))
