"""The recipes of a reproduction: the text that each training is done by.

text = recipe_text(settings, cell, parent)     # written to recipes/<slug>.toml in the run's folder

Paths are relative to the recipe, so that a run's folder can be moved.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping

from adapter_hub.trainers.recipe import EXPERT, FULL_FINE_TUNING
from adapter_hub.trainers.reproduction.cells import Cell, Work, slug_of
from adapter_hub.trainers.reproduction.settings import Settings

METHODS = {"E4": "lora", "E7": "lora", "E8": "warm-start", "E9": "expert-pair"}
NAMESPACE, VERSION = "reproduction", "1.0.0"
LICENSE = "Apache-2.0"  # of the synthesised speech and of what is trained on it


def adapter_ref(training: str) -> str:
    """Return `namespace/name@version` of the adapter that a training cell makes."""
    return f"{NAMESPACE}/{slug_of(training)}@{VERSION}"


def speech_folder(language: str) -> str:
    """Return the name of a language's data set, below `speech` in the run's folder."""
    return f"spoken-numbers-{language}"


def parent_training(cell: Cell) -> str | None:
    """Return the training whose adapter E8 and E9 start from, one of what they need; None for the others."""
    if cell.work.parent is None:
        return None
    return next(name for name in cell.needs if name.startswith(f"E4/{cell.work.parent}/"))


def recipe_text(settings: Settings, cell: Cell, parent: str | None = None) -> str:
    """Return the recipe of a training cell.

    Args:
        settings: what all cells share.
        cell: the training; its rate, and its parent if it has one, are known.
        parent: the training whose adapter E8 and E9 start from.
    """
    work = cell.work
    method = METHODS.get(work.system, FULL_FINE_TUNING)
    tables = [_adapter(cell, method), _base_model(settings, work)]
    if parent is not None:
        if method == "expert-pair":
            tables.append(_table("expert", parent_table(settings, parent)))
            tables.append(_table("gate", {"kind": settings.gate.kind}))
            tables.append(_table("seed", {"adapter": EXPERT}))
        else:
            tables.append(_table("seed", parent_table(settings, parent)))
    tables += _data(settings, work, method)
    if method != FULL_FINE_TUNING:
        lora = {"rank": work.rank, "alpha": 2.0 * work.rank, "dtype": settings.lora.dtype}
        tables.append(_table("lora", lora))
    tables.append(_table("training", training_table(settings, work)))
    return f"# {cell.name}: a cell of `adapter-hub reproduce`\n\n" + "\n".join(tables)


def _adapter(cell: Cell, method: str) -> str:
    values = {"name": f"{NAMESPACE}/{cell.slug}", "version": VERSION, "method": method, "license": LICENSE}
    if method != FULL_FINE_TUNING:
        values["language"] = cell.work.languages[0]
    return _table("adapter", values)


def _base_model(settings: Settings, work: Work) -> str:
    name = settings.base_model if work.start is None else f"../trained/{slug_of(work.start)}"
    return _table("base_model", {"id": name})


def parent_table(settings: Settings, training: str) -> dict[str, object]:
    """Return `[seed]` or `[expert]`: what a training made, and how similar its language is."""
    return {
        "adapter": adapter_ref(training),
        "among": settings.base_languages,
        "segments": settings.similarity.segments,
        "random_seed": settings.similarity.random_seed,
    }


def _data(settings: Settings, work: Work, method: str) -> Iterable[str]:
    """Return `[data]`: one folder, or the sources of a mixture."""
    first = f"../speech/{speech_folder(work.languages[0])}/train"
    if method != FULL_FINE_TUNING:
        return [_table("data", {"train": first, "license": LICENSE})]
    sources = []
    for language in (*work.languages, *work.replay):
        source: dict[str, object] = {
            "folder": f"../speech/{speech_folder(language)}/train",
            "language": language,
            "license": LICENSE,
        }
        if language in work.replay:
            source["hours"] = settings.replay.hours
        sources.append("[[data.train]]\n" + _lines(source))
    return [_table("data", {"license": LICENSE}), *sources]


def training_table(settings: Settings, work: Work) -> dict[str, object]:
    """Return `[training]` of a cell, as far as the settings decide it."""
    training = settings.training
    return {
        "epochs": settings.epochs_of(work.system),
        "batch_size": training.batch_size,
        "peak_learning_rate": work.rate,
        "warmup_share": training.warmup_share,
        "audio_length": training.audio_length,
        "spec_augment": training.spec_augment,
        "random_seed": work.random_seed,
    }


def toml_text(tables: Mapping[str, object]) -> str:
    """Return tables as TOML: values of their own first, then arrays of tables."""
    parts = []
    for name, table in tables.items():
        assert isinstance(table, Mapping)
        arrays = {key: rows for key, rows in table.items() if _is_array_of_tables(rows)}
        own = {key: value for key, value in table.items() if key not in arrays}
        if own or not arrays:
            parts.append(_table(name, own))
        parts += [f"[[{name}.{key}]]\n{_lines(row)}" for key, rows in arrays.items() for row in rows]
    return "\n".join(parts)


def _is_array_of_tables(value: object) -> bool:
    return isinstance(value, list) and bool(value) and isinstance(value[0], Mapping)


def _table(name: str, values: Mapping[str, object]) -> str:
    return f"[{name}]\n" + _lines(values)


def _lines(values: Mapping[str, object]) -> str:
    # what JSON and TOML write alike: strings, numbers, true and false, arrays
    return "".join(f"{key} = {json.dumps(value, ensure_ascii=False)}\n" for key, value in values.items())
