"""Evaluating: the report, its pooled counts, and data that cannot be evaluated."""

from __future__ import annotations

import json
import os
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from small_whisper import write_peft, write_speech

import adapter_hub
from adapter_hub.artifact.folder import Artifact
from adapter_hub.cli import main
from adapter_hub.data.dataset import data_sha256, read_dataset
from adapter_hub.errors import AdapterHubError, InvalidInputError
from adapter_hub.escaping import without_controls
from adapter_hub.evaluation.evaluating import EvaluationOptions, evaluate
from adapter_hub.evaluation.workers import Workers
from adapter_hub.exchange import Places, publish
from adapter_hub.formats.claims import EvaluationReport
from adapter_hub.model.base_model import BaseModel
from adapter_hub.model.loading import load_adapter, load_weights
from adapter_hub.registry.file import FileRegistry
from adapter_hub.stores.folder import FolderStore
from adapter_hub.transcription.opening import load
from adapter_hub.transcription.routing import FixedRoute, LanguageRouter
from adapter_hub.transcription.transcriber import Transcriber

TIMES = ("created", "wall_seconds")
ROWS = [
    {"file_name": "a.wav", "text": "en to", "speaker": "anna"},
    {"file_name": "b.wav", "text": "tre", "speaker": "bo"},
    {"file_name": "c.wav", "text": "fire fem seks", "speaker": "bo"},
]


def write_data(folder: Path, rows: list[dict[str, Any]] = ROWS) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for i, row in enumerate(rows):
        if not (folder / row["file_name"]).exists():
            write_speech(folder / row["file_name"], seconds=2 - i / 2, seed=i)
    lines = [json.dumps(row, ensure_ascii=False) for row in rows]
    (folder / "metadata.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return folder


@pytest.fixture
def danish(base: BaseModel, adapters: list[Artifact]) -> Transcriber:
    return Transcriber(base, FixedRoute(base, load_adapter(base, adapters[0])))


def test_two_processes_give_the_report_of_one(
    base_folder: Path, adapters: list[Artifact], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = write_data(tmp_path / "numbers" / "test")
    words = ["evaluate", str(adapters[0].path), "--data", str(folder), "--base-model", str(base_folder)]
    words += ["--batch-size", "1", "--beams", "1", "--beside", "base-model", "--json"]
    reports = []
    for count in ("1", "2"):
        assert main([*words, "--workers", count]) == 0
        report = json.loads(capfd.readouterr().out)
        reports.append({name: value for name, value in report.items() if name not in TIMES})
    assert reports[0] == reports[1]


@pytest.mark.slow
def test_a_recording_that_is_not_whole_is_one_line_of_two_processes_too(
    base_folder: Path, adapters: list[Artifact], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = write_data(tmp_path / "numbers" / "test")
    (folder / "b.wav").write_bytes((folder / "b.wav").read_bytes()[:-4000])
    words = ["evaluate", str(adapters[0].path), "--data", str(folder), "--base-model", str(base_folder)]
    assert main([*words, "--batch-size", "1", "--beams", "1", "--workers", "2"]) == 1
    errors = [line for line in capfd.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert "b.wav" in errors[0]


@pytest.mark.slow
def test_a_worker_that_has_another_adapter_or_dies_is_one_line(
    base: BaseModel, danish: Transcriber, tmp_path: Path
) -> None:
    dataset = read_dataset(write_data(tmp_path / "numbers" / "test"))
    cases = {"another base model or adapter": partial(load, "mini/da"), "a worker died|workers died": _dying}
    for said, opening in cases.items():
        with pytest.raises(AdapterHubError, match=said):
            evaluate(danish, dataset, workers=Workers(1, opening, danish))


def _dying() -> Transcriber:
    os._exit(9)


def test_a_report_is_bound_to_function_base_model_and_data(
    base: BaseModel, danish: Transcriber, adapters: list[Artifact], tmp_path: Path
) -> None:
    dataset = read_dataset(write_data(tmp_path / "numbers" / "test"))
    seen: list[tuple[int, float]] = []
    options = EvaluationOptions(beams=2, batch_size=2)
    report = evaluate(danish, dataset, options, lambda count, seconds: seen.append((count, seconds)))
    manifest = adapters[0].manifest
    assert (report.subject.name, report.subject.function_digest) == (manifest.name, manifest.function_digest)
    assert report.base_model_digest == base.digest
    assert (report.data, report.split, report.data_sha256) == ("numbers", "test", data_sha256(dataset))
    assert [row.id for row in report.rows] == ["a.wav", "b.wav", "c.wav"]
    assert [row.reference for row in report.rows] == ["en to", "tre", "fire fem seks"]
    texts = danish.transcribe([row.path for row in dataset.rows], beams=2, temperatures=(0.0,))
    assert [row.hypothesis for row in report.rows] == [item.text for item in texts]
    assert report.words.reference_length == 6
    assert (report.primary, report.interval.unit, report.seconds) == ("wer", "utterance", 4.5)
    assert [count for count, _ in seen] == [2, 1]
    assert sum(seconds for _, seconds in seen) == pytest.approx(4.5)
    assert EvaluationReport.parse_canonical(report.to_bytes(), "report") == report


def test_languages_without_word_spaces_lead_with_cer_and_rows_may_differ(
    base: BaseModel, tmp_path: Path
) -> None:
    rows = [{**ROWS[0], "language": "zh", "text": "二 十"}, ROWS[1]]
    dataset = read_dataset(write_data(tmp_path / "mixed", rows))
    plain = Transcriber(base, FixedRoute(base, None, None))
    report = evaluate(plain, dataset, EvaluationOptions(language="da", beams=1))
    assert (report.primary, report.languages, report.decoding.language) == ("cer", ("da", "zh"), "da,zh")
    assert report.subject.name is None
    assert report.characters.reference_length == 2 + 3
    assert report.value == report.characters.rate


def test_an_utterance_that_is_longer_than_the_chunk_is_evaluated_in_windows(
    danish: Transcriber, tmp_path: Path
) -> None:
    folder = write_data(tmp_path / "long", [ROWS[0]])
    write_speech(folder / "a.wav", seconds=10.0)
    report = evaluate(danish, read_dataset(folder), EvaluationOptions(beams=1))
    assert (report.rows[0].seconds, report.seconds) == (10.0, 10.0)
    (found,) = danish.transcribe(folder / "a.wav", beams=1)
    assert len(found.segments) == 3
    assert report.rows[0].hypothesis == found.text


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"file_name": "short.wav", "text": "en"}], r"line 1: short\.wav: 0\.050 s of audio"),
        ([{"file_name": "text.wav", "text": "en"}], r"line 1: .*text\.wav: cannot be read as audio"),
        (
            [ROWS[0], {"file_name": "b.wav", "text": "…"}],
            r"line 2: b\.wav: reference '…' is empty after basic/2",
        ),
        ([{**ROWS[0], "language": "mdw"}], "language 'mdw': .* has no token for it"),
    ],
)
def test_data_that_cannot_be_evaluated_is_refused_before_decoding(
    danish: Transcriber, tmp_path: Path, rows: list[dict[str, Any]], message: str
) -> None:
    write_speech(tmp_path / "short.wav", 0.05)
    (tmp_path / "text.wav").write_text("no audio")
    with pytest.raises(InvalidInputError, match=message):
        evaluate(danish, read_dataset(write_data(tmp_path, rows)))


def test_samples_that_turn_out_bad_are_refused_with_the_row(danish: Transcriber, tmp_path: Path) -> None:
    import numpy as np
    import soundfile

    soundfile.write(tmp_path / "b.wav", np.full(8_000, np.nan, dtype=np.float32), 16_000, subtype="FLOAT")
    with pytest.raises(InvalidInputError, match=r"line 2: .*b\.wav: sample 0 is NaN .*repair or remove"):
        evaluate(danish, read_dataset(write_data(tmp_path)), EvaluationOptions(beams=1))


def test_an_unknown_language_is_refused_with_what_to_do(base: BaseModel, tmp_path: Path) -> None:
    plain = Transcriber(base, FixedRoute(base, None, None))
    with pytest.raises(InvalidInputError, match=r"language of 3 of 3 rows is not known .* --language"):
        evaluate(plain, read_dataset(write_data(tmp_path)))


def test_nothing_is_reported_as_the_base_model_but_the_base_model(
    base: BaseModel, adapters: list[Artifact], tmp_path: Path
) -> None:
    registry = FileRegistry(tmp_path / "registry.json")
    publish(adapters[0].path, Places(registry, FolderStore(tmp_path / "store")))
    where = {"base_model": str(base.folder), "registry": str(registry.path), "device": "cpu"}
    dataset, options = read_dataset(write_data(tmp_path / "data")), EvaluationOptions("da", beams=1)
    falling_back = LanguageRouter(base, {}, pytest.fail, fallback=load_adapter(base, adapters[1]))
    for routed in (adapter_hub.load("auto", **where), Transcriber(base, falling_back)):
        with pytest.raises(InvalidInputError, match="`auto` is not an adapter; name one, or base-model"):
            evaluate(routed, dataset, options)
    nameless = load_weights(base, write_peft(tmp_path / "nameless", base, seed=1))
    with pytest.raises(InvalidInputError, match=r"nameless has no manifest, so no report can name it; use"):
        evaluate(Transcriber(base, FixedRoute(base, nameless)), dataset, options)
    assert evaluate(adapter_hub.load("base-model", **where), dataset, options).subject.name is None


def test_transcribe_prints_text_json_and_srt(
    base: BaseModel, adapters: list[Artifact], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_data(tmp_path / "clips")
    ref, once = str(adapters[0].path), ["--base-model", str(base.folder), "--beams", "1"]
    assert main(["--device", "cpu", "transcribe", ref, str(folder / "b.wav"), *once, "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["language"], row["adapter"], row["duration"]) == ("da", "small/da-1@1.0.0", 1.5)
    assert main(["--device", "cpu", "transcribe", ref, str(folder / "b.wav"), *once]) == 0
    assert capsys.readouterr().out == without_controls(row["text"]) + "\n"
    assert main(["--device", "cpu", "transcribe", ref, str(folder), *once]) == 0
    lines = [line for line in capsys.readouterr().out.split("\n") if "\t" in line]
    assert [line.split("\t")[0] for line in lines] == [str(folder / f"{name}.wav") for name in "abc"]
    out = tmp_path / "subtitles"
    options = [*once, "--format", "srt", "--out", str(out)]
    assert main(["--device", "cpu", "transcribe", ref, str(folder), *options]) == 0
    assert sorted(path.name for path in out.iterdir()) == ["a.srt", "b.srt", "c.srt"]
    assert (out / "a.srt").read_text().startswith("1\n00:00:0")


def test_transcribe_goes_on_after_a_broken_file_and_exits_with_1(
    base: BaseModel, adapters: list[Artifact], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_data(tmp_path / "clips")
    (folder / "b.wav").write_text("no audio")
    options = ["--base-model", str(base.folder), "--beams", "1", "--json"]
    code = main(["--device", "cpu", "transcribe", str(adapters[0].path), str(folder), *options])
    said = capsys.readouterr()
    assert code == 1
    assert ["error" in row for row in json.loads(said.out)] == [False, True, False]
    assert said.err.startswith(f"error: {folder / 'b.wav'}: cannot be read as audio")


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["transcribe", "base-model"], 2, "Missing argument 'AUDIO...'"),
        (
            ["transcribe", "small/absent", str(Path(__file__).with_name("clips") / "da.flac")],
            1,
            "error: .*small/absent",
        ),
        (["evaluate", "auto", "--data", "."], 1, "error: evaluate: `auto` is not an adapter"),
        (["evaluate", "base-model", "--data", "absent"], 1, "error: absent: no such folder"),
        (
            ["evaluate", "base-model", "--data", ".", "--attach"],
            1,
            "a report on the base model alone cannot be published",
        ),
        (["transcribe", "base-model", "a", "b", "--format", "srt"], 2, "need --out FOLDER"),
        (["transcribe", "base-model", "a", "--temperatures", "0,nan"], 2, "'0,nan': expected numbers from 0"),
        (["transcribe", "base-model", "a", "--temperatures", "inf"], 2, "'inf': expected numbers from 0 on"),
        (["transcribe", "base-model", "a", "--temperatures", "cold"], 2, "'cold': expected numbers from 0"),
    ],
)
def test_wrong_commands_say_so_in_one_line(
    arguments: list[str], code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    import re

    assert main(arguments) == code
    assert re.search(message, capsys.readouterr().err)


def test_evaluate_writes_prints_and_attaches_the_report(
    base: BaseModel, adapters: list[Artifact], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    registry = FileRegistry(tmp_path / "registry.json")
    publish(adapters[0].path, Places(registry, FolderStore(tmp_path / "store")))
    data = write_data(tmp_path / "numbers" / "test").parent
    where = ["--registry", str(registry.path), "--device", "cpu"]
    options = ["--data", str(data), "--beams", "1", "--out", str(tmp_path / "report.json"), "--attach"]
    command = ["evaluate", "small/da-1", "--base-model", str(base.folder), *options]
    assert main([*where, *command]) == 0
    said, warned = capsys.readouterr()
    assert "x real time; interval over 3 utterances of 2 speakers" in said
    assert warned.count("warning: the interval of 2 speakers says nothing of other speakers") == 1
    report = EvaluationReport.parse_canonical((tmp_path / "report.json").read_bytes(), "report")
    assert f"WER % (primary)  {100 * report.words.rate:.1f}" in said
    assert "small/da-1@1.0.0 on numbers/test: 3 utterances, 4 s of da, basic/2, beams 1" in said
    registry.refresh()
    (score,) = registry.adapters["small/da-1"]["1.0.0"].scores
    assert (score.metric, score.value, score.n) == ("wer", report.value, 3)
    assert main([*where, *command[:-1], "--script", "simplified", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["normaliser"] == "basic/2+simplified"
    assert main([*where, *command[:-1], "--script", "simplified", "--normaliser", "none/1"]) == 1
    assert "normaliser 'none/1+simplified': expected one of basic/1" in capsys.readouterr().err
