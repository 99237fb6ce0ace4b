"""The recipes of the reproduction: the text that each training is done by.

    recipe_text(settings, cell)              # written to recipes/<slug>.toml in the run's folder
    data_recipe(settings, "da", "test")      # at the paper's size: a recipe whose training data is a test set

At the paper's size a recipe of `trainers/recipes` is the template: it names the data of every language on
the Hub, the LoRA's modules, and how the GPU is used (like precision). In miniature the template is made up
here, on synthesised speech. Everything else is the settings' and the cell's: base model, languages, hours of
replay, gate, similarity, learning rate, random seed, epochs, rank and parents. Paths are relative to the
recipe, so that a run's folder can be moved.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from adapter_hub.errors import NotFoundError
from adapter_hub.trainers.recipe_tables import EXPERT
from adapter_hub.trainers.reproduction.cells import Cell, adapter_ref, slug_of
from adapter_hub.trainers.reproduction.lora_whisper.settings import Settings, Split
from adapter_hub.trainers.reproduction.lora_whisper.systems import SYSTEMS, Work
from adapter_hub.trainers.reproduction.toml import toml_text

RECIPES = Path(__file__).parents[2] / "recipes"
LICENSE = "Apache-2.0"  # of the synthesised speech and of what is trained on it
Tables = dict[str, Any]  # of a recipe
Source = dict[str, Any]  # of `[[data.train]]` or `[[data.dev]]`


def recipe_text(settings: Settings, cell: Cell[Work]) -> str:
    """Return the recipe of a training cell.

    Args:
        settings: what all cells share.
        cell: the training; its rate, and its parent if it has one, are known.

    Raises:
        NotFoundError: the settings name recipes that do not exist.
    """
    work = cell.work
    tables = _made_up(settings, work) if settings.full_size is None else _read(settings, _name(work))
    tables["adapter"] |= dict(zip(("name", "version"), adapter_ref(cell.name).split("@"), strict=True))
    tables["base_model"] = _base_model(settings, work)
    if settings.full_size is not None and SYSTEMS[work.system].together:
        tables["data"] |= _mixture(settings, work)
    if "lora" in tables:
        tables["lora"] |= {"rank": work.rank, "alpha": 2.0 * work.rank, "dtype": settings.lora.dtype}
    if "gate" in tables:
        tables["gate"] = {"kind": settings.gate.kind}
    for role in ("seed", "expert"):
        if role in tables and tables[role].get("adapter") != EXPERT:
            assert work.start is not None
            tables[role] = {
                "adapter": adapter_ref(work.start),
                "among": settings.base_languages,
                "segments": settings.similarity.segments,
                "random_seed": settings.similarity.random_seed,
            }
    tables["training"] |= {
        "epochs": settings.epochs_of(work.system),
        "batch_size": settings.training.batch_size,
        "peak_learning_rate": work.rate,
        "warmup_share": settings.training.warmup_share,
        "audio_length": settings.training.audio_length,
        "spec_augment": settings.training.spec_augment,
        "random_seed": work.random_seed,
    }
    return f"# {cell.name}: a cell of `adapter-hub reproduce`\n\n" + toml_text(tables)


def speech_folder(language: str) -> str:
    """Return the name of a language's data set, below `speech` in the run's folder."""
    return f"spoken-numbers-{language}"


def data_recipe(settings: Settings, language: str, split: Split) -> str:
    """Return a recipe whose training data is a split of a language's data set on the Hub.

    So that a split that no training reads is opened as all data sets of recipes are.

    Args:
        settings: with `full_size`.
        language: of the data set.
        split: of the data set.
    """
    assert settings.full_size is not None
    tables = _read(settings, _name(_alone(settings, language)))
    sources = tables["data"]["train" if split == "train" else "dev"]
    if split == "test":
        sources = [source | {"split": settings.full_size.test_split} for source in sources]
    return toml_text({"adapter": tables["adapter"], "data": {"train": sources}})


def _made_up(settings: Settings, work: Work) -> Tables:
    """Return a template on synthesised speech."""
    system = SYSTEMS[work.system]
    tables: Tables = {"adapter": {"name": "", "version": "", "method": system.method, "license": LICENSE}}
    tables["base_model"] = {}
    if system.method == "expert-pair":
        tables |= {"expert": {}, "gate": {}, "seed": {"adapter": EXPERT}}
    elif system.method == "warm-start":
        tables["seed"] = {}
    folders = {k: f"../speech/{speech_folder(k)}/train" for k in (*work.languages, *work.replay)}
    if system.full:
        sources: list[Source] = []
        for language, folder in folders.items():
            sources.append({"folder": folder, "language": language, "license": LICENSE})
            if language in work.replay:
                sources[-1]["hours"] = settings.replay.hours
        tables["data"] = {"license": LICENSE, "train": sources}
    else:
        tables["adapter"]["language"] = work.languages[0]
        tables |= {"data": {"train": folders[work.languages[0]], "license": LICENSE}, "lora": {}}
    return tables | {"training": {}}


def _base_model(settings: Settings, work: Work) -> dict[str, str]:
    if work.start is not None and SYSTEMS[work.system].full:
        return {"id": f"../trained/{slug_of(work.start)}"}
    revision = settings.base_model_revision
    return {"id": settings.base_model} | ({} if revision is None else {"revision": revision})


def _mixture(settings: Settings, work: Work) -> dict[str, list[Source]]:
    """Return the sources of a model for several languages: those of each of them, and of what is replayed."""

    def sources(languages: Iterable[str], split: str) -> list[Source]:
        tables = (_read(settings, _name(_alone(settings, language))) for language in languages)
        return [source for one in tables for source in one["data"][split]]

    replayed = [source | {"hours": settings.replay.hours} for source in sources(work.replay, "train")]
    return {
        "train": sources(work.languages, "train") + replayed,
        "dev": sources(work.languages, "dev"),
    }


def _alone(settings: Settings, language: str) -> Work:
    """Return the training of a LoRA from scratch for one language."""
    return Work(system="E4" if language in settings.base_languages else "E7", languages=(language,))


def _name(work: Work) -> str:
    if SYSTEMS[work.system].together:
        return work.system.lower()
    return f"{work.system.lower()}-{work.languages[0]}"


def _read(settings: Settings, name: str) -> Tables:
    assert settings.full_size is not None
    path = RECIPES / settings.full_size.recipes / f"{name}.toml"
    if not path.is_file():
        raise NotFoundError(f"{path}: no such recipe; full_size.recipes has to name a folder with it")
    return tomllib.loads(path.read_text(encoding="utf-8"))
