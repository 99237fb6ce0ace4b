"""The recipes of the paper's experiments: all of them read, and say what the paper says."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import textwrap
import tomllib
from pathlib import Path
from typing import Any

import pytest

from adapter_hub.base_model.families import PARAKEET, refuse_lacking
from adapter_hub.hub import check_commit
from adapter_hub.trainers.recipe import read_recipe
from adapter_hub.trainers.recipe_tables import PAPER_MODULES, Recipe, SourceTable
from adapter_hub.trainers.reproduction.lora_whisper.shapes import lora_parameters

TRAINERS = Path(__file__).parents[1] / "trainers"
FOLDER = TRAINERS / "recipes" / "lora-whisper"
NAMES = sorted(path.stem for path in FOLDER.glob("*.toml"))
COMMON_VOICE = TRAINERS / "recipes" / "common-voice" / "cy.toml"
# table 1: MLS for the first three, FLEURS for the others
BASE, NEW = ("pl", "pt", "it", "zh"), ("da", "el", "cy", "ja")
RANKS = (8, 16, 32, 48, 64)
CONFIGS = {
    "pl": "polish",
    "pt": "portuguese",
    "it": "italian",
    "zh": "cmn_hans_cn",
    "da": "da_dk",
    "el": "el_gr",
    "cy": "cy_gb",
    "ja": "ja_jp",
}


@pytest.fixture(scope="module")
def paper() -> dict[str, Any]:
    path = TRAINERS / "reproduction" / "lora_whisper" / "paper.toml"
    return tomllib.loads(path.read_text(encoding="utf-8"))


def read(name: str) -> Recipe:
    return read_recipe(FOLDER / f"{name}.toml").recipe


def sources(recipe: Recipe) -> tuple[SourceTable, ...]:
    assert not isinstance(recipe.data.train, str)
    return recipe.data.train


def languages(recipe: Recipe) -> list[str | None]:
    return [source.language for source in sources(recipe)]


def test_every_experiment_of_the_paper_has_its_recipe() -> None:
    each = {
        f"{experiment}-{language}"
        for experiments, group in ((("e3", "e4"), BASE), (("e7", "e8", "e9"), NEW))
        for experiment in experiments
        for language in group
    }
    ablation = {f"init-{new}-{base}" for new in NEW for base in BASE}
    nearest = {"init-da-pt", "init-el-pt", "init-cy-pl", "init-ja-zh"}  # those are E8
    ranks = {f"rank-{rank:02d}" for rank in RANKS}
    assert set(NAMES) == {"e2", "e5", "e6"} | each | ranks | (ablation - nearest)


@pytest.mark.parametrize("name", NAMES)
def test_what_the_paper_fixes_is_so(name: str) -> None:
    recipe = read(name)
    training = recipe.training
    assert (training.epochs, training.peak_learning_rate, training.spec_augment) == (10, 1e-4, False)
    assert training.audio_length == "chunk"
    assert recipe.lora.modules == PAPER_MODULES
    assert recipe.lora.rank == 32 or name.startswith("rank-")
    if recipe.base_model.revision is None:
        assert (name, recipe.base_model.id) in {("e5", "./out/e2"), ("e6", "./out/e2")}
    else:
        assert recipe.base_model.id == "openai/whisper-small"
        check_commit(recipe.base_model.revision)
    assert recipe.data.dev is not None


@pytest.mark.parametrize("name", NAMES)
def test_sources_are_pinned_with_the_licence_and_columns_of_their_data_set(name: str) -> None:
    recipe = read(name)
    assert recipe.data.dev is not None
    assert not isinstance(recipe.data.dev, str)
    for source in (*sources(recipe), *recipe.data.dev):
        assert source.language is not None
        assert source.config == CONFIGS[source.language]
        assert source.license == "CC-BY-4.0"
        check_commit(source.revision or "")
        mls = source.language in ("pl", "pt", "it")
        assert source.dataset == ("facebook/multilingual_librispeech" if mls else "google/fleurs")
        assert source.text_column == ("transcript" if mls else "transcription")
    assert {source.split for source in sources(recipe)} == {"train"}


def test_full_fine_tunes_are_trained_on_the_languages_of_their_row() -> None:
    assert languages(read("e2")) == list(BASE)
    assert languages(read("e5")) == list(NEW)
    assert [read(f"e3-{language}").data.train[0].language for language in BASE] == list(BASE)
    replay = sources(read("e6"))
    assert [(source.language, source.hours) for source in replay] == [
        *((language, None) for language in NEW),
        *((language, 5.0) for language in BASE),
    ]


def test_ranks_and_seeds_are_those_of_tables_2_and_5(paper: dict[str, Any]) -> None:
    assert list(RANKS) == paper["table2"]["ranks"]
    for rank, millions in zip(RANKS, paper["table2"]["parameters"], strict=True):
        assert round(lora_parameters("whisper-small", rank) / 1e6, 1) == millions
        recipe = read(f"rank-{rank:02d}")
        assert (recipe.lora.rank, recipe.alpha, languages(recipe)) == (rank, 2 * rank, ["pl"])
    for language in NEW:
        nearest = paper["table5"][language]["most_similar"]
        warm, pair, scratch = (read(f"{experiment}-{language}") for experiment in ("e8", "e9", "e7"))
        assert warm.seed is not None
        assert warm.seed.adapter == f"{read(f'e4-{nearest}').adapter.name}@1.0.0"
        assert pair.expert is not None
        assert pair.expert.adapter == warm.seed.adapter
        assert (pair.adapter.method, scratch.adapter.method, scratch.seed) == ("expert-pair", "lora", None)
        for base in BASE:
            if base != nearest:
                other = read(f"init-{language}-{base}")
                assert other.seed is not None
                assert other.seed.adapter == f"lora-whisper/{base}@1.0.0"


def test_no_two_recipes_make_the_same_adapter() -> None:
    names = [read(name).adapter.name for name in NAMES]
    assert len(set(names)) == len(names)


def test_the_example_for_common_voice_reads_and_its_command_makes_the_lists(tmp_path: Path) -> None:
    assert read_recipe(COMMON_VOICE).recipe.adapter.license == "CC0-1.0"
    comment = re.search(r"python -c '\n(.*?)\n#   '", COMMON_VOICE.read_text(), re.DOTALL)
    assert comment is not None
    program = textwrap.dedent(re.sub(r"^#", "", comment[1], flags=re.MULTILINE))
    table = 'client_id\tpath\tsentence\nab\tcommon_voice_cy_1.mp3\tMae "hi"\'n braf\n'
    made = subprocess.run(
        [sys.executable, "-c", program], input=table, capture_output=True, text=True, check=True
    )
    assert json.loads(made.stdout) == {
        "audio_filepath": "clips/common_voice_cy_1.mp3",
        "text": 'Mae "hi"\'n braf',
        "speaker": "ab",
    }


AVERAGING = sorted((TRAINERS / "recipes" / "parameter-averaging").glob("*.toml"))


@pytest.mark.parametrize("path", AVERAGING, ids=lambda path: path.stem)
def test_the_recipes_of_parameter_averaging_say_what_the_paper_says(path: Path) -> None:
    recipe = read_recipe(path).recipe
    training = recipe.training
    assert recipe.adapter.name == f"parameter-averaging/{path.stem}"
    assert training.schedule == "slanted-triangle"
    assert 0.1 <= training.warmup_share <= 0.2
    frozen, lora = path.stem == "frozen-spgi", recipe.adapter.method == "lora"
    assert training.layer_decay == (1.0 if frozen or lora else 0.9)
    assert training.freeze == (("all-but-encoder-attention",) if frozen else ())
    assert not lora or (recipe.lora.rank, recipe.alpha) == (32, 64)
    assert all(source.domain for source in sources(recipe))
    if recipe.base_model.id.startswith("./out/"):
        before = recipe.base_model.id.removeprefix("./out/")
        assert before == "average-1" or path.with_name(f"{before}.toml").is_file()
    else:
        parakeet = path.stem.startswith("parakeet-")
        assert recipe.base_model.id == ("nvidia/parakeet-ctc-1.1b" if parakeet else "openai/whisper-small.en")
        if parakeet:
            refuse_lacking(PARAKEET, recipe.asked())
            assert "modules" not in recipe.lora.model_fields_set


CHAINED = {"average-1": ("ft-spgi", "ft-coraal", "ft-dipco")}  # what an average of experts holds


def licences_behind(name: str) -> set[str]:
    """Return the licences of all data that a recipe's model has seen, its start's included."""
    recipe = read_recipe(AVERAGING[0].with_name(f"{name}.toml")).recipe
    start = recipe.base_model.id.removeprefix("./out/")
    before = CHAINED.get(start, (start,)) if recipe.base_model.id != start else ()
    seen = {source.license for source in sources(recipe) if source.license}
    return seen.union(*(licences_behind(earlier) for earlier in before))


@pytest.mark.parametrize("path", AVERAGING, ids=lambda path: path.stem)
def test_a_model_has_the_licences_of_all_data_behind_it(path: Path) -> None:
    found = sorted(licences_behind(path.stem))
    joined = found[0] if len(found) == 1 else " AND ".join(f"({licence})" for licence in found)
    assert read_recipe(path).recipe.adapter.license == joined
