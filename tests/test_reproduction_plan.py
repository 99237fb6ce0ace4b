"""The plan of a reproduction: which cells there are, what they need, and the recipes that they train by."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from command_line import Run
from reproductions import MINI as TEXT
from reproductions import PAPER, read

from adapter_hub.errors import InvalidInputError, NotFoundError
from adapter_hub.trainers.recipe import read_recipe
from adapter_hub.trainers.recipe_tables import SourceTable
from adapter_hub.trainers.reproduction.cells import CHOICE, Cell, Outcome
from adapter_hub.trainers.reproduction.choices import choose
from adapter_hub.trainers.reproduction.lora_whisper import LoraWhisper
from adapter_hub.trainers.reproduction.lora_whisper.plan import Known, cells_of, decided_rates
from adapter_hub.trainers.reproduction.lora_whisper.recipes import data_recipe, recipe_text
from adapter_hub.trainers.reproduction.lora_whisper.settings import SPLITS, Settings
from adapter_hub.trainers.reproduction.lora_whisper.systems import EXPANSION, TABLES, Work, rate_text
from adapter_hub.trainers.reproduction.paper import paper_class, settings_text

ALL = tuple(TABLES)
NEAREST = {"da": "it", "el": "pt", "cy": "pl", "ja": "zh"}


@pytest.fixture(scope="module")
def settings() -> Settings:
    return read(TEXT)


def known(settings: Settings) -> Known:
    return Known({s: settings.rates(s)[-1] for s in ("E2", "E3", "E4", "E5", "E6", *EXPANSION)}, NEAREST)


def named(cells: list[Cell[Work]], pattern: str) -> list[Cell[Work]]:
    return [cell for cell in cells if re.fullmatch(pattern, cell.name)]


def test_the_number_of_cells_is_known_before_anything_is_chosen_or_measured(settings: Settings) -> None:
    for tables in (ALL, (2,), (3,), (4,), (5,), (3, 4), (4, 5)):
        before = cells_of(settings, tables, Known())
        halfway = cells_of(settings, tables, Known({"E4": settings.rates("E4")[0]}, {"da": "pt"}))
        after = cells_of(settings, tables, known(settings))
        assert len(before) == len(halfway) == len(after)
        assert any("?" in cell.name for cell in before)
        assert not any("?" in cell.name for cell in after)


def test_everything_that_a_cell_needs_is_a_cell_or_a_choice_of_the_cells_of(settings: Settings) -> None:
    for tables in (ALL, (2,), (3,), (4,), (5,)):
        cells = cells_of(settings, tables, known(settings))
        names = {cell.name for cell in cells}
        chosen = {CHOICE + cell.work.system for cell in cells if cell.work.dev}
        for cell in cells:
            assert set(cell.needs) <= names | chosen, cell.name


def test_the_three_expansions_have_the_same_steps_grid_seeds_and_dev_sets(settings: Settings) -> None:
    cells = cells_of(settings, (4,), known(settings))

    def outline(system: str) -> set[tuple[object, ...]]:
        return {
            (c.work.languages, c.work.rate, c.work.random_seed, c.work.dev)
            for c in cells
            if c.kind == "training" and c.work.system == system
        }

    assert outline("E7") == outline("E8") == outline("E9")
    assert len(outline("E7")) == 4 * len(settings.rates("E7")) * len(settings.training.random_seeds)
    recipes = {
        system: recipe_text(settings, named(cells, f"{system}/da/.*seed-1")[0]) for system in EXPANSION
    }
    trainings = {text.partition("[training]")[2] for text in recipes.values()}
    loras = {text.partition("[lora]")[2].partition("[training]")[0] for text in recipes.values()}
    assert len(trainings) == len(loras) == 1
    assert len(settings.training.random_seeds) >= 3


def test_the_expansions_get_one_rate_that_is_best_for_all_of_them_over_all_seeds(settings: Settings) -> None:
    low, middle, high = settings.rates("E7")
    dev = {  # of the first seed E8 looks better at the highest rate, as it once did by half a point
        low: {"E7": 0.36, "E8": 0.36, "E9": 0.36},
        middle: {"E7": 0.33, "E8": 0.33, "E9": 0.33},
        high: {"E7": 0.34, "E8": 0.36, "E9": 0.34},
    }
    grids: dict[str, list[Cell[Work]]] = {}
    outcomes: dict[str, Outcome] = {}
    for cell in cells_of(settings, (4,), known(settings)):
        if cell.kind == "training" and cell.work.dev:
            system, rate, seed = cell.work.system, cell.work.rate, cell.work.random_seed
            grids.setdefault(system, []).append(cell)
            error = dev[rate][system] if system in EXPANSION and rate else 0.1
            outcomes[cell.name] = {"dev": dict.fromkeys(cell.work.dev, error)}
            if (system, rate, seed) == ("E8", high, settings.first_seed):
                outcomes[cell.name] = {"dev": dict.fromkeys(cell.work.dev, 0.32)}
    choices = decided_rates(grids, outcomes)
    assert [choices[system].rate for system in EXPANSION] == [middle] * 3
    assert choices["E8"].averages[high] == pytest.approx((0.32 + 3 * 0.36) / 4)
    del outcomes[grids["E9"][-1].name]
    assert not set(decided_rates(grids, outcomes)) & set(EXPANSION)  # no rate of two without the third


@pytest.mark.parametrize("scale", ["mini", "paper"])
def test_rates_are_chosen_with_the_decoder_of_the_tests(scale: str) -> None:
    decoding = read(settings_text(LoraWhisper, scale)).decoding
    assert decoding.dev_beams == decoding.test_beams


def test_no_test_set_is_decoded_before_every_learning_rate_is_chosen(settings: Settings) -> None:
    cells = cells_of(settings, ALL, known(settings))
    choices = {CHOICE + f"E{number}" for number in range(2, 10)}
    tests = [cell for cell in cells if cell.kind in ("test", "untouched")]
    assert len(tests) > 80
    assert all(choices <= set(cell.needs) for cell in tests)
    assert not any("test" in cell.work.dev for cell in cells)


def test_tables_3_and_4_come_first_and_the_other_seeds_of_table_5_last(settings: Settings) -> None:
    cells = cells_of(settings, ALL, known(settings))
    order = {cell.name: place for place, cell in enumerate(cells)}
    last_of_4 = max(order[cell.name] for cell in cells_of(settings, (3, 4), known(settings)))
    ablation = named(cells, r"E8/da/from-zh/.*")
    seeds = [order[cell.name] for cell in sorted(ablation, key=lambda cell: cell.work.random_seed)]
    assert seeds == sorted(seeds)
    assert seeds[0] > last_of_4
    sweep = [order[cell.name] for cell in named(cells, r"E4/pl/rank-16/.*")]
    assert seeds[0] < min(sweep) <= max(sweep) < seeds[1]


def test_full_fine_tuning_of_new_languages_goes_on_from_the_multilingual_one(settings: Settings) -> None:
    cells = cells_of(settings, (4,), known(settings))
    start = named(cells, f"E2/rate-{rate_text(known(settings).rates['E2'])}/seed-1")[0]
    for cell in named(cells, "E[56]/.*"):
        assert cell.work.start == start.name
        assert start.name in cell.needs
        assert f'id = "../trained/{start.slug}"' in recipe_text(settings, cell)
    replayed = recipe_text(settings, named(cells, "E6/.*")[0])
    assert replayed.count("hours = ") == len(settings.base_languages)


def test_a_plan_of_table_5_alone_holds_what_it_compares(settings: Settings) -> None:
    cells = cells_of(settings, (5,), known(settings))
    tests = {(c.work.languages[0], c.work.system, c.work.parent) for c in cells if c.kind == "test"}
    assert tests == {
        (language, *start)
        for language in settings.new_languages
        for start in [("E7", None), *(("E8", parent) for parent in settings.base_languages)]
    }
    assert not named(cells, "E[2356]/.*")


def test_a_full_fine_tune_on_one_new_language_is_tested_on_the_base_languages_too() -> None:
    changed = TEXT.replace('new_languages = ["da", "el", "cy", "ja"]', 'new_languages = ["da"]')
    settings = read(changed)
    cells = cells_of(settings, (4,), known(settings))
    tested = {cell.work.languages[0] for cell in named(cells, "test/E5/.*")}
    assert tested == set(settings.languages)


@pytest.mark.parametrize("system", ["E2", "E3", "E4", "E5", "E6", "E7", "E8", "E9"])
@pytest.mark.parametrize("scale", ["mini", "paper"])
def test_the_recipe_of_every_system_is_one_that_train_reads(tmp_path: Path, scale: str, system: str) -> None:
    settings = read(settings_text(LoraWhisper, scale))
    cell = next(c for c in cells_of(settings, ALL, known(settings)) if c.work.system == system and c.work.dev)
    path = tmp_path / "recipe.toml"
    path.write_text(recipe_text(settings, cell), encoding="utf-8")
    recipe = read_recipe(path).recipe
    assert recipe.training.peak_learning_rate == cell.work.rate
    assert recipe.adapter.name == f"reproduction/{cell.slug}"
    assert recipe.lora.rank in (cell.work.rank, 32)
    method = {"E4": "lora", "E7": "lora", "E8": "warm-start", "E9": "expert-pair"}
    assert recipe.adapter.method == method.get(system, "full-fine-tuning")
    role = {"E8": recipe.seed, "E9": recipe.expert}.get(system)
    if role is not None and cell.work.parent is not None:
        assert role.adapter.startswith(f"reproduction/e4-{cell.work.parent}-")
    if system in ("E5", "E6"):
        assert recipe.base_model.id.startswith("../trained/e2-")
    elif scale == "paper":
        assert (recipe.base_model.id, recipe.base_model.revision) == (
            settings.base_model, settings.base_model_revision,
        )  # fmt: skip


@pytest.mark.parametrize("language", ["pl", "da"])
def test_at_full_size_every_split_is_opened_by_a_recipe(tmp_path: Path, language: str) -> None:
    settings = read(PAPER)
    for split in SPLITS:
        path = tmp_path / f"{split}.toml"
        path.write_text(data_recipe(settings, language, split), encoding="utf-8")
        (source,) = read_recipe(path).recipe.data.train
        assert isinstance(source, SourceTable)
        dev = "dev" if language == "pl" else "validation"
        assert source.split == {"dev": dev}.get(split, split)
        assert source.dataset is not None
        assert source.language == language


def test_recipes_that_are_not_there_are_named() -> None:
    changed = PAPER.replace('recipes = "lora-whisper"', 'recipes = "nothing"')
    settings = read(changed)
    cell = next(c for c in cells_of(settings, (3,), known(settings)) if c.kind == "training")
    with pytest.raises(
        NotFoundError, match=r"nothing/e2\.toml: no such recipe; full_size\.recipes has to name"
    ):
        recipe_text(settings, cell)


def test_the_chosen_rate_has_the_lowest_average_and_of_equals_is_the_smaller() -> None:
    choice = choose(
        "E8", {4e-3: {"da": 0.1, "el": 0.3}, 1e-3: {"da": 0.2, "el": 0.2}, 2e-3: {"da": 0.5, "el": 0}}
    )
    assert choice.rate == 1e-3
    assert choice.at_the_edge
    assert not replace(choice, rate=2e-3).at_the_edge


def test_rates_are_named_as_people_write_them() -> None:
    assert rate_text(1e-4) == "1e-4"


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ('name = "mini"', "name = mini", "not TOML"),
        ("dev = 100", "dve = 100", "unknown field 'speech.dve'"),
        ("dev = 100", "dev = 0", "speech.dev"),
        ("da = 300\n", "", "speech.train: no number for da"),
        ("ja = 600\n", "", "speech.test: no number for ja"),
        ('"ja"]', '"ja", "pl"]', "pl: both a base and a new language"),
        ("ranks = [2, 4, 8, 12, 16]", "ranks = [2, 4]", "lora.rank, 8, is missing"),
        ("tables = [2, 3, 4, 5]", "tables = [1]", "tables: 1 is not one of 2, 3, 4, 5"),
        ('language = "pl"', 'language = "da"', "'da' is not a base language"),
        ("random_seed = 1\ndev", "random_seed = -1\ndev", "speech.random_seed"),
        ("segments = 200\nrandom_seed = 1", "segments = 200\nrandom_seed = -1", "similarity.random_seed"),
        ("random_seed = 0\n", "random_seed = -1\n", "statistics.random_seed"),
        ("random_seeds = [1, 2, 3, 4]", "random_seeds = [1, 4294967296]", "training.random_seeds.1"),
        ("random_seeds = [1, 2, 3, 4]", "random_seeds = [1, 2, 1]", "random_seeds: 1 occurs twice"),
    ],
)
def test_settings_that_cannot_be_are_refused_in_one_line(before: str, after: str, message: str) -> None:
    assert before in TEXT
    with pytest.raises(InvalidInputError, match=re.escape(message)) as caught:
        read(TEXT.replace(before, after, 1))
    assert "\n" not in str(caught.value)


def test_settings_have_speech_to_synthesise_or_recipes_and_not_both() -> None:
    paper = PAPER
    speech = "\n[speech]\nrandom_seed = 0\ndev = 1\ntest = {}\ntrain = {}\n"
    with pytest.raises(
        InvalidInputError, match="exactly one of .speech., to be synthesised, and .full_size."
    ):
        read(paper + speech)
    with pytest.raises(InvalidInputError, match="full_size.hours: no number for ja"):
        read(paper.replace("ja = 7.4\n", ""))


def test_a_paper_or_a_scale_that_is_not_known_is_refused() -> None:
    with pytest.raises(NotFoundError, match="choose one of mini, paper"):
        settings_text(LoraWhisper, "huge")
    with pytest.raises(NotFoundError, match="not a paper that can be reproduced; choose one of lora-whisper"):
        paper_class("whisper")


def test_a_dry_run_prints_the_cells_and_their_sizes_and_makes_nothing(run: Run, tmp_path: Path) -> None:
    done = run("reproduce", "lora-whisper", "--dry-run", "--tables", "3")
    assert done.code == 0
    assert "E3/pl/rate-" in done.out
    assert "h with 2 at a time" in done.err
    cells = run("reproduce", "lora-whisper", "--dry-run", "--tables", "3", "--json").json
    assert {"kind": "speech", "name": "speech/pl"}.items() <= cells[0].items()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--out", "x", "--tables", "1"], "table 1: cannot be reproduced; choose among 2, 3, 4, 5"),
        (["--out", "x", "--tables", "two"], "--tables 'two': expected numbers, like 3,4"),
        ([], "--out is missing"),
        (["--out", "x", "--report-only"], "not a run of a reproduction; start one without --report-only"),
        (["--out", "."], "exists and is not a run of a reproduction"),
        (["--out", "x", "--settings", "nothing.toml"], "nothing.toml: no settings of a reproduction"),
    ],
)
def test_what_cannot_be_reproduced_is_said_in_one_line(
    run: Run, tmp_path: Path, arguments: list[str], message: str
) -> None:
    (tmp_path / "something").touch()
    done = run("reproduce", "lora-whisper", *arguments)
    assert done.code == 1
    assert done.err.count("\n") == 1
    assert message in done.err
