"""What an evaluation has measured is checked for beforehand, printed first, kept, and published later."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest
from command_line import Outcome, Run
from small_whisper import write_speech
from test_evaluating import write_data

from adapter_hub.artifact.folder import Artifact
from adapter_hub.cli.terminal.reports import read_report
from adapter_hub.files.writing import check_writable
from adapter_hub.model.base_model import BaseModel


@pytest.fixture
def evaluate(run: Run, base: BaseModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run `evaluate REF …` on three Danish recordings."""
    monkeypatch.setenv("ADAPTER_HUB_DEVICE", "cpu")
    monkeypatch.setenv("ADAPTER_HUB_CACHE", str(tmp_path / "cache"))
    data = write_data(tmp_path / "numbers" / "test").parent

    def call(*words: str | Path) -> Outcome:
        where = ["--data", data, "--base-model", base.folder, "--beams", "1"]
        return run("evaluate", *words, *where)

    return call


def kept(folder: Path) -> list[Path]:
    return [*(folder / "cache" / "reports").glob("*.json")]


def test_what_is_not_published_is_said_before_it_is_evaluated(
    evaluate: Run, adapters: list[Artifact], tmp_path: Path
) -> None:
    done = evaluate(adapters[0].path, "--attach")
    assert done.code == 1
    assert "publish it first, with `adapter-hub publish FOLDER`" in done.err
    assert (done.out, kept(tmp_path)) == ("", [])


@pytest.mark.parametrize("place", ["numbers", "numbers/test/metadata.jsonl/report.json", "/proc/report.json"])
def test_a_report_s_place_is_tried_before_anything_is_evaluated(
    evaluate: Run, adapters: list[Artifact], tmp_path: Path, place: str
) -> None:
    done = evaluate(adapters[0].path, "--out", place)
    assert (done.code, done.out, kept(tmp_path)) == (1, "", [])
    assert done.err.count("error: ") == 1
    assert Path(place).name in done.err


def test_a_transcript_s_place_is_tried_before_anything_is_transcribed(
    run: Run, base: BaseModel, adapters: list[Artifact], tmp_path: Path
) -> None:
    write_speech(tmp_path / "a.wav")
    (tmp_path / "texts").mkdir()
    command = ["transcribe", adapters[0].path, "a.wav", "--base-model", base.folder]
    for place, message in {
        "texts": "name a file in it, like texts/text.text",
        "/proc/a.txt": "/proc/a.txt",
    }.items():
        done = run(*command, "--out", place)
        assert (done.code, done.out) == (1, "")
        assert message in done.err


@pytest.mark.parametrize("command", ["train", "fold"])
def test_a_folder_that_cannot_be_made_is_said_before_the_work(run: Run, command: str) -> None:
    done = run(command, "absent", "--out", "/proc/out")
    assert (done.code, done.err.count("error: ")) == (1, 1)
    assert "/proc/out" in done.err


def test_a_trial_leaves_nothing_and_makes_no_folder(tmp_path: Path) -> None:
    check_writable(tmp_path / "a" / "b" / "report.json")
    assert [*tmp_path.iterdir()] == []


def test_what_cannot_be_saved_is_printed_and_kept(
    evaluate: Run, run: Run, adapters: list[Artifact], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full, replace = tmp_path / "report.json", os.replace

    def refuse(source: str, target: str, **folders: Any) -> None:
        if Path(target) == full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(target))
        replace(source, target, **folders)

    monkeypatch.setattr(os, "replace", refuse)  # the disk that --out is on is full by now
    done = evaluate(adapters[0].path, "--out", full)
    (copy,) = kept(tmp_path)
    assert (done.code, done.err.count("error: ")) == (1, 1)
    assert "WER % (primary)" in done.out
    assert f"the report is kept in {copy}; `adapter-hub attach {copy}` publishes it" in done.err
    assert read_report(copy).subject.name == "small/da-1"
    published = run("publish", adapters[0].path)
    assert f"not evaluated yet; next: adapter-hub attach {copy}" in published.err
    assert run("attach", copy).code == 0
    assert "Not evaluated yet" not in run("card", "small/da-1").out


def test_train_evaluate_publish_shows_the_scores_of_adapter_and_base_model_on_the_card(
    evaluate: Run, run: Run, adapters: list[Artifact], tmp_path: Path
) -> None:
    done = evaluate(adapters[0].path, "--beside", "base-model", "--out", "report.json")
    assert done.code == 0, done.err
    assert "base model" in done.out
    assert kept(tmp_path) == []
    report = read_report(Path("report.json"))
    assert report.beside is not None
    assert [item.is_base_model for item in report.beside] == [True]
    published = run("publish", adapters[0].path, "--as", "alice/da@1.0.0", "--report", "report.json")
    assert (published.code, published.err) == (0, "")
    card = run("card", "alice/da").out
    assert "Not evaluated yet" not in card
    assert f"{100 * report.value:.1f} %" in card
    beside = card.partition("### Beside other models")[2].partition("### Forgetting")[0]
    assert f"{100 * report.beside[0].rate('wer'):.1f}" in beside


def test_a_report_is_attached_under_the_name_that_the_weights_were_published_as(
    evaluate: Run, run: Run, adapters: list[Artifact]
) -> None:
    assert evaluate(adapters[0].path, "--out", "report.json").code == 0
    assert run("publish", adapters[0].path, "--as", "alice/da@2.0.0").code == 0
    done = run("attach", "report.json", "absent.json")
    assert (done.code, done.out.split()[0]) == (1, "alice/da@2.0.0")
    assert (
        done.err == "error: absent.json: no such file; expected a report that `evaluate --out` has written\n"
    )
    assert run("publish", adapters[0].path, "--as", "bob/da@1.0.0").code == 0
    assert "several names have it: alice/da, bob/da" in run("attach", "report.json").err


def test_a_report_on_other_weights_publishes_nothing(
    evaluate: Run, run: Run, adapters: list[Artifact]
) -> None:
    assert evaluate(adapters[1].path, "--out", "report.json").code == 0
    done = run("publish", adapters[0].path, "--report", "report.json")
    assert done.code == 1
    assert "was not measured with the weights of small/da-1@1.0.0" in done.err
    assert run("list").out.count("small/") == 0
