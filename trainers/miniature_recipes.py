"""The experiments of LoRA-Whisper in miniature, as recipes.

    python -m adapter_hub.trainers.miniature_recipes --results benchmarks/results/lora_whisper/results.json
    recipes(results)["e8-da"]       # TOML; committed as recipes/lora-whisper-mini/e8-da.toml

Each is what a cell of `adapter-hub reproduce` trained by: at the learning rate that was the best on dev, with
the first random seed. Their paths are those of the run's folder, where speech, parents and registry are.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from adapter_hub.files.writing import write_atomically
from adapter_hub.trainers.full_size_recipes import SPEECH
from adapter_hub.trainers.reproduction.cells import Cell, Known, slug_of
from adapter_hub.trainers.reproduction.plan import plan
from adapter_hub.trainers.reproduction.recipes import parent_training, recipe_text
from adapter_hub.trainers.reproduction.settings import (
    EXPANSION,
    RateSettings,
    Settings,
    parse_settings,
    settings_text,
)

FOLDER = Path(__file__).parent / "recipes" / "lora-whisper-mini"
WHAT = {
    "e2": "E2: full fine-tuning on the base languages together (table 3)",
    "e3": "E3: full fine-tuning on {language} (table 3)",
    "e4": "E4: a LoRA for {language} (table 3)",
    "e5": "E5: E2 fine-tuned on the new languages (table 4)",
    "e6": "E6: E2 fine-tuned on the new languages and a share of the base languages (table 4)",
    "e7": "E7: a LoRA for {language} from scratch (table 4)",
    "e8": "E8: a LoRA for {language}, warm start from {parent} (tables 4 and 5)",
    "e9": "E9: {language} beside {parent}, an expert pair (table 4)",
    "init": "table 5: a LoRA for {language}, warm start from {parent}",
    "rank": "table 2: rank {rank} on {language}",
}
HEAD = """\
# LoRA-Whisper in miniature, {what}
# Written by `python -m adapter_hub.trainers.miniature_recipes`: the cell {cell} of
# `adapter-hub reproduce lora-whisper`. Copied into that run's folder, it finds speech/ and parents; there
#     adapter-hub --registry registry.json train {name}.toml --out out/{name}
"""


def recipes(results: Mapping[str, Any]) -> dict[str, str]:
    """Return the text of every recipe by its file's name without `.toml`.

    Args:
        results: what `results.json` of a finished reproduction holds: chosen learning rates, and the nearest
            base language of every new one.
    """
    rates = {system: choice["rate"] for system, choice in results["choices"].items()}
    known, found = Known(rates, dict(results["nearest"])), {}
    settings = _settings(rates)
    for cell in plan(settings, settings.tables, known):
        work = cell.work
        first = work.random_seed == settings.first_seed
        if cell.kind == "training" and first and work.rate == known.rates.get(work.system):
            name = _name(cell, settings, known)
            found[name] = _text(cell, name, settings, known)
    return found


def _settings(rates: Mapping[str, float]) -> Settings:
    """Return the miniature's settings with the chosen rates for grids, wherever they were chosen from."""
    settings = parse_settings(settings_text("mini"), "mini")
    grids = {system: (rate,) for system, rate in rates.items() if system not in EXPANSION}
    expansion = tuple(sorted({rates[system] for system in EXPANSION}))
    return settings.model_copy(update={"peak_learning_rates": RateSettings(**grids, expansion=expansion)})


def _kind(cell: Cell, settings: Settings, known: Known) -> str:
    work = cell.work
    if work.system == "E4" and work.rank != settings.lora.rank:
        return "rank"
    if work.system == "E8" and work.parent != known.nearest[work.languages[0]]:
        return "init"
    return work.system.lower()


def _name(cell: Cell, settings: Settings, known: Known) -> str:
    kind, work = _kind(cell, settings, known), cell.work
    if kind == "rank":
        return f"rank-{work.rank:02d}"
    if kind == "init":
        return f"init-{work.languages[0]}-{work.parent}"
    return f"{kind}-{work.languages[0]}" if work.system in ("E3", "E4", *EXPANSION) else kind


def _text(cell: Cell, name: str, settings: Settings, known: Known) -> str:
    """Return a cell's recipe as it is used in the run's folder instead of its recipes/."""
    work, parent = cell.work, parent_training(cell)
    what = WHAT[_kind(cell, settings, known)]
    near = SPEECH[work.parent].name if work.parent else ""
    what = what.format(language=SPEECH[work.languages[0]].name, parent=near, rank=work.rank)
    head = HEAD.format(what=what, cell=cell.name, name=name)
    if work.parent is not None:
        head += f"# Its parent is what e4-{work.parent}.toml makes.\n"
    if work.start is not None:
        head += f"# It goes on from what e2.toml makes, with --out trained/{slug_of(work.start)}.\n"
    _, _, body = recipe_text(settings, cell, parent).partition("\n")
    return head + body.replace('"../speech/', '"speech/').replace('"../trained/', '"./trained/')


@click.command()
@click.option("--results", type=click.Path(path_type=Path, exists=True), required=True,
              help="results.json of a finished reproduction.")  # fmt: skip
@click.option("--out", type=click.Path(path_type=Path), default=FOLDER, help="Folder to write to.")
def main(results: Path, out: Path) -> None:
    """Write the recipes of the paper's experiments in miniature; those of an earlier run are replaced."""
    texts = recipes(json.loads(results.read_bytes()))
    for path in out.glob("*.toml"):
        if path.stem not in texts:
            path.unlink()
    for name, text in texts.items():
        write_atomically(out / f"{name}.toml", text.encode())


if __name__ == "__main__":
    main()
