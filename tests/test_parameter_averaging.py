"""Parameter averaging as a second paper: its plan, recipes, speech, averages and report."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from reproductions import report

from adapter_hub.errors import InvalidInputError
from adapter_hub.trainers.recipe import read_recipe
from adapter_hub.trainers.reproduction.cells import CHOICE, Cell, Outcome
from adapter_hub.trainers.reproduction.paper import settings_text
from adapter_hub.trainers.reproduction.parameter_averaging import ParameterAveraging
from adapter_hub.trainers.reproduction.parameter_averaging.plan import plan
from adapter_hub.trainers.reproduction.parameter_averaging.settings import (
    TABLES,
    Settings,
    paper_numbers,
)
from adapter_hub.trainers.reproduction.parameter_averaging.speech import domain_specs, original_specs
from adapter_hub.trainers.reproduction.parameter_averaging.systems import Work
from adapter_hub.trainers.reproduction.run import Run

MINI = settings_text(ParameterAveraging, "mini")


def grown(*forgotten: float | None) -> dict[str, Outcome]:
    """Return the outcomes of the growing trainings that forgot so much; None for one that diverged."""
    dev = {"dev-clean": 0.1, "dev-other": 0.3}
    found: dict[str, Outcome] = {"dev/pretrained": {"values": dev}}
    for steps, share in zip((20, 40, 80), forgotten, strict=False):
        worse = {test: value * (1 + share) for test, value in dev.items()} if share is not None else None
        found[f"growth/steps-{steps}/seed-1"] = {"dev": worse} if worse else {"diverged": True}
    return found


GROWTH = grown(0.1, 0.5, 0.9)


@pytest.fixture(scope="module")
def settings() -> Settings:
    return ParameterAveraging.read(MINI, "mini").settings


def known(settings: Settings, tables: tuple[int, ...] = TABLES) -> dict[str, Cell[Work]]:
    return {cell.name: cell for cell in plan(settings, tables, GROWTH).cells}


def test_the_number_of_cells_is_known_before_the_steps_are(settings: Settings) -> None:
    for tables in (TABLES, (1,), (2,), (3, 4), (5,), (6,), (7,), (8,)):
        before, after = plan(settings, tables, {}), plan(settings, tables, GROWTH)
        assert len(before.cells) == len(after.cells)
        assert not any("?" in cell.name for cell in after.cells)
        names = {cell.name for cell in after.cells} | {CHOICE + name for name in after.choices}
        assert all(set(cell.needs) <= names for cell in after.cells)


@pytest.mark.parametrize(
    ("forgotten", "steps"),
    [
        ((0.1, 0.5, 0.9), 40),
        ((0.5, 0.2, 0.4), 80),  # passed by chance at 20 steps
        ((0.1, 0.5, None), 40),
        ((0.5, None, 0.9), 20),
    ],
)
def test_the_fewest_steps_from_which_on_enough_is_forgotten_are_chosen(
    settings: Settings, forgotten: tuple[float | None, ...], steps: int
) -> None:
    assert plan(settings, (1,), grown(*forgotten)).choices["steps"].rate == steps


def test_steps_are_chosen_only_when_all_were_tried_and_enough_is_forgotten(settings: Settings) -> None:
    begun = plan(settings, (1,), grown(0.5, 0.5))
    assert not begun.choices
    assert not begun.hopeless
    for forgotten in ((0.9, 0.9, 0.1), (None, None, None)):
        done = plan(settings, (1,), grown(*forgotten))
        assert not done.choices
        assert "the most steps in growth.steps do not make" in done.hopeless


def test_averages_have_the_weights_of_the_paper(settings: Settings) -> None:
    cells = known(settings)

    def weights(row: str) -> list[float]:
        return [weight for _, weight in cells[f"average/{row}/seed-1"].work.components]

    assert weights("aode") == [0.25] * 4
    assert weights("aode-original") == weights("aode-3-original") == [0.2] * 4
    assert weights("x4-noisy") == [0.5, 0.125, 0.125, 0.125]
    assert weights("x4-original") == [0.125] * 4
    assert weights("three-aode") == [1 / 3] * 3
    third = cells["average/aode-3/seed-2"].work.components[0][0]
    assert cells[third].work.start == "average/aode-2/seed-2"


def test_a_sequence_goes_from_model_to_model_in_both_orders(settings: Settings) -> None:
    cells = known(settings)

    def order(last: str) -> list[str]:
        found: list[str] = []
        name: str | None = cells[f"test/{last}/seed-1"].work.of
        while name:
            found.insert(0, cells[name].work.domains[0])
            name = cells[name].work.start
        return found

    assert order("sequential") == ["noisy", "accent", "phrases", "fast"]
    assert order("sequential-back") == ["fast", "phrases", "accent", "noisy"]
    assert order("three-sequential") == ["fast", "accent", "noisy"]


def test_recipes_say_what_the_paper_does(settings: Settings, tmp_path: Path) -> None:
    paper, cells = ParameterAveraging(settings), known(settings)
    texts = {n: paper.recipe(cell) for n, cell in cells.items() if cell.kind == "training"}
    for number, text in enumerate(texts.values()):
        assert text is not None
        (tmp_path / f"{number}.toml").write_text(text)
        read_recipe(tmp_path / f"{number}.toml")

    def tables(name: str) -> dict[str, Any]:
        return tomllib.loads(str(texts[name]))

    assert tables("ft-fast/steps-40/seed-1")["training"]["layer_decay"] == 0.9
    assert tables("frozen/steps-40/seed-1")["training"]["freeze"] == ["all-but-encoder-attention"]
    assert tables("resampled/steps-40/seed-1")["data"]["sampling_exponent"] == 0.0
    assert tables("combined/steps-40/seed-1")["training"]["steps"] == 160
    assert tables("round-2-fast/steps-40/seed-1")["base_model"]["id"] == "../trained/average-aode-seed-1"
    assert "layer_decay" not in tables("decay-1/steps-40/seed-1")["training"]


def test_domains_differ_and_splits_share_no_voice(settings: Settings) -> None:
    specs = {name: domain_specs("pt", domain, "train") for name, domain in settings.domains.items()}
    assert all(-6 <= spec.snr_db <= 2 for spec in specs["noisy"] if spec.snr_db is not None)
    assert all(spec.rate >= 330 for spec in specs["fast"])
    assert all(spec.voice.startswith("es+") for spec in specs["accent"])
    assert {spec.text for spec in specs["phrases"]} == set(settings.domains["phrases"].phrases)
    for name, domain in settings.domains.items():
        test = domain_specs("pt", domain, "test")
        assert not {spec.speaker for spec in test} & {spec.speaker for spec in specs[name]}
    assert len(original_specs(settings, "clean")) == settings.original.clean


def test_the_papers_rows_average_to_what_it_prints_but_for_two() -> None:
    paper = paper_numbers()["table7"]
    wrong = [
        row
        for row, values in paper.items()
        if row != "columns" and abs(sum(values[:6]) / 6 - values[6]) > 0.1  # the paper rounds
    ]
    assert wrong == ["ft-accent"]
    assert round(sum(paper["ft-accent"][:6]) / 6, 2) == 7.16
    assert round(sum(paper["combined"][:6]) / 6, 2) == 7.06
    before = sum(paper["pretrained"][4:6])
    assert round(100 * (sum(paper["aode"][4:6]) / before - 1), 1) == 8.9


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("random_seeds = [1, 2, 3]", "random_seeds = [1, 1]", "one occurs twice"),
        ("layer_decays = [1.0, 0.9, 0.8]", "layer_decays = [1.0]", "layer_decay, 0.9, is missing"),
        ("steps = [20, 40, 80]", "steps = [40, 20]", "expected growing numbers"),
        ("[domains.fast]", "[domains.slow]", "'slow' is not one of noisy, accent, phrases, fast"),
        ("tables = [1, 2, 3, 4, 5, 6, 7, 8]", "tables = [9]", "tables: 9 is not one of 1, 2"),
    ],
)
def test_wrong_settings_are_refused_in_one_line(old: str, new: str, said: str) -> None:
    with pytest.raises(InvalidInputError, match=re.escape(said)) as refused:
        ParameterAveraging.read(MINI.replace(old, new), "mine.toml")
    assert "\n" not in str(refused.value)


def made_up(folder: Path, rate: Callable[[Cell[Work], str], int]) -> Run:
    """Return a finished run whose tests have so many errors of every ten words."""
    run = Run.start(ParameterAveraging, folder, MINI, "mini")
    sets = ParameterAveraging.read(MINI, "mini").settings.sets

    def outcome(cell: Cell[Work]) -> Outcome:
        if cell.name in GROWTH:
            return GROWTH[cell.name]
        if cell.kind == "speech":
            splits = ("train", "test", "clean", "other")
            return {"hours": dict.fromkeys(splits, 0.1), "utterances": dict.fromkeys(splits, 9)}
        if cell.kind != "test":
            return {}
        reports = {test: f"{cell.slug}-{test}.json" for test in sets}
        (folder / "evaluations").mkdir(exist_ok=True)
        for test, name in reports.items():
            (folder / "evaluations" / name).write_bytes(report(10 * rate(cell, test), "pt").to_bytes())
        return {"reports": reports, "values": {}, "value": 0.0}

    while ready := [cell for cell in run.left(()) if run.ready(cell)]:
        for cell in ready:
            run.finish(cell, 1.0, outcome(cell))
        run.look()
    return run


def test_the_report_shows_tables_beside_the_papers_numbers_and_decides_orderings(tmp_path: Path) -> None:
    def rate(cell: Cell[Work], test: str) -> int:
        if cell.work.of is None:
            return 4 if test in ("clean", "other") else 8
        return 5 if cell.work.of.startswith("average") else 6

    run = made_up(tmp_path / "run", rate)
    text = run.paper.report(run, lambda _: None).read_text()
    numbers = json.loads((tmp_path / "run" / "results.json").read_text())
    for title in ("I:", "II:", "III:", "IV:", "V:", "VI:", "VII:", "VIII:"):
        assert f"## Table {title}" in text
    assert numbers["systems"]["aode"]["forgetting"] == pytest.approx(25.0)
    low, high = numbers["systems"]["aode"]["forgetting_interval"]
    assert low < 25.0 < high
    assert f"25.0 ({low:.1f} to {high:.1f})<br>*8.9*" in text
    verdicts = {claim["claim"]: claim["verdict"] for claim in numbers["orderings"]}
    assert verdicts["aode below combined, original domain (forgets less)"] == "held"
    assert verdicts["aode-2 below aode, average"] == "cannot tell"
    assert "7.16 (6.79 is printed)" in text
    assert not numbers["gaps"]


def test_a_report_of_an_unfinished_run_marks_what_is_missing(tmp_path: Path) -> None:
    run = Run.start(ParameterAveraging, tmp_path / "run", MINI, "mini")
    text = run.paper.report(run, lambda _: None).read_text()
    assert "cells are not finished" in text
    assert "not measured" in text


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_tiny_reproduction_runs_to_its_report(tmp_path: Path) -> None:
    changes = {"(train|test|dev|clean|other) = .*": r"\1 = 8", "random_seeds = .*": "random_seeds = [1]"}
    changes |= {"steps = .*": "steps = [2]", "forgetting = .*": "forgetting = 1e-9"}
    changes |= {"peak_learning_rate = .*": "peak_learning_rate = 0.01"}
    text = MINI
    for pattern, replacement in changes.items():
        text = re.sub(f"^{pattern}", replacement, text, flags=re.MULTILINE)
    (tmp_path / "settings.toml").write_text(text)
    words = ["reproduce", "parameter-averaging", "--settings", "settings.toml", "--out", "run"]
    subprocess.run([sys.executable, "-m", "adapter_hub", *words], cwd=tmp_path, check=True)
    assert not json.loads((tmp_path / "run" / "results.json").read_text())["gaps"]
