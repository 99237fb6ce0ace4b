"""The training curve on a card: short, readable, and absent where a manifest has none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from making import make_artifact

from adapter_hub.cards import render_card
from adapter_hub.cards.curve import BARS, LONGEST_LINE, MOST_ROWS, curve_rows, sparkline
from adapter_hub.formats.manifest import CurvePoint, Manifest, Training


def training(points: list[dict[str, float]], **changes: Any) -> Training:
    curve = tuple(CurvePoint.model_validate(point) for point in points)
    return Training(
        steps=1000, random_seed=1, hardware="2 cores", wall_seconds=1.0, packages={}, curve=curve, **changes
    )


def test_bars_run_from_the_lowest_to_the_highest_value() -> None:
    assert sparkline([8.0, 1.0, 4.0]) == "█▁▄"
    assert sparkline([2.0, 2.0]) == BARS[0] * 2
    assert sparkline([]) == ""
    assert len(sparkline([float(i) for i in range(1000)])) <= LONGEST_LINE
    assert sparkline([float(i) for i in range(1000)])[-1] == BARS[-1]


def test_a_row_of_the_table_is_an_epoch_with_the_mean_of_its_losses() -> None:
    rows = curve_rows(
        training(
            [
                {"step": 1, "loss": 4.0},
                {"step": 2, "loss": 2.0, "dev_loss": 2.5},
                {"step": 3, "loss": 1.0},
                {"step": 4, "loss": 0.5, "dev_loss": 2.75},
            ],
            best_step=2,
        )
    )
    assert [(row.step, row.loss, row.dev_loss, row.kept) for row in rows] == [
        (2, 3.0, 2.5, True),
        (4, 0.75, 2.75, False),
    ]


@pytest.mark.parametrize("best", [None, 310, 400])
def test_a_long_curve_is_shown_by_a_dozen_rows_with_the_first_the_last_and_the_one_kept(
    best: int | None,
) -> None:
    rows = curve_rows(training([{"step": 10 * i, "dev_loss": 1 / i} for i in range(1, 41)], best_step=best))
    assert MOST_ROWS <= len(rows) <= MOST_ROWS + 1
    assert (rows[0].step, rows[-1].step) == (10, 400)
    assert [row.step for row in rows if row.kept] == [best or 400]


def test_a_card_shows_the_curve_and_says_which_weights_were_kept(tmp_path: Path) -> None:
    make_artifact(tmp_path / "seed", "test/pl")
    value = json.loads((tmp_path / "seed" / "adapter.json").read_bytes())
    assert "Training curve" not in render_card(Manifest.parse(json.dumps(value).encode(), "here"))
    found = training(
        [{"step": 5, "loss": 3.0, "dev_loss": 2.0}, {"step": 10, "loss": 1.0, "dev_loss": 2.5}], best_step=5
    )
    value |= {"training": found.to_json()}
    card = render_card(Manifest.parse(json.dumps(value).encode(), "here"))
    assert "| 5 | 3.000 | 2.000 | kept |\n| 10 | 1.000 | 2.500 |  |\n" in card
    assert "loss `█▁` from 3.000 to 1.000, dev loss `▁█` from 2.000 to 2.500.\n\n| step |" in card


def test_a_manifest_without_a_curve_keeps_its_bytes(tmp_path: Path) -> None:
    make_artifact(tmp_path / "seed", "test/pl")
    raw = (tmp_path / "seed" / "adapter.json").read_bytes()
    old = json.loads(raw) | {"training": training([]).to_json()}
    del old["training"]["curve"]
    manifest = Manifest.parse(json.dumps(old).encode(), "here")
    assert manifest.training is not None
    assert manifest.training.curve is None
    assert json.loads(manifest.to_bytes())["training"] == old["training"]
