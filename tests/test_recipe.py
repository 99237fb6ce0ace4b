"""Recipes: what they may say, and how a wrong one is answered."""

from __future__ import annotations

from pathlib import Path

import pytest

from adapter_hub.base_model.digest import EMBEDDED_ID
from adapter_hub.cli.recipe import METHODS as OFFERED
from adapter_hub.errors import InvalidInputError, NotFoundError
from adapter_hub.trainers.methods.table import METHODS
from adapter_hub.trainers.recipe import read_recipe
from adapter_hub.trainers.recipe_tables import PAPER_MODULES
from adapter_hub.trainers.recipe_template import new_recipe

GOOD = new_recipe("warm-start", language="da", namespace="mini", base_model=EMBEDDED_ID, license="MIT")
BAD = {
    "a typo in a key": (
        "epochs = 10",
        "epoch = 10",
        r"unknown key 'training.epoch', did you mean 'epochs'\?",
    ),
    "a typo in a table": ("[lora]", "[lore]", r"unknown key 'lore', did you mean 'lora'\?"),
    "an unknown method": ('"warm-start"', '"warm"', r"adapter.method: .*'expert-pair' or 'full-fine-tuning'"),
    "a name without namespace": ('"mini/da"', '"da"', r"adapter.name: .*'da'"),
    "a reserved name": ('"mini/da"', '"mini/latest"', "'latest' is a reserved word"),
    "a version of two numbers": ('version = "1.0.0"', 'version = "1.0"', r"adapter.version: .*'1.0'"),
    "rank zero": ("rank = 8", "rank = 0", "lora.rank: .*greater than or equal to 1.*'0'"),
    "a negative learning rate": ("2e-3", "-1.0", "training.peak_learning_rate: .*greater than 0"),
    "a warm start without seed": ("[seed]\nadapter", "[data]\nid", "Cannot declare|not TOML"),
    "no licence": ('license = "MIT"          # of', "# of", "missing field 'adapter.license'"),
    "a negative random seed": (
        "random_seed = 1",
        "random_seed = -1",
        r"training.random_seed: .*greater than or equal to 0.*'-1'",
    ),
    "a random seed that no generator takes": (
        'adapter = "nearest"',
        'random_seed = 4294967296\nadapter = "nearest"',
        r"seed.random_seed: .*less than 4294967296.*'4294967296'",
    ),
    "times of words": (
        "[base_model]",
        "timestamps = true\n[base_model]",
        "adapter.timestamps: recordings of utterances have no word times; leave it out",
    ),
    "no TOML": ("[adapter]", "[adapter", "not TOML"),
}


@pytest.mark.parametrize("sentence", BAD)
def test_a_wrong_recipe_is_answered_with_one_line(sentence: str, tmp_path: Path) -> None:
    good, bad, message = BAD[sentence]
    assert good in GOOD, sentence
    path = tmp_path / "recipe.toml"
    path.write_text(GOOD.replace(good, bad, 1))
    with pytest.raises(InvalidInputError, match=message) as caught:
        read_recipe(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_seed_goes_with_a_warm_start_only(tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text(GOOD.replace('"warm-start"', '"lora"'))
    with pytest.raises(InvalidInputError, match=r"\[seed\] does not go with method lora"):
        read_recipe(path)
    path.write_text(
        new_recipe("lora", language="da", namespace="a", base_model="x").replace('"lora"', '"warm-start"')
    )
    with pytest.raises(InvalidInputError, match=r"needs a table \[seed\]"):
        read_recipe(path)


def test_a_seed_may_be_the_expert_in_a_pair_only(tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text(GOOD.replace('adapter = "nearest"', 'adapter = "expert"'))
    with pytest.raises(InvalidInputError, match='seed.adapter = "expert" goes with method expert-pair'):
        read_recipe(path)


def test_a_missing_recipe_says_how_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="recipe new lora"):
        read_recipe(tmp_path / "nothing.toml")


def test_new_recipes_can_be_read_and_have_the_papers_modules(tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    assert set(METHODS) == set(OFFERED)
    for method in METHODS:
        for base_model in (EMBEDDED_ID, "openai/whisper-small"):
            path.write_text(new_recipe(method, language="cy", namespace="me", base_model=base_model))
            recipe = read_recipe(path).recipe
            assert recipe.adapter.method == method
            assert recipe.lora.modules == PAPER_MODULES


def test_the_defaults_for_real_whisper_are_the_papers(tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text(new_recipe("lora", language="cy", namespace="me", base_model="openai/whisper-small"))
    recipe = read_recipe(path).recipe
    assert (recipe.lora.rank, recipe.training.peak_learning_rate, recipe.training.epochs) == (32, 1e-4, 10)


def test_the_recipes_of_the_embedded_catalogue_can_be_read() -> None:
    folder = Path(__file__).parents[1] / "trainers" / "recipes" / "mini"
    names = {read_recipe(path).recipe.adapter.name for path in folder.glob("*.toml")}
    assert names == {f"mini/{name}" for name in (
        "pl", "pt", "it", "zh", "da", "el", "cy", "ja", "da-scratch", "el-scratch", "cy-scratch",
        "ja-scratch", "da-pair", "el-pair", "cy-pair", "ja-pair"
    )}  # fmt: skip
