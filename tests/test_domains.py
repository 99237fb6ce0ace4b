"""Domains: rows name a kind of speech, and its error rate is told beside the whole data set's."""

from __future__ import annotations

from pathlib import Path

import pytest
from command_line import Run
from test_evaluating import ROWS, write_data

from adapter_hub.data.dataset import read_dataset
from adapter_hub.evaluation.domains import by_domain
from adapter_hub.evaluation.evaluating import EvaluationOptions, evaluate
from adapter_hub.formats.claims import EvaluationReport
from adapter_hub.model.base_model import BaseModel
from adapter_hub.transcription.routing import FixedRoute
from adapter_hub.transcription.transcriber import Transcriber

NAMED = [{**ROWS[0], "domain": "noisy"}, {**ROWS[1], "domain": "clean"}, {**ROWS[2], "domain": "noisy"}]


@pytest.fixture
def plain(base: BaseModel) -> Transcriber:
    return Transcriber(base, FixedRoute(base, None, None))


def test_a_report_has_the_domains_of_its_rows_and_their_rates_follow(
    plain: Transcriber, tmp_path: Path
) -> None:
    options = EvaluationOptions(language="da", beams=1)
    report = evaluate(plain, read_dataset(write_data(tmp_path / "named", NAMED)), options)
    assert [row.domain for row in report.rows] == ["noisy", "clean", "noisy"]
    assert EvaluationReport.parse_canonical(report.to_bytes(), "report") == report
    found = by_domain(report)
    assert [(name, score.utterances) for name, score in found.items()] == [("clean", 1), ("noisy", 2)]
    assert sum(score.counts.errors for score in found.values()) == report.words.errors
    noisy = found["noisy"]
    assert noisy.interval.low <= noisy.counts.rate <= noisy.interval.high
    assert (noisy.interval.unit, found["clean"].interval.unit) == ("utterance", "utterance")


def test_a_report_without_domains_does_not_speak_of_them(plain: Transcriber, tmp_path: Path) -> None:
    options = EvaluationOptions(language="da", beams=1)
    report = evaluate(plain, read_dataset(write_data(tmp_path / "plain")), options)
    assert by_domain(report) == {}
    assert b"domain" not in report.to_bytes()


def test_evaluate_and_data_check_show_domains(tmp_path: Path, base_folder: Path, run: Run) -> None:
    rows = [dict(row) for row in NAMED]
    rows[0]["domain"] = rows[2]["domain"] = "in\u202ecar"
    folder = write_data(tmp_path / "named", rows)
    command = ("evaluate", "base-model", "--data", folder, "--base-model", base_folder, "--language", "da")
    shown = run(*command, "--beams", "1").out
    assert "domain" in shown
    assert "clean" in shown
    assert "in\\u202ecar" in shown
    printed = run(*command, "--beams", "1", "--json", "--out", "written.json").out
    found = EvaluationReport.parse(printed.encode(), "--json")  # strict: a key too many is refused
    assert found == EvaluationReport.parse((tmp_path / "written.json").read_bytes(), "--out")
    assert {name: score.utterances for name, score in by_domain(found).items()} == {
        "clean": 1,
        "in\u202ecar": 2,
    }
    (tmp_path / "printed.json").write_text(printed, encoding="utf-8")
    compared = run("compare", "printed.json", "written.json")
    assert "reports on 1 model, expected two" in compared.err  # both are read, and are of one model
    checked = run("data", "check", folder, "--base-model", base_folder)
    assert "domains of all: clean 1, in\\u202ecar 2" in checked.out
