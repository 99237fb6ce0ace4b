"""Make the tests' Parakeet CTC.

    python -m adapter_hub.trainers.makers.parakeet --work runs/parakeet --out tests/data/parakeet

The same command resumes what was interrupted. The same settings give the same speech everywhere; the weights
depend on the machine's floating-point kernels, so they are kept in `tests/data`, with `training.json` as the
record of how they were made and what they reach.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
import torch

from adapter_hub.data.dataset import read_dataset
from adapter_hub.errors import AdapterHubError
from adapter_hub.evaluation.evaluating import EvaluationOptions, evaluate
from adapter_hub.formats.full_fine_tune import FullFineTune
from adapter_hub.packages import PACKAGES, package_versions
from adapter_hub.stores.cache import Cache
from adapter_hub.trainers.makers.corpus.render import write_folder
from adapter_hub.trainers.makers.parakeet.architecture import build_model, halve, save
from adapter_hub.trainers.makers.parakeet.speech import SETTINGS, plan_digits
from adapter_hub.trainers.training import train
from adapter_hub.transcription.opening import load

RECIPE = Path(__file__).with_name("recipe.toml")


def tell(line: str) -> None:
    """Report progress on stderr."""
    click.echo(line, err=True)


def write_speech(folder: Path) -> None:
    """Synthesise every split of every language that is not there yet, as `<language>-<split>`.

    Args:
        folder: of them all.
    """
    style = SETTINGS["speech"]
    for language in style["languages"]:
        for split, count in style["utterances"].items():
            place = folder / f"{language}-{split}"
            if not (place / "metadata.jsonl").is_file():
                write_folder(plan_digits(language, split, count, style), place)


def error_rates(model: Path, speech: Path) -> dict[str, dict[str, Any]]:
    """Return the word error rate of a model on the test speech of each language.

    Args:
        model: its folder.
        speech: as `write_speech` fills it.
    """
    transcriber = load("base-model", base_model=str(model), device="cpu")
    found: dict[str, dict[str, Any]] = {}
    for language in SETTINGS["speech"]["languages"]:
        data = read_dataset(speech / f"{language}-test")
        report = evaluate(transcriber, data, EvaluationOptions(language=language, batch_size=16))
        rate = report.words
        found[language] = {"errors": rate.errors, "words": rate.reference_length, "wer": round(rate.rate, 4)}
    return found


def record_of(trained: FullFineTune, rates: Mapping[str, Any]) -> dict[str, Any]:
    """Return how the model was made and what it reaches, as JSON data.

    Args:
        trained: the record of its training.
        rates: of `error_rates`.
    """
    assert trained.training is not None  # this maker's models are trained
    return {
        "created": trained.created,
        "settings": Path(__file__).with_name("settings.toml").read_text(encoding="utf-8"),
        "recipe": RECIPE.read_text(encoding="utf-8"),
        "training": trained.training.to_json(),
        "packages": package_versions((*PACKAGES, "espeakng-loader", "tokenizers")),
        "test": dict(rates),
    }


@click.command()
@click.option(
    "--work", type=click.Path(path_type=Path), required=True, help="Folder of speech and checkpoints."
)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder of the model.")
def main(work: Path, out: Path) -> None:
    """Make the small Parakeet CTC from its settings and recipe."""
    torch.set_num_threads(1)
    write_speech(work / "speech")
    if not (work / "untrained").is_dir():
        torch.manual_seed(SETTINGS["training"]["random_seed"])
        save(build_model(SETTINGS["encoder"]), work / "untrained")
    recipe = Path(shutil.copyfile(RECIPE, work / RECIPE.name))
    try:
        trained = train(recipe, work / "trained", cache=Cache(work / "cache"), device="cpu", tell=tell)
    except AdapterHubError as error:  # such as Ctrl-C: the same command resumes
        raise click.ClickException(str(error)) from None
    assert isinstance(trained, FullFineTune)  # the method of the recipe
    halve(work / "trained", out)
    record = record_of(trained, error_rates(out, work / "speech"))
    (out / "training.json").write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n")
    tell(json.dumps(record["test"]))


if __name__ == "__main__":
    main()
