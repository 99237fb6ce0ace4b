"""Other models beside a report: sums of the same utterances, on the card and in a published report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from command_line import Run
from making import make_artifact, make_report
from small_whisper import write_speech
from test_forgetting import ADAPTER, report

from adapter_hub.artifact.folder import Artifact
from adapter_hub.cards import render_card
from adapter_hub.errors import AdapterHubError, InvalidInputError
from adapter_hub.evaluation.besides import with_others
from adapter_hub.evaluation.forgetting import forgetting, section_of
from adapter_hub.evaluation.side_by_side import side_by_side
from adapter_hub.formats.claims import EvaluationReport

OTHER = {"name": "test/it", "version": "1.0.0", "function_digest": f"sha256:{'3' * 64}"}


def one(errors: list[int], **changes: Any) -> EvaluationReport:
    return report(errors, [10, 10, 10], ["a", "b", "c"], **changes)


def test_a_report_keeps_the_others_sums_and_the_paired_interval_of_the_difference() -> None:
    own, base, other = one([2, 6, 3], subject=ADAPTER), one([1, 5, 4]), one([0, 0, 3], subject=OTHER)
    made = with_others(own, [base, other])
    assert made.beside is not None
    assert [item.subject.name for item in made.beside] == [None, "test/it"]
    assert [item.rate("wer") for item in made.beside] == pytest.approx([1 / 3, 0.1])
    pair = side_by_side(base, own)
    assert (made.beside[0].low, made.beside[0].high) == (pair.low, pair.high)
    assert EvaluationReport.parse(made.to_bytes(), "here") == made
    assert len(made.to_bytes()) - len(own.to_bytes()) < 1000  # and none of their rows
    assert with_others(own, []) == own


def test_a_newer_report_on_a_model_takes_its_place_and_keeps_the_order() -> None:
    own, base, other = one([2, 6, 3], subject=ADAPTER), one([1, 5, 4]), one([0, 0, 3], subject=OTHER)
    again = with_others(with_others(own, [base, other]), [one([1, 1, 1])])
    assert [item.subject.name for item in again.beside or ()] == [None, "test/it"]
    assert [item.rate("wer") for item in again.beside or ()] == pytest.approx([0.1, 0.1])


@pytest.mark.parametrize(
    ("others", "message"),
    [
        ([one([1, 1, 1]), one([2, 2, 2])], "two reports on the base model; name each model once"),
        ([one([1, 1, 1], subject=ADAPTER)], "two reports on test/pl@1.0.0"),
        (
            [one([1, 1, 1], normaliser="none/1")],
            "normaliser none/1 and basic/1; reports are compared only on",
        ),
        ([one([1, 1, 1], data="noisy")], "data .* and .*; reports are compared only on the same data"),
    ],
)
def test_what_cannot_stand_beside_is_refused(others: list[EvaluationReport], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        with_others(one([2, 6, 3], subject=ADAPTER), others)


def test_sums_over_other_utterances_and_an_interval_turned_round_are_refused() -> None:
    made = with_others(one([2, 6, 3], subject=ADAPTER), [one([1, 5, 4])]).to_json()
    hits = json.loads(json.dumps(made))
    hits["beside"][0]["words"]["hits"] += 1
    with pytest.raises(AdapterHubError, match="words of other references than the rows'"):
        EvaluationReport.parse(json.dumps(hits).encode(), "here")
    made["beside"][0] |= {"low": 0.2, "high": 0.1}
    with pytest.raises(AdapterHubError, match=r"interval from 0\.2 to 0\.1"):
        EvaluationReport.parse(json.dumps(made).encode(), "here")


def test_a_card_says_where_the_adapter_is_worse_than_the_base_model(tmp_path: Path) -> None:
    artifact = make_artifact(tmp_path / "a", "test/pl")
    base, noisy = {"subject": {}}, {"data": "noisy"}
    reports = [
        with_others(
            make_report(artifact, 3),
            [make_report(artifact, 1, **base), make_report(artifact, 2, subject=OTHER)],
        ),
        with_others(make_report(artifact, 1, **noisy), [make_report(artifact, 4, **base, **noisy)]),
    ]
    card = render_card(artifact.manifest, reports)
    assert "| the base model | test/it@1.0.0 |" in card
    assert "| noisy, test | WER % | 10.0 | -30.0 (-100.0 to +100.0) | 40.0 |  |" in card
    assert "**Better than the base model** on noisy (the interval holds 0). **Worse than" in card
    assert "Beside other models" not in render_card(artifact.manifest, [make_report(artifact)])


def test_evaluate_shows_other_reports_beside_its_own(tmp_path: Path, base_folder: Path, run: Run) -> None:
    data = tmp_path / "data"
    data.mkdir()
    write_speech(data / "a.wav")
    (data / "metadata.jsonl").write_text('{"file_name": "a.wav", "text": "en to"}\n')
    of_base = ("evaluate", "base-model", "--data", data, "--base-model", base_folder, "--language", "da")
    first = tmp_path / "first.json"
    assert run(*of_base, "--beams", "1", "--out", first).code == 0
    refused = run(*of_base, "--beams", "1", "--beside", first)
    assert refused.code == 1
    assert "two reports on the base model; name each model once" in refused.err
    assert "none.json: no such file" in run(*of_base, "--beside", tmp_path / "none.json").err
    (data / "metadata.jsonl").write_text('{"file_name": "a.wav", "text": "en to tre"}\n')
    assert "--beside: a report is not on data/" in run(*of_base, "--beside", first).err


def test_a_full_model_is_not_the_base_model(tmp_path: Path) -> None:
    full = one([1, 1, 1], base_model_digest=f"sha256:{'3' * 64}")
    made = with_others(with_others(one([2, 6, 3], subject=ADAPTER), [one([1, 5, 4])]), [full])
    assert made.beside is not None
    assert [(item.is_base_model, item.model_digest) for item in made.beside] == [
        (True, None),
        (False, full.base_model_digest),
    ]
    artifact = make_artifact(tmp_path / "da")
    digest = artifact.manifest.function_digest
    made = made.model_copy(update={"subject": made.subject.model_copy(update={"function_digest": digest})})
    assert "| the base model | a full model (333333333333…) |" in render_card(artifact.manifest, [made])


def published(run: Run, tmp_path: Path) -> dict[str, Any]:
    """Publish an average, and return what reports call it."""
    words = ["mini/pl", "mini/it", "--as", "test/both@1.0.0", "--out", "out"]
    assert run("average", *words).code == 0
    assert run("--store", "store", "publish", "out").code == 0
    manifest = Artifact.open(tmp_path / "out").manifest
    subject = {"name": manifest.name, "version": "1.0.0", "function_digest": manifest.function_digest}
    return {"subject": subject, "base_model_digest": manifest.base_model.digest}


def test_what_an_average_has_forgotten_is_published_with_it_and_supported(run: Run, tmp_path: Path) -> None:
    about = published(run, tmp_path)
    base = {"base_model_digest": about["base_model_digest"]}
    reports = {
        "base": one([1, 1, 1], **base),
        "base-2": one([2, 2, 2], data="other", **base),
        "own": one([2, 2, 2], **about),
        "own-2": one([2, 2, 2], data="other", **about),
    }
    for name, item in reports.items():
        (tmp_path / f"{name}.json").write_bytes(item.to_bytes())
    words = ["--store", "store", "compare", *(f"{name}.json" for name in reports)]
    unmeasured = run("--store", "store", "card", "test/both").out
    assert "Not measured over the test sets of the original domain together. An average" in unmeasured
    assert run(*words, "--attach").code == 0
    card = run("--store", "store", "card", "test/both").out
    assert (
        "Forgetting: **+33.3 %** (95 % interval +33.3 % to +33.3 %, over 3 speakers or more of each)" in card
    )
    assert "on clean test, other test." in card
    assert "Base model languages" not in card
    audited = run("--store", "store", "audit", "test/both", "--json").json
    assert "forgetting-unsupported" not in {item["code"] for item in audited}
    paths = sorted((tmp_path / "store" / "test" / "both" / "evaluations").glob("*/*.json"))
    assert len(paths) == 2
    paths[0].unlink()
    audited = run("--store", "store", "audit", "test/both", "--json").json
    assert "forgetting-unsupported" in {item["code"] for item in audited}
    refused = run("--store", "store", "compare", "own.json", "base.json", "--attach")
    assert "is no adapter; nothing to publish it with" in refused.err


def test_an_adapter_for_one_language_leaves_the_base_model_untouched(tmp_path: Path) -> None:
    artifact = make_artifact(tmp_path / "da")
    assert "Base model languages: **+0.0 %**." in render_card(artifact.manifest)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"high": -50.0}, "interval from"),
        ({"sets": []}, "at least 1 item"),
        ({"resamples": 0}, "greater than or equal to 1"),
        ({"resamples": 10, "random_seed": 1}, "a method, or resamples and random_seed"),
    ],
)
def test_a_section_that_cannot_be_is_refused(changes: dict[str, Any], message: str) -> None:
    before, after = [one([1, 1, 1])], [one([2, 2, 2], subject=ADAPTER)]
    section = section_of(forgetting(before, after), before, after)
    value = after[0].model_copy(update={"forgetting": section}).to_json()
    EvaluationReport.parse(json.dumps(value).encode(), "here")
    value["forgetting"] |= changes
    with pytest.raises(InvalidInputError, match=message):
        EvaluationReport.parse(json.dumps(value).encode(), "here")


def test_forgetting_of_other_counts_than_the_report_s_is_refused() -> None:
    before, after = [one([1, 1, 1])], [one([2, 2, 2], subject=ADAPTER)]
    section = section_of(forgetting(before, after), before, after)
    value = one([3, 3, 3], subject=ADAPTER).model_copy(update={"forgetting": section}).to_json()
    with pytest.raises(InvalidInputError, match="not of this report's counts"):
        EvaluationReport.parse(json.dumps(value).encode(), "here")
