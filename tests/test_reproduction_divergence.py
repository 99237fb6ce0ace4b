"""Learning rates at which a training diverges: an outcome of the grid, never the end of a reproduction."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import reproductions
from command_line import Run as Command
from reproductions import MINI, read, write_report
from small_training import recipe

from adapter_hub.errors import DivergedError
from adapter_hub.trainers.reproduction.cells import Cell, Outcome
from adapter_hub.trainers.reproduction.lora_whisper import LoraWhisper
from adapter_hub.trainers.reproduction.lora_whisper.systems import Work
from adapter_hub.trainers.reproduction.paper import Workplace
from adapter_hub.trainers.reproduction.run import Run

TABLES = (2,)
DIVERGED = {"diverged": True, "dev": {}}


def make_up(folder: Path, diverges: Callable[[Cell[Work]], bool]) -> Run:
    """Return a run of table 2 with a finished grid."""

    def outcome(_: Run, cell: Cell[Work]) -> Outcome:
        if cell.kind == "speech":
            return {"hours": {"train": 1.5, "dev": 0.1, "test": 0.25}}
        assert cell.work.rate is not None
        dev = dict.fromkeys(cell.work.dev, 0.3 - cell.work.rate)  # the higher, the better
        return (
            DIVERGED
            if diverges(cell)
            else {"parameters": 9, "steps": 10, "training_seconds": 5.0, "dev": dev}
        )

    def wanted(cell: Cell[Work]) -> bool:
        return cell.kind == "speech" or bool(cell.work.dev)

    return reproductions.make_up(folder, MINI, outcome, wanted, TABLES)


def strict(constant: str) -> None:
    raise AssertionError(f"{constant} is not JSON")


def test_a_rate_at_which_one_language_diverged_is_not_chosen_and_the_run_goes_on(tmp_path: Path) -> None:
    run = make_up(tmp_path / "run", lambda c: c.work.rate == 4e-3 and c.work.languages == ("pl",))
    assert run.plan.choices["E4"].rate == 2e-3
    assert not run.plan.choices["E4"].at_the_edge  # a higher one was tried
    assert run.plan.hopeless == ""
    assert run.next(()) is not None
    noted = json.loads((run.folder / "choices.json").read_text(), parse_constant=strict)["E4"]
    assert noted["dev_average"]["0.004"] is None
    assert noted["dev"]["0.004"] == {"it": 0.296, "pl": None, "pt": 0.296, "zh": 0.296}
    write_report(run)
    text = (run.folder / "README.md").read_text(encoding="utf-8")
    assert "| E4 | 0.002 | 0.001: 29.90, 0.002: 29.80, 0.004: diverged | no |" in text
    found = json.loads((run.folder / "results.json").read_text(), parse_constant=strict)
    assert found["training_times"]["E4"]["trainings"] == 4 * 3 - 1


def test_a_system_whose_rates_all_diverged_ends_the_run_with_one_line_and_a_report(
    run: Command, tmp_path: Path
) -> None:
    made = make_up(tmp_path / "run", lambda _: True)
    assert made.plan.choices == {}
    assert made.plan.hopeless.startswith("every learning rate of E4 diverged")
    done = run("reproduce", "lora-whisper", "--out", "run", "--tables", "2")
    assert done.code == 1
    last = done.err.splitlines()[-1]
    assert last.startswith("error: every learning rate of E4 diverged, so nothing can be tested; try lower")
    assert "time is up" not in done.err
    assert "cells are not finished" in (tmp_path / "run" / "README.md").read_text(encoding="utf-8")


def test_to_diverge_is_an_outcome_of_a_rate_that_is_tried_and_an_error_of_any_other_training(
    tmp_path: Path, data: Path, base_folder: Path
) -> None:
    said: list[str] = []
    paper, place = LoraWhisper(read()), Workplace(tmp_path, "cpu", said.append)
    text = recipe(tmp_path, base_folder, rate=1e30, epochs=4).read_text().replace('"data/', '"../data/')
    work = Work(system="E7", languages=("da",), rate=1e30, dev=("da",))
    assert paper.do(place, Cell("E7/da/rate-1e30/seed-1", "training", work), text) == DIVERGED
    assert any("the loss is nan" in line for line in said)
    assert list(place.trained("E7").parent.iterdir()) == []  # nobody goes on from its checkpoints
    again = Work(system="E7", languages=("da",), rate=1e30, random_seed=2)
    with pytest.raises(DivergedError, match="lower peak_learning_rate"):
        paper.do(place, Cell("E7/da/rate-1e30/seed-2", "training", again), text)
