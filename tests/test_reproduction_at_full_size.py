"""The paper's size, with settings of one's own: they decide what is trained; every worker has its GPU."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import torch
from reproductions import PAPER, read

from adapter_hub.trainers.recipe import read_recipe
from adapter_hub.trainers.recipe_tables import Recipe
from adapter_hub.trainers.reproduction.lora_whisper.plan import Known, cells_of
from adapter_hub.trainers.reproduction.lora_whisper.recipes import RECIPES, recipe_text
from adapter_hub.trainers.reproduction.lora_whisper.settings import Settings
from adapter_hub.trainers.reproduction.lora_whisper.systems import SYSTEMS, TABLES
from adapter_hub.trainers.reproduction.workers import share, visible_gpus

OWN = {
    "base_model = .*": 'base_model = "openai/whisper-large-v3"',
    "base_model_revision = .*": f'base_model_revision = "{"0123456789" * 4}"',
    "base_languages = .*": 'base_languages = ["pl", "zh"]',
    "new_languages = .*": 'new_languages = ["da"]',
    "hours = 5.0": "hours = 1.0",
    "kind = .*": 'kind = "static"',
    "dtype = .*": 'dtype = "bfloat16"',
    "segments = 200": "segments = 50",
}


def own() -> Settings:
    text = PAPER
    for pattern, replacement in OWN.items():
        text, changes = re.subn(f"^{pattern}", replacement, text, flags=re.MULTILINE)
        assert changes == 1, pattern
    return read(text)


def tables(settings: Settings, system: str, **work: Any) -> dict[str, Any]:
    """Return the recipe of a system's first training with such work."""
    rates = {name: settings.rates(name)[0] for name in SYSTEMS}
    cells = cells_of(settings, tuple(TABLES), Known(rates, dict.fromkeys(settings.new_languages, "zh")))
    cell = next(
        cell
        for cell in cells
        if cell.kind == "training"
        and cell.work.system == system
        and all(getattr(cell.work, key) == value for key, value in work.items())
    )
    return tomllib.loads(recipe_text(settings, cell))


def languages(found: dict[str, Any], split: str) -> list[str]:
    return [source["language"] for source in found["data"][split]]


def test_a_model_for_several_languages_is_trained_on_those_of_the_settings(tmp_path: Path) -> None:
    settings = own()
    together, new, replayed = (tables(settings, system) for system in ("E2", "E5", "E6"))
    assert languages(together, "train") == languages(together, "dev") == ["pl", "zh"]
    assert languages(new, "train") == languages(new, "dev") == ["da"]
    assert languages(replayed, "train") == ["da", "pl", "zh"]
    assert languages(replayed, "dev") == ["da"]
    assert [source.get("hours") for source in replayed["data"]["train"]] == [None, 1.0, 1.0]


def test_base_model_gate_similarity_and_weights_are_those_of_the_settings() -> None:
    settings = own()
    for system in ("E2", "E3", "E4", "E7", "E8", "E9"):
        found = tables(settings, system)
        expected = {"id": settings.base_model, "revision": settings.base_model_revision}
        assert found["base_model"] == expected, system
        assert found.get("lora", {}).get("dtype", "bfloat16") == "bfloat16", system
    assert tables(settings, "E9")["gate"] == {"kind": "static"}
    for system, role in (("E8", "seed"), ("E9", "expert")):
        parent = tables(settings, system)[role]
        assert parent["adapter"].startswith("reproduction/e4-zh-")
        assert (parent["among"], parent["segments"]) == (["pl", "zh"], 50)


def test_the_paper_s_settings_train_by_the_recipes_that_are_published() -> None:
    settings = read(PAPER)
    for path in sorted((RECIPES / "lora-whisper").glob("e*.toml")):
        name, text = path.stem, path.read_text(encoding="utf-8")
        system, _, language = name.partition("-")
        work = {"languages": (language,)} if language else {}
        found, published = tables(settings, system.upper(), **work), tomllib.loads(text)
        assert found["data"] == published["data"], name
        assert found.get("lora") == published.get("lora"), name
        assert found.get("gate") == published.get("gate"), name
        if system not in ("e5", "e6"):
            assert found["base_model"] == published["base_model"], name


def test_a_recipe_of_own_settings_can_be_read(tmp_path: Path) -> None:
    settings, path = own(), tmp_path / "recipe.toml"
    cells = cells_of(settings, (3,), Known())
    for cell in (cell for cell in cells if cell.kind == "training" and cell.work.rate is not None):
        path.write_text(recipe_text(settings, cell), encoding="utf-8")
        assert isinstance(read_recipe(path).recipe, Recipe)


def test_workers_take_turns_at_the_gpus_and_share_the_cores() -> None:
    found = [share(worker, 3, ("0", "GPU-77")) for worker in (1, 2, 3)]
    assert [values["CUDA_VISIBLE_DEVICES"] for values in found] == ["0", "GPU-77", "0"]
    assert {int(values["OMP_NUM_THREADS"]) for values in found} == {max(1, cores() // 3)}
    assert int(share(1, 1, ("0",))["OMP_NUM_THREADS"]) == cores()
    assert int(share(1, 10**6, ("0",))["OMP_NUM_THREADS"]) == 1


def test_without_a_gpu_a_worker_has_one_thread_and_nothing_is_said_of_gpus() -> None:
    assert share(2, 2, ()) == {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}


@pytest.mark.parametrize(
    ("device", "listed", "expected"),
    [
        (None, None, ("0", "1", "2")),
        ("cuda", "5,7,GPU-1", ("5", "7", "GPU-1")),
        ("cuda:1", "5,7,GPU-1", ("7",)),
        ("cuda:9", None, ()),
        ("cpu", "5,7,GPU-1", ()),
    ],
)
def test_the_gpus_of_a_run_are_those_that_the_user_left_visible(
    monkeypatch: pytest.MonkeyPatch, device: str | None, listed: str | None, expected: tuple[str, ...]
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if listed is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", listed)
    assert visible_gpus(device) == expected


def cores() -> int:
    import os

    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
