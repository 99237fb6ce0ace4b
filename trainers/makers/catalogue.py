"""Make the embedded catalogue: `python -m adapter_hub.trainers.makers.catalogue --work FOLDER`.

Speech for every language, then the project's own commands (train, publish, evaluate --attach) on the
recipes in `recipes/mini`, into the store and registry of this checkout; at the end the average of the base
languages' adapters, evaluated on all languages beside them and the base model, with what it has forgotten of
the base languages. What exists already is kept, so an interrupted run goes on. About an hour and a half on
two cores.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import click

from adapter_hub import embedded
from adapter_hub.registry.file import FileRegistry
from adapter_hub.stores.folder import FolderStore
from adapter_hub.trainers.makers.corpus.render import write_corpus
from adapter_hub.trainers.recipe import read_recipe

RECIPES = Path(__file__).parents[1] / "recipes" / "mini"
SIZES = {"train": 1200, "dev": 100, "test": 300}
# half the exact average's rank, so half its bytes: it keeps 99 % of the energy, and the error rates are the
# same; the exact one is there anyway, as the sum mini/it*0.25+mini/pl*0.25+mini/pt*0.25+mini/zh*0.25
AVERAGE, AVERAGE_RANK = "mini/average@1.0.0", 16
SEEDS = ("pl", "pt", "it", "zh")  # trained first: the others may start from them


def speech(work: Path, language: str, *, to_train: bool) -> Path:
    """Return the folder of a language's speech, synthesised if it is not there yet.

    Args:
        work: folder for speech and runs.
        language: BCP 47.
        to_train: all splits, not only `test`.
    """
    folder = work / "speech" / f"spoken-numbers-{language}"
    sizes = {split: size for split, size in SIZES.items() if to_train or split == "test"}
    write_corpus(folder, language, sizes, processes=os.cpu_count() or 1, progress=lambda *_: None)
    return folder


def run(*arguments: str) -> None:
    """Run a command of the project in a process of its own, on the embedded registry and store."""
    command = [sys.executable, "-m", "adapter_hub", "--registry", str(embedded.registry_path()),
               "--store", str(embedded.store_path()), *arguments]  # fmt: skip
    click.echo(f"$ adapter-hub {' '.join(arguments)}", err=True)
    threads = {"OMP_NUM_THREADS": "1"}  # two at a time on two cores
    subprocess.run(command, check=True, env=os.environ | threads)


def make(work: Path, name: str) -> None:
    """Train, publish and evaluate one recipe of the catalogue.

    Args:
        work: folder for speech and runs.
        name: of the recipe, without `.toml`.
    """
    recipe = work / f"{name}.toml"
    shutil.copyfile(RECIPES / recipe.name, recipe)
    adapter = read_recipe(recipe).recipe.adapter
    out = work / "out" / name
    run("train", str(recipe), "--out", str(out))
    run("publish", str(out))
    block = FileRegistry(embedded.registry_path()).adapters[adapter.name][adapter.version]
    if not block.scores and adapter.language:
        measure(work, f"{adapter.name}@{adapter.version}", adapter.language, "--attach")


def measure(work: Path, ref: str, language: str, *more: str) -> None:
    """Evaluate an adapter, or the base model, on the test speech of a language.

    Args:
        work: folder for speech and runs.
        ref: of the adapter.
        language: BCP 47.
        more: arguments of `evaluate`.
    """
    data = work / "speech" / f"spoken-numbers-{language}"
    run("evaluate", ref, "--data", str(data), "--language", language, "--batch-size", "16", *more)


def make_average(work: Path) -> None:
    """Average the adapters of the base languages with equal weights and publish it, unless that is done.

    Args:
        work: folder for speech and runs.
    """
    out = work / "out" / "average"
    if not out.is_dir():
        components = [f"mini/{language}@1.0.0" for language in sorted(SEEDS)]
        how = ("--rank", str(AVERAGE_RANK), "--precision", "float16", "--as", AVERAGE, "--out", str(out))
        run("average", *components, *how)
    run("publish", str(out))


def measure_average(work: Path, language: str) -> None:
    """Evaluate the average on a language beside its components and the base model, unless that is done.

    Args:
        work: folder for speech and runs.
        language: BCP 47.
    """
    name, _, version = AVERAGE.partition("@")
    scores = FileRegistry(embedded.registry_path()).adapters[name][version].scores
    if any(score.data == f"spoken-numbers-{language}" for score in scores):
        return
    (work / "reports").mkdir(exist_ok=True)
    beside = []
    for ref in ("base-model", *(f"mini/{seed}@1.0.0" for seed in sorted(SEEDS))):
        file = report_on(work, ref, language)
        if not file.is_file():
            measure(work, ref, language, "--out", str(file))
        beside += ["--beside", str(file)]
    measure(work, AVERAGE, language, *beside, "--out", str(report_on(work, AVERAGE, language)), "--attach")


def report_on(work: Path, ref: str, language: str) -> Path:
    """Return the file for the report on a model on the test speech of a language.

    Args:
        work: folder for speech and runs.
        ref: of the adapter, or `base-model`.
        language: BCP 47.
    """
    return work / "reports" / f"{ref.partition('@')[0].replace('/', '-')}-on-{language}.json"


def record_forgetting(work: Path) -> None:
    """Publish how much worse the average is than the base model over the base languages, unless that is done.

    Args:
        work: folder for speech and runs.
    """
    name = AVERAGE.partition("@")[0]
    reports = FolderStore(embedded.store_path()).readable_claims(name).claims.reports
    if not any(report.forgetting for report in reports):
        files = [report_on(work, ref, seed) for ref in ("base-model", AVERAGE) for seed in sorted(SEEDS)]
        run("compare", *map(str, files), "--attach")


@click.command()
@click.option("--work", type=click.Path(path_type=Path), required=True, help="Folder for speech and runs.")
@click.option("--jobs", default=2, show_default=True, help="Adapters at a time.")
def main(work: Path, jobs: int) -> None:
    """Make the embedded catalogue from the recipes in recipes/mini."""
    names = sorted(path.stem for path in RECIPES.glob("*.toml"))
    languages = sorted({name.partition("-")[0] for name in names})
    listed = FileRegistry(embedded.registry_path()).adapters
    names = [
        name for name in names if not any(block.scores for block in listed.get(f"mini/{name}", {}).values())
    ]
    for language in languages:
        speech(work, language, to_train=any(name.partition("-")[0] == language for name in names))
    with ThreadPoolExecutor(jobs) as pool:
        seeds = [name for name in names if name in SEEDS]
        for group in (seeds, [name for name in names if name not in SEEDS]):
            list(pool.map(lambda name: make(work, name), group))
        make_average(work)
        list(pool.map(lambda language: measure_average(work, language), languages))
    record_forgetting(work)


if __name__ == "__main__":
    main()
