"""Cells at the paper's size: the recipes of `trainers/recipes`, with what a cell decides put in.

    full_size_recipe(settings, cell, parent)          # the text that a training is done by
    data_recipe(settings, "da", "test")               # a recipe whose training data is a test set

The recipes name the data of every language on the Hub, the LoRA's modules, and how the GPU is used (like
precision); everything else is the settings' and the cell's: base model, languages, hours of replay, gate,
similarity, learning rate, random seed, epochs, rank and parents.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from adapter_hub.errors import NotFoundError
from adapter_hub.trainers.recipe import EXPERT
from adapter_hub.trainers.reproduction.cells import Cell, Work, slug_of
from adapter_hub.trainers.reproduction.recipes import (
    NAMESPACE,
    VERSION,
    parent_table,
    toml_text,
    training_table,
)
from adapter_hub.trainers.reproduction.settings import Settings, Split

RECIPES = Path(__file__).parents[1] / "recipes"
TOGETHER = ("E2", "E5", "E6")  # one model for several languages
Source = dict[str, Any]  # of `[[data.train]]` or `[[data.dev]]`


def full_size_recipe(settings: Settings, cell: Cell, parent: str | None = None) -> str:
    """Return the recipe of a training cell at the paper's size.

    Args:
        settings: with `full_size`.
        cell: the training; its rate, and its parent if it has one, are known.
        parent: the training whose adapter E8 and E9 start from.

    Raises:
        NotFoundError: the settings name recipes that are not there.
    """
    work = cell.work
    tables = _read(settings, _name(work))
    tables["adapter"] |= {"name": f"{NAMESPACE}/{cell.slug}", "version": VERSION}
    tables["base_model"] = _base_model(settings, work)
    if work.system in TOGETHER:
        tables["data"] |= _mixture(settings, work)
    if "lora" in tables:
        tables["lora"] |= {"rank": work.rank, "alpha": 2.0 * work.rank, "dtype": settings.lora.dtype}
    if "gate" in tables:
        tables["gate"] = {"kind": settings.gate.kind}
    for role in ("seed", "expert"):
        if role in tables and tables[role]["adapter"] != EXPERT:
            assert parent is not None
            tables[role] = parent_table(settings, parent)
    tables["training"] |= training_table(settings, work)
    return f"# {cell.name}: a cell of `adapter-hub reproduce`\n\n" + toml_text(tables)


def data_recipe(settings: Settings, language: str, split: Split) -> str:
    """Return a recipe whose training data is a split of a language's data set.

    So that a split that no training reads is opened as all data sets of recipes are.
    """
    assert settings.full_size is not None
    tables = _read(settings, _name(_alone(settings, language)))
    sources = tables["data"]["train" if split == "train" else "dev"]
    if split == "test":
        sources = [source | {"split": settings.full_size.test_split} for source in sources]
    return toml_text({"adapter": tables["adapter"], "data": {"train": sources}})


def _base_model(settings: Settings, work: Work) -> dict[str, Any]:
    if work.start is not None:
        return {"id": f"../trained/{slug_of(work.start)}"}
    named: dict[str, Any] = {"id": settings.base_model, "revision": settings.base_model_revision}
    return {key: value for key, value in named.items() if value is not None}


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
    if work.system in TOGETHER:
        return work.system.lower()
    return f"{work.system.lower()}-{work.languages[0]}"


def _read(settings: Settings, name: str) -> dict[str, Any]:
    assert settings.full_size is not None
    path = RECIPES / settings.full_size.recipes / f"{name}.toml"
    if not path.is_file():
        raise NotFoundError(f"{path}: no such recipe; full_size.recipes has to name a folder with it")
    return tomllib.loads(path.read_text(encoding="utf-8"))
