"""Commands that make adapters: recipes, data, similarity, training, and the demo."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from adapter_hub.base_model.digest import EMBEDDED_ID
from adapter_hub.cli.terminal.arguments import PATH, PLACE
from adapter_hub.cli.terminal.echo import echo_json, echo_line, echo_note, echo_text
from adapter_hub.cli.terminal.progress import Bar
from adapter_hub.cli.terminal.settings import Settings
from adapter_hub.cli.terminal.tables import counted, table
from adapter_hub.errors import InvalidInputError

if TYPE_CHECKING:
    from adapter_hub.trainers.data.check import DataReport

BASE_MODEL = click.option(
    "--base-model",
    default=EMBEDDED_ID,
    show_default=True,
    metavar="ID|FOLDER",
    type=PLACE,
    help="The base model.",
)
METHODS = ("lora", "warm-start", "expert-pair", "full-fine-tuning")  # trainers.methods.METHODS, without torch


def tell(line: str) -> None:
    """Print a line on stderr; stdout is for data."""
    echo_note(line)


@click.group()
def recipe() -> None:
    """Write recipes, the input of `train`."""


@recipe.command("new")
@click.argument("method", type=click.Choice(METHODS))
@click.option("--language", default="da", show_default=True, help="BCP 47 tag of the new adapter.")
@click.option("--namespace", default="my-name", show_default=True, help="First half of its name.")
@BASE_MODEL
@click.option("--out", type=PATH, help="The file to write. Default: stdout.")
def recipe_new(method: str, language: str, namespace: str, base_model: str, out: Path | None) -> None:
    """Write a commented recipe to start from.

    METHOD is lora (from scratch), warm-start (from the adapter of a similar language), expert-pair (a
    frozen adapter of a similar language beside a new one, weighed by a gate) or full-fine-tuning (a
    baseline: every weight of the base model, nothing to publish).
    """
    from adapter_hub.files.writing import write_atomically
    from adapter_hub.trainers.recipe import new_recipe

    text = new_recipe(method, language=language, namespace=namespace, base_model=base_model)
    if out is None:
        echo_text(text)
        return
    if out.exists():
        raise InvalidInputError(f"{out}: exists already; choose another --out or remove it")
    write_atomically(out, text.encode())
    tell(f"wrote {out}; next: adapter-hub train {out} --out FOLDER")


@click.group()
def data() -> None:
    """Look at data sets before training on them."""


@data.command("check", short_help="Report what can be trained on.")
@click.argument("place", metavar="FOLDER|FILE.jsonl|RECIPE.toml", type=PATH)
@BASE_MODEL
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def data_check(ctx: click.Context, place: Path, base_model: str, as_json: bool) -> None:
    """Report what of some data can be trained on, and why the rest cannot.

    Reads every file of a folder (one split, or sub-folders train, dev and test), of a JSONL file or of
    all sources of a recipe, as training would. Exits with 1 if a row would be dropped.
    """
    from adapter_hub.model.base_model import load_base_model
    from adapter_hub.trainers.data.check import check_data, sources_at

    sources, rules = sources_at(place, ctx.obj.open_cache().folder)
    report = check_data(sources, load_base_model(base_model), rules)
    if as_json:
        echo_json(report.to_json())
    else:
        _print_report(report)
    if not report.clean:
        ctx.exit(1)


def _print_report(report: DataReport) -> None:
    headings = [
        "split",
        "utterances",
        "usable",
        "hours",
        "shortest s",
        "median s",
        "longest s",
        "tokens",
        "speakers",
    ]
    echo_text(
        table(
            headings,
            [
                [
                    s.split,
                    s.utterances,
                    s.usable,
                    s.hours,
                    s.shortest_seconds,
                    s.median_seconds,
                    s.longest_seconds,
                    s.longest_tokens,
                    s.speakers,
                ]
                for s in report.splits
            ],
        )
    )
    for split in report.splits:
        for row in split.dropped:
            echo_line(f"dropped from {split.split}: {row.id}: {row.reason}")
    for pair, speakers in report.shared_speakers.items():
        echo_line(
            f"{pair} share {counted(len(speakers), 'speaker')} ({', '.join(speakers[:5])}): "
            "no scores for new voices"
        )
    for pair, count in report.shared_transcripts.items():
        echo_line(f"{pair} share {counted(count, 'transcript')}")


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
@BASE_MODEL
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def similarity(
    settings: Settings,
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

    base = load_base_model(base_model, device=settings.device)
    own = language.partition("-")[0].lower() if language else ""
    known = candidates(settings.registries(), base, leave_out=own)
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


@click.command()
@click.argument("recipe_file", metavar="RECIPE.toml", type=PATH)
@click.option("--out", type=PATH, required=True, help="Folder of the new artifact; must not exist.")
@click.option(
    "--tensorboard", type=PATH, help="Folder for TensorBoard's event files, in a sub-folder named like --out."
)
@click.option("--json", "as_json", is_flag=True, help="Print the manifest as JSON.")
@click.pass_obj
def train(settings: Settings, recipe_file: Path, out: Path, tensorboard: Path | None, as_json: bool) -> None:
    """Train an adapter as a recipe says.

    Ctrl-C saves a checkpoint; the same command resumes from it. The artifact appears whole or not at
    all; publish it with `adapter-hub publish`. Method full-fine-tuning writes a Whisper folder instead.

    On several GPUs or machines, that see --out alike: `torchrun --nproc-per-node 4 -m adapter_hub train
    RECIPE.toml --out FOLDER`. They share the rows of every step, so the outcome stays the recipe's.
    """
    from adapter_hub.formats.full_fine_tune import FullFineTune
    from adapter_hub.trainers.loop.process_group import OtherProcessError, is_main_process
    from adapter_hub.trainers.training import train as run

    try:
        outcome = run(
            recipe_file,
            out,
            registries=settings.registries(),
            cache=settings.open_cache(),
            device=settings.device,
            tell=tell,
            tensorboard=tensorboard,
        )
    except OtherProcessError:
        raise SystemExit(1) from None
    if not is_main_process():
        return
    full = isinstance(outcome, FullFineTune)
    if as_json:
        echo_json((outcome if isinstance(outcome, FullFineTune) else outcome.manifest).to_json())
    else:
        echo_line(f"{outcome.ref} {outcome.digest} in {out}")
    tell(f"next: adapter-hub {'evaluate base-model --data FOLDER --base-model' if full else 'publish'} {out}")


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
