"""`compare`: rates side by side, what was forgotten, and reports that do not belong together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from command_line import Run
from test_forgetting import ADAPTER, report

from adapter_hub.evaluation.side_by_side import side_by_side
from adapter_hub.formats.claims import EvaluationReport

VOICES = ["a", "b", "c"]


def one(errors: list[int], **changes: Any) -> EvaluationReport:
    return report(errors, [10, 10, 10], VOICES, **changes)


def written(folder: Path, **reports: EvaluationReport) -> list[Path]:
    files = []
    for name, found in reports.items():
        files.append(folder / f"{name}.json")
        files[-1].write_bytes(found.to_bytes())
    return files


def test_a_constant_difference_has_no_spread_since_speakers_are_paired() -> None:
    found = side_by_side(one([1, 5, 2]), one([2, 6, 3]))
    assert (found.low, found.after - found.before, found.high) == pytest.approx((0.1, 0.1, 0.1))
    assert (found.utterances, found.unit, found.metric) == (3, "speaker", "wer")


def test_rates_and_forgetting_are_shown_side_by_side(tmp_path: Path, run: Run) -> None:
    files = written(
        tmp_path,
        before=one([1, 1, 1]),
        before_other=one([2, 2, 2], data="other"),
        after=one([2, 2, 2], subject=ADAPTER),
        after_other=one([2, 2, 2], subject=ADAPTER, data="other"),
    )
    shown = run("compare", *files)
    assert shown.code == 0
    assert "forgetting of test/pl@1.0.0 on clean/test, other/test: +33.3 % (+33.3 to +33.3)" in shown.out
    assert "+10.0" in shown.out
    assert "3 speakers" in shown.out
    assert "warning: an interval of 3 speakers is rough; test at least 10" in shown.err
    found = run("compare", *files, "--json").json
    (model,) = found["models"]
    assert model["forgetting"]["percent"] == pytest.approx(100 / 3)
    assert [item["data"] for item in model["sets"]] == ["clean/test", "other/test"]
    part = run("compare", *files[:3], "--json").json
    assert part["models"][0]["forgetting"] is None  # one of the first model's sets is missing


def test_bad_reports_are_told_and_the_others_compared(tmp_path: Path, run: Run) -> None:
    files = written(
        tmp_path,
        before=one([1, 1, 1]),
        after=one([2, 2, 2], subject=ADAPTER),
        noisy=one([2, 2, 2], subject=ADAPTER, data="noisy"),
    )
    (tmp_path / "bad.json").write_text("{")
    outcome = run("compare", *files, tmp_path / "bad.json", tmp_path / "none.json")
    assert outcome.code == 1
    assert "+10.0" in outcome.out
    errors = [line for line in outcome.err.splitlines() if not line.startswith("warning: an interval of 3")]
    assert len(errors) == 3
    assert "bad.json" in errors[0]
    assert "none.json: no such file; expected a report that `evaluate --out` has written" in errors[1]
    assert "noisy/test" in errors[2]
    assert "has no report on the first model" in errors[2]


def test_reports_made_differently_and_a_single_model_are_refused(tmp_path: Path, run: Run) -> None:
    files = written(tmp_path, before=one([1, 1, 1]), after=one([1, 1, 1], subject=ADAPTER, split="dev"))
    outcome = run("compare", *files)
    assert outcome.code == 1
    assert "clean/test: split test and dev; reports are compared only on the same split" in outcome.err
    alone = run("compare", files[0])
    assert (alone.code, alone.out) == (1, "")
    assert "readable reports on 1 model, expected two or more" in alone.err


def test_an_adapter_is_compared_with_any_model_and_forgets_only_what_its_own_base_model_knew(
    tmp_path: Path, run: Run
) -> None:
    full = one([1, 1, 1], base_model_digest=f"sha256:{'3' * 64}")
    files = written(tmp_path, full=full, after=one([2, 2, 2], subject=ADAPTER))
    found = run("compare", *files, "--json")
    assert found.code == 0, found.err
    (model,) = found.json["models"]
    assert (model["forgetting"], model["sets"][0]["after"]) == (None, pytest.approx(0.2))
