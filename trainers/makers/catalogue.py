"""Make the embedded catalogue: `python -m adapter_hub.trainers.makers.catalogue --work FOLDER`.

Speech for every language, then the project's own commands (train, publish, evaluate --attach) on the
recipes in `recipes/mini`, into the store and registry of this checkout. What exists already is kept,
so an interrupted run goes on. About an hour on two cores.
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
from adapter_hub.trainers.makers.corpus.render import write_corpus
from adapter_hub.trainers.recipe import read_recipe

RECIPES = Path(__file__).parents[1] / "recipes" / "mini"
SIZES = {"train": 1200, "dev": 100, "test": 300}
SEEDS = ("pl", "pt", "it", "zh")  # trained first: the others may start from them


def speech(work: Path, language: str) -> Path:
    """Return the folder of a language's speech, synthesised if it is not there yet.

    Args:
        work: folder for speech and runs.
        language: BCP 47.
    """
    folder = work / "speech" / f"spoken-numbers-{language}"
    write_corpus(folder, language, SIZES, processes=os.cpu_count() or 1, progress=lambda *_: None)
    return folder


def run(*arguments: str) -> None:
    """Run a command of the project in a process of its own, on the embedded registry and store."""
    command = [sys.executable, "-m", "adapter_hub", "--registry", str(embedded.registry_path()),
               "--store", str(embedded.store_path()), *arguments]  # fmt: skip
    click.echo(f"$ adapter-hub {' '.join(arguments)}", err=True)
    threads = {"OMP_NUM_THREADS": "1"}  # two at a time on two cores
    subprocess.run(command, check=True, env=os.environ | threads)


def make(work: Path, name: str) -> None:
    """Train, publish and evaluate one recipe of the catalogue, unless it is published.

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
    if not block.scores:
        data = work / "speech" / f"spoken-numbers-{adapter.language}"
        run(
            "evaluate",
            f"{adapter.name}@{adapter.version}",
            "--data",
            str(data),
            "--batch-size",
            "16",
            "--attach",
        )


@click.command()
@click.option("--work", type=click.Path(path_type=Path), required=True, help="Folder for speech and runs.")
@click.option("--jobs", default=2, show_default=True, help="Adapters at a time.")
def main(work: Path, jobs: int) -> None:
    """Make the embedded catalogue from the recipes in recipes/mini."""
    names = sorted(path.stem for path in RECIPES.glob("*.toml"))
    for language in sorted({name.partition("-")[0] for name in names}):
        speech(work, language)
    with ThreadPoolExecutor(jobs) as pool:
        for group in (SEEDS, [name for name in names if name not in SEEDS]):
            list(pool.map(lambda name: make(work, name), group))


if __name__ == "__main__":
    main()
