"""The recipes of the paper's experiments in miniature: what the reproduction trained by, as files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from adapter_hub.trainers.full_size_recipes import recipes as full_size
from adapter_hub.trainers.miniature_recipes import FOLDER, main, recipes
from adapter_hub.trainers.recipe import read_recipe
from adapter_hub.trainers.reproduction.settings import parse_settings, settings_text

RESULTS = Path(__file__).parents[1] / "benchmarks" / "results" / "lora_whisper" / "results.json"


@pytest.fixture(scope="module")
def results() -> Any:
    return json.loads(RESULTS.read_bytes())


def test_the_files_are_what_the_program_writes(results: Any) -> None:
    assert {path.stem: path.read_text(encoding="utf-8") for path in FOLDER.glob("*.toml")} == recipes(results)


def test_every_experiment_at_full_size_has_its_miniature(results: Any) -> None:
    found, settings = set(recipes(results)), parse_settings(settings_text("mini"), "mini")

    def alike(names: set[str]) -> set[str]:
        return {name for name in names if not name.startswith(("rank-", "init-"))}

    assert alike(found) == alike(set(full_size()))
    ranks = set(settings.rank_sweep.ranks) - {settings.lora.rank}  # that one is e4-pl
    assert {name for name in found if name.startswith("rank-")} == {f"rank-{rank:02d}" for rank in ranks}
    others = {
        (n, b) for n in settings.new_languages for b in settings.base_languages if results["nearest"][n] != b
    }
    assert {name for name in found if name.startswith("init-")} == {f"init-{n}-{b}" for n, b in others}


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.toml")), ids=lambda path: path.stem)
def test_each_can_be_read_and_has_the_chosen_rate_and_the_speech_beside_it(path: Path, results: Any) -> None:
    recipe = read_recipe(path).recipe
    system = {"init": "E8", "rank": "E4"}.get(path.stem.partition("-")[0], path.stem[:2].upper())
    assert recipe.training.peak_learning_rate == results["choices"][system]["rate"]
    assert recipe.adapter.name.startswith(f"reproduction/{system.lower()}-")
    train = recipe.data.train
    folders = [train] if isinstance(train, str) else [source.folder for source in train]
    assert all(str(folder).startswith("speech/spoken-numbers-") for folder in folders)
    parent = recipe.expert or recipe.seed
    if parent is not None:
        made = {f"{read_recipe(e4).recipe.adapter.name}@1.0.0" for e4 in FOLDER.glob("e4-*.toml")}
        assert parent.adapter in made
    if system in ("E5", "E6"):
        assert recipe.base_model.id == f"./trained/{read_recipe(FOLDER / 'e2.toml').recipe.adapter.name[13:]}"


def test_writing_them_again_leaves_none_of_an_earlier_run(tmp_path: Path, results: Any) -> None:
    (tmp_path / "init-da-xx.toml").touch()
    done = CliRunner().invoke(main, ["--results", str(RESULTS), "--out", str(tmp_path)])
    assert done.exit_code == 0, done.output
    assert {path.stem for path in tmp_path.iterdir()} == set(recipes(results))
