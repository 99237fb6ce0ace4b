"""A small Parakeet CTC that understands digits: what random weights cannot show of its adapters."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import Run
from small_training import places
from trained_parakeet import PARAKEET, spoken_digits, write_digits

import adapter_hub
from adapter_hub.artifact.folder import Artifact
from adapter_hub.data.dataset import read_dataset
from adapter_hub.evaluation.evaluating import EvaluationOptions, evaluate
from adapter_hub.model.base_model import load_base_model
from adapter_hub.trainers.averaging.extracting import extraction_differences
from adapter_hub.trainers.makers.parakeet.__main__ import RECIPE
from adapter_hub.trainers.training import train

BASE = ["--base-model", PARAKEET]
TABLES = {"lora": "[lora]\nrank = 8", "full-fine-tuning": ""}
TRAINING = {
    "lora": "steps = 40\npeak_learning_rate = 5e-3",
    "full-fine-tuning": "steps = 32\npeak_learning_rate = 1e-3",
}


def recipe(folder: Path, method: str) -> Path:
    path = folder / f"{method}.toml"
    path.write_text(
        f"""
[adapter]
name = "small/es-{method}"
version = "1.0.0"
method = "{method}"
language = "es"
license = "Apache-2.0"
[base_model]
id = "{PARAKEET}"
{TABLES[method]}
[data]
train = "es-adaptation"
[training]
batch_size = 12
{TRAINING[method]}
"""
    )
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Spanish digits, which the base model never heard, and what learned them in a few steps."""
    place = tmp_path_factory.mktemp("spanish")
    for split, count in (("adaptation", 96), ("test", 24)):
        write_digits(place / f"es-{split}", "es", split, count, longest=2)
    for method in TRAINING:
        train(recipe(place, method), place / method, **places(place))
    return place


def error_rate(folder: Path, ref: str = "base-model", *, base_model: Path = PARAKEET) -> float:
    """Return the word error rate on Spanish digits."""
    transcriber = adapter_hub.load(ref, base_model=str(base_model), device="cpu")
    options = EvaluationOptions(language="es", batch_size=24)
    return evaluate(transcriber, read_dataset(folder / "es-test"), options).words.rate


def test_it_is_what_its_settings_and_recipe_make() -> None:
    record = json.loads((PARAKEET / "training.json").read_text(encoding="utf-8"))
    assert record["settings"] == RECIPE.with_name("settings.toml").read_text(encoding="utf-8")
    assert record["recipe"] == RECIPE.read_text(encoding="utf-8")
    assert (PARAKEET / "model.safetensors").stat().st_size < 2_500_000


def test_it_understands_voices_that_it_never_heard(tmp_path: Path) -> None:
    record = json.loads((PARAKEET / "training.json").read_text(encoding="utf-8"))["test"]
    transcriber = adapter_hub.load("base-model", base_model=str(PARAKEET), device="cpu")
    for language in ("en", "it"):
        data = read_dataset(write_digits(tmp_path / language, language, "test", 24))
        report = evaluate(transcriber, data, EvaluationOptions(language=language))
        assert report.words.rate < 0.15
        assert record[language]["wer"] < 0.1


def test_words_are_timed_near_where_they_are_spoken(tmp_path: Path) -> None:
    clips = spoken_digits(tmp_path / "clips", "en", 12)
    transcriber = adapter_hub.load("base-model", base_model=str(PARAKEET), device="cpu")
    found = transcriber.transcribe([str(path) for path, _, _ in clips], words=True)
    off = []
    for item, (_, text, times) in zip(found, clips, strict=True):
        assert item.words is not None
        if item.text == text:
            off += [abs(word.start - start) for word, (start, _) in zip(item.words, times, strict=True)]
            assert all(word.start < end for word, (_, end) in zip(item.words, times, strict=True))
    assert len(off) > 15
    assert float(np.median(off)) < 0.1
    assert max(off) < 0.3


def test_a_language_that_it_never_heard_is_learned_in_seconds(folder: Path) -> None:
    plain = error_rate(folder)
    assert plain > 0.9
    assert error_rate(folder, str(folder / "lora")) < 0.6 * plain
    assert error_rate(folder, base_model=folder / "full-fine-tuning") < 0.6 * plain


def test_an_adapter_taken_from_a_full_fine_tune_understands_what_that_does(
    folder: Path, run: Run, tmp_path: Path
) -> None:
    rates, base = [error_rate(folder)], load_base_model(PARAKEET, device="cpu")
    for rank in (1, 32):
        words = ["--as", f"small/es-{rank}@1.0.0", "--language", "es", "--license", "Apache-2.0"]
        words += ["--rank", str(rank), "--out", f"rank-{rank}", "--json"]
        told = run("extract", folder / "full-fine-tuning", *words, *BASE)
        assert told.code == 0
        assert any("running_mean" in name for name in told.json["left_out"])
        made = Artifact.open(tmp_path / f"rank-{rank}")
        assert made.manifest.base_model.architecture == "ParakeetForCTC"
        assert not list(extraction_differences(base, made, folder / "full-fine-tuning"))
        rates.append(error_rate(folder, str(tmp_path / f"rank-{rank}")))
    rates.append(error_rate(folder, base_model=folder / "full-fine-tuning"))
    assert rates[2] < 0.6 * rates[0]
    assert rates[3] - 0.1 < rates[2] < rates[1] < rates[0]


def test_what_was_learned_lives_through_publishing_averaging_and_mixed_batches(
    folder: Path, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run("publish", folder / "lora").code == 0
    monkeypatch.setenv("ADAPTER_HUB_CACHE", str(tmp_path / "another machine's cache"))
    assert run("pull", "small/es-lora").code == 0
    audited = run("audit", "small/es-lora", "--probe", *BASE, "--json")
    assert audited.code == 0
    assert not {finding["code"] for finding in audited.json} & {"probe-differs", "probe-missing"}

    words = ["--with-base-model", "0.25", "--as", "small/mean@1.0.0", "--out", "mean", *BASE]
    assert run("average", "small/es-lora", *words).code == 0
    assert error_rate(folder, str(tmp_path / "mean")) < error_rate(folder)

    spanish, english = (spoken_digits(tmp_path / tag, tag, 6) for tag in ("es", "en"))
    adapters: dict[str, Any] = {"adapters": ["small/es-lora"], "base_model": str(PARAKEET), "device": "cpu"}
    mixed = adapter_hub.load("auto", **adapters).transcribe(
        [str(path) for path, _, _ in spanish + english], languages=["es"] * 6 + ["en"] * 6
    )
    right = [item.text == text for item, (_, text, _) in zip(mixed, spanish + english, strict=True)]
    assert sum(right[6:]) >= 4
    assert [item.adapter for item in mixed] == ["small/es-lora@1.0.0"] * 6 + ["base-model"] * 6
    (one,) = run(
        "transcribe", "small/es-lora", spanish[0][0], "--words", "--timestamps", "--json", *BASE
    ).json
    assert one["text"] == mixed[0].text
    assert one["words"][-1]["end"] <= one["duration"]
    assert one["segments"]
