"""The maker of the base model: what its examples sound like and say, and that its loop trains."""

from __future__ import annotations

import copy
import dataclasses
import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch
from small_whisper import SETTINGS as ARCHITECTURE
from transformers import WhisperFeatureExtractor

from adapter_hub.speech.audio import read_audio
from adapter_hub.speech.features import log_mel
from adapter_hub.trainers.makers.base_model.__main__ import SETTINGS
from adapter_hub.trainers.makers.base_model.architecture import build_model, build_processor
from adapter_hub.trainers.makers.base_model.examples import Example, ExamplePlan, build, plan_examples
from adapter_hub.trainers.makers.base_model.pretrain import Labeller, batches, pretrain, schedule
from adapter_hub.trainers.makers.corpus.plan import plan
from adapter_hub.trainers.makers.corpus.render import write_folder

SPECS = plan("da", "pretraining", 6, 1)
CHUNK = 8


@pytest.fixture(scope="module")
def examples() -> list[Example]:
    """Six single clips and a joined one."""
    plans = [ExamplePlan((spec,), (0.0,)) for spec in SPECS] + [ExamplePlan(tuple(SPECS[:2]), (0.1, 0.5))]
    return [example for item in plans if (example := build(item, CHUNK, 0.0)) is not None]


@pytest.fixture(scope="module")
def label() -> Labeller:
    """A labeller with a tokenizer of the corpus's Danish letters."""
    processor = build_processor([spec.text for spec in SPECS], {**ARCHITECTURE, "chunk_seconds": CHUNK})
    return Labeller(processor.tokenizer)


def test_an_example_sounds_as_the_same_clip_does_when_read_from_its_file(
    examples: list[Example], tmp_path: Path
) -> None:
    write_folder(SPECS[:1], tmp_path, progress=lambda *_: None)
    (path,) = (tmp_path / "audio").iterdir()
    features = log_mel(WhisperFeatureExtractor(chunk_length=CHUNK), [read_audio(path)])[0]
    frames = examples[0].features.shape[1]
    np.testing.assert_allclose(examples[0].features, features[:, :frames], atol=5e-3)
    assert examples[0].floor == pytest.approx(features.min(), abs=5e-3)


def test_a_transcript_is_labelled_with_and_without_timestamps(
    examples: list[Example], label: Labeller
) -> None:
    def tokens(ids: list[int]) -> list[str]:
        return list(label.tokenizer.convert_ids_to_tokens(ids))

    plain = tokens(label(examples[0], timestamps=False))
    assert plain[:4] == ["<|startoftranscript|>", "<|da|>", "<|transcribe|>", "<|notimestamps|>"]
    assert plain[-1] == "<|endoftext|>"
    text = label.tokenizer.decode(label(examples[0], timestamps=False), skip_special_tokens=True)
    assert text == f" {SPECS[0].text}"
    stamped = tokens(label(examples[-1], timestamps=True))
    stamps = [float(token[2:-2]) for token in stamped if token[2:3].isdigit()]
    assert len(stamps) == 4
    assert stamps == sorted(stamps)
    assert "<|notimestamps|>" not in stamped


def test_a_clip_that_the_window_cuts_ends_with_the_time_that_it_starts(
    examples: list[Example], label: Labeller
) -> None:
    first, second = examples[-1].segments
    cut = dataclasses.replace(examples[-1], segments=(first, dataclasses.replace(second, end=None)))
    ids = label(cut, timestamps=True)
    assert ids[-2] == label.stamp(second.start)
    assert ids[-1] == label.texts  # end of text, the first id after the letters


def test_silence_is_answered_with_no_speech(label: Labeller) -> None:
    example = build(ExamplePlan(SPECS[:1], (0.0,), silent=True), CHUNK, 0.0)
    assert example is not None
    assert label.tokenizer.convert_ids_to_tokens(label(example, timestamps=False)[1]) == "<|nospeech|>"


def test_the_first_epoch_goes_from_the_shortest_to_the_longest(examples: list[Example]) -> None:
    import random

    order = batches(examples, 2, random.Random(1), ascending=True)
    lengths = [np.mean([examples[i].features.shape[1] for i in group]) for group in reversed(order)]
    assert lengths == sorted(lengths)


def test_the_plan_of_the_real_settings_covers_every_language() -> None:
    data = copy.deepcopy(tomllib.loads(SETTINGS.read_text())["data"])
    data["utterances"] = dict.fromkeys(data["utterances"], 20)
    plans = plan_examples(data, 1)
    assert {item.specs[0].language for item in plans} == set(data["utterances"])
    assert any(len(item.specs) > 1 for item in plans)


def test_a_few_steps_change_every_weight_and_leave_numbers(
    examples: list[Example], label: Labeller, tmp_path: Path
) -> None:
    settings = tomllib.loads(SETTINGS.read_text())["training"] | {"steps": 3, "batch_size": 4}
    processor = build_processor([spec.text for spec in SPECS], {**ARCHITECTURE, "chunk_seconds": CHUNK})
    shape = {**ARCHITECTURE, "chunk_seconds": CHUNK, "max_target_positions": 200}
    torch.manual_seed(0)
    model = build_model(processor, shape, ["da", "pl"])
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    pretrain(model, processor.tokenizer, examples, settings, 0.5, tmp_path / "checkpoint", lambda _: None)
    for name, parameter in model.named_parameters():
        assert torch.isfinite(parameter).all(), name
        if parameter.requires_grad:
            assert not torch.equal(parameter, before[name]), name


def test_the_learning_rate_rises_and_falls() -> None:
    rates = [schedule(step, 100, 10) for step in range(100)]
    assert max(rates) == rates[9] or max(rates) == rates[10]
    assert rates[0] < rates[5] < rates[9]
    assert 0 < rates[-1] < 0.05
