"""Training a small Parakeet CTC: LoRAs on a base model that stays as it is, and whole models."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from command_line import Run
from safetensors.torch import load_file
from small_parakeet import TARGETS, save_small_parakeet
from small_training import places
from test_training import CHILD
from transformers import ParakeetForCTC

from adapter_hub.artifact.folder import Artifact
from adapter_hub.data.dataset import read_dataset
from adapter_hub.errors import InvalidInputError
from adapter_hub.formats.full_fine_tune import FullFineTune
from adapter_hub.model.base_model import BaseModel, load_base_model
from adapter_hub.speech.audio import SAMPLE_RATE, Audio
from adapter_hub.speech.features import normalised_log_mel
from adapter_hub.trainers.data.examples import IGNORED, Example
from adapter_hub.trainers.data.preparing import prepare
from adapter_hub.trainers.data.rows import CtcRowProcessor, RowRules, row_processor
from adapter_hub.trainers.data.sources import Source
from adapter_hub.trainers.loop.batches import BatchRow
from adapter_hub.trainers.loop.ctc import CtcCollator, CtcObjective
from adapter_hub.trainers.loop.learning_rates import layer_factor
from adapter_hub.trainers.methods.freezing import is_frozen
from adapter_hub.trainers.methods.table import make_trainable
from adapter_hub.trainers.recipe import read_recipe
from adapter_hub.trainers.recipe_tables import PARAKEET_MODULES
from adapter_hub.trainers.training import train

TEXTS = ["ab ca", "cab", "bad", "dab ab"]
STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


def spelled(text: str, seed: int) -> np.ndarray:
    """Return a tone for each letter, a fifth of a second long, and noise for a space."""
    time, noise = np.arange(SAMPLE_RATE // 5) / SAMPLE_RATE, np.random.default_rng(seed)
    tones = [np.sin(2 * np.pi * (200 + 110 * (ord(letter) - 96)) * time) * (letter != " ") for letter in text]
    wave = np.concatenate([0.2 * tone * np.hanning(len(tone)) for tone in tones])
    return (wave + 0.002 * noise.standard_normal(len(wave))).astype(np.float32)


@pytest.fixture
def parakeet(tmp_path: Path) -> Path:
    """The folder of a random Parakeet, with a data set of four clips beside it."""
    folder = tmp_path / "data"
    folder.mkdir()
    rows = []
    for number, text in enumerate(TEXTS):
        soundfile.write(folder / f"{number}.wav", spelled(text, number), SAMPLE_RATE)
        rows.append({"file_name": f"{number}.wav", "text": text})
    (folder / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return save_small_parakeet(tmp_path / "parakeet")


def recipe(
    parakeet: Path, method: str, *, training: str = "", adapter: str = "", tables: str = "", visits: int = 1
) -> Path:
    """Write a recipe in whose epochs every clip is visited so many times, a step each time."""
    path = parakeet.with_name("recipe.toml")
    path.write_text(
        f"""
[adapter]
name = "small/en"
version = "1.0.0"
method = "{method}"
language = "en"
license = "MIT"
{adapter}
[base_model]
id = "{parakeet}"
{tables}
[data]
dev = "data"
[[data.train]]
folder = "data"
weight = {visits}
[training]
batch_size = 4
{training}
"""
    )
    return path


def losses(artifact: Artifact | FullFineTune) -> list[float]:
    record = artifact.manifest.training if isinstance(artifact, Artifact) else artifact.training
    assert record is not None
    return [point.dev_loss for point in record.curve or () if point.dev_loss is not None]


def test_a_full_fine_tune_learns_its_clips_and_moves_the_running_statistics(
    run: Run, parakeet: Path, tmp_path: Path
) -> None:
    path = recipe(parakeet, "full-fine-tuning", training="epochs = 6\npeak_learning_rate = 5e-3", visits=40)
    record = train(path, tmp_path / "full", **places(tmp_path))
    assert isinstance(record, FullFineTune)
    before, after = (load_file(folder / "model.safetensors") for folder in (parakeet, tmp_path / "full"))
    norms = [name for name in before if name.endswith(STATISTICS)]
    assert len(norms) == 6
    assert not any(torch.equal(before[name], after[name]) for name in norms)
    assert load_base_model(tmp_path / "full").digest == record.digest
    ParakeetForCTC.from_pretrained(tmp_path / "full")
    words = [
        "evaluate",
        "base-model",
        "--base-model",
        tmp_path / "full",
        "--data",
        "data",
        "--language",
        "en",
    ]
    report = run(*words, "--json").json
    assert [row["hypothesis"] for row in report["rows"]] == TEXTS
    words = [
        "--with-base-model",
        "1",
        "--base-model",
        parakeet,
        "--out",
        "mean",
        "--as",
        "small/mean@1.0.0",
    ]
    assert run("average", tmp_path / "full", *words).code == 0
    mean = load_file("mean/model.safetensors")
    for name in norms:
        if name.endswith("running_mean"):
            assert torch.allclose(mean[name], (before[name] + after[name]) / 2, atol=1e-6)


def test_a_lora_learns_on_a_base_model_that_stays_bit_identical(
    run: Run, parakeet: Path, tmp_path: Path
) -> None:
    how = {"training": "epochs = 4\npeak_learning_rate = 1e-2", "tables": "[lora]\nrank = 8"}
    path = recipe(parakeet, "lora", **how, visits=20)
    made = train(path, tmp_path / "lora", **places(tmp_path))
    assert isinstance(made, Artifact)
    assert losses(made)[-1] < 0.5 * losses(made)[0]
    tensors = load_file(made.path / "adapter_model.safetensors")
    assert all(".lora_" in name for name in tensors)
    assert {name.split(".")[-3] for name in tensors} == set(PARAKEET_MODULES) == set(TARGETS)
    assert made.manifest.base_model.architecture == "ParakeetForCTC"
    assert made.manifest.probe is not None
    assert (made.manifest.languages[0].tag, made.manifest.languages[0].decode_language) == ("en", "en")
    assert run("publish", made.path).code == 0
    base = ["--base-model", parakeet]
    assert run("audit", "small/en", "--probe", *base).code == 0


def test_batch_norms_of_a_lora_are_frozen_and_those_of_a_whole_model_are_not(
    parakeet: Path, tmp_path: Path
) -> None:
    for method, moved in (("lora", False), ("full-fine-tuning", True)):
        file = read_recipe(recipe(parakeet, method))
        base = load_base_model(parakeet, device="cpu")
        whole = {name: value.clone() for name, value in base.model.state_dict().items()}
        objective = CtcObjective(make_trainable(base.model, file.recipe, {})).train()
        batch = batch_of(load_base_model(parakeet, device="cpu"), parakeet)
        objective(**batch).backward()
        state = {name.replace(".base_layer.", "."): value for name, value in base.model.state_dict().items()}
        changed = {name for name, value in whole.items() if not torch.equal(state[name], value)}
        assert bool(changed) == moved
        assert all(name.endswith(STATISTICS) for name in changed)


def batch_of(base: BaseModel, parakeet: Path, *, masked: bool = False) -> dict[str, torch.Tensor]:
    data = read_dataset(parakeet.with_name("data"))
    examples = prepare([Source(data)], base, RowRules(language="en")).examples
    frames = max(example.features.shape[1] for example in examples) + 3
    rows = [(BatchRow(number, frames, (1, 0, number)), example) for number, example in enumerate(examples)]
    return CtcCollator(masked=masked)(rows)


def test_the_loss_is_that_of_transformers_and_padding_adds_nothing(parakeet: Path) -> None:
    base = load_base_model(parakeet, device="cpu")
    batch = batch_of(base, parakeet)
    model = ParakeetForCTC.from_pretrained(parakeet).eval()
    model.config.ctc_loss_reduction = "sum"
    labels = batch["labels"].masked_fill(batch["labels"] == IGNORED, base.processor.tokenizer.pad_token_id)
    theirs = model(
        input_features=batch["input_features"], attention_mask=batch["attention_mask"], labels=labels
    )
    objective = CtcObjective(trainable_of(parakeet)).eval()
    torch.testing.assert_close(objective(**batch), theirs.loss, atol=1e-3, rtol=1e-5)
    alone = [objective(**{name: value[row : row + 1] for name, value in batch.items()}) for row in range(4)]
    torch.testing.assert_close(torch.stack(alone).sum(), objective(**batch), atol=1e-3, rtol=1e-5)
    unlabelled = batch | {"labels": batch["labels"].index_fill(0, torch.tensor([1, 2]), IGNORED)}
    torch.testing.assert_close(objective(**unlabelled), alone[0] + alone[3], atol=1e-3, rtol=1e-5)
    nothing = objective(**batch | {"labels": torch.full_like(batch["labels"], IGNORED)})
    assert nothing.item() == 0.0
    nothing.backward()


def trainable_of(parakeet: Path, method: str = "full-fine-tuning", tables: str = "") -> Any:
    file = read_recipe(recipe(parakeet, method, tables=tables))
    return make_trainable(load_base_model(parakeet, device="cpu").model, file.recipe, {})


def test_distillation_adds_nothing_as_long_as_the_model_is_the_base_model(parakeet: Path) -> None:
    batch = batch_of(load_base_model(parakeet, device="cpu"), parakeet)
    trainable = trainable_of(parakeet, "lora", "[distillation]\nweight = 2.0")
    for module in trainable.model.modules():  # the student's predictions would be others
        for name in ("dropout", "dropout_positions", "layerdrop", "attention_dropout", "activation_dropout"):
            if isinstance(getattr(module, name, None), float):
                setattr(module, name, 0.0)
    objective = CtcObjective(trainable).train()
    torch.testing.assert_close(objective(**batch), objective.eval()(**batch), atol=1e-3, rtol=1e-5)
    with torch.no_grad():
        for name, weight in trainable.model.named_parameters():
            if "lora_B" in name:
                weight.normal_(std=0.3)
    assert objective.train()(**batch) > objective.eval()(**batch)


def ends_as(whole: object, path: Path, folder: Path) -> None:
    said: list[str] = []
    resumed = train(path, folder / "out", tell=said.append, **places(folder))
    assert any("resuming from checkpoint" in line for line in said)
    assert isinstance(whole, FullFineTune)
    assert isinstance(resumed, FullFineTune)
    assert resumed.digest == whole.digest


def test_a_training_that_died_ends_with_the_weights_and_statistics_of_one_that_did_not(
    parakeet: Path, tmp_path: Path
) -> None:
    path = recipe(parakeet, "full-fine-tuning", training="epochs = 6\nspec_augment = true")
    whole = train(path, tmp_path / "whole", **places(tmp_path))

    def die(line: str) -> None:
        if line.startswith("step 4/"):
            raise RuntimeError("the lights went out")

    with pytest.raises(RuntimeError, match="the lights went out"):
        train(path, tmp_path / "out", tell=die, **places(tmp_path))
    ends_as(whole, path, tmp_path)


@pytest.mark.slow
def test_a_training_that_was_killed_ends_like_that_too(parakeet: Path, tmp_path: Path) -> None:
    path = recipe(parakeet, "full-fine-tuning", training="epochs = 12\nspec_augment = true")
    whole = train(path, tmp_path / "whole", **places(tmp_path))
    command = [sys.executable, "-c", CHILD, str(tmp_path), str(path), "out"]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert child.stdout is not None
    for line in child.stdout:
        if "dev loss" in line and int(line.removeprefix("step ").split("/")[0]) >= 4:
            child.send_signal(signal.SIGKILL)
            break
    assert child.communicate(timeout=120)[1] == ""
    assert child.returncode == -signal.SIGKILL
    ends_as(whole, path, tmp_path)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"adapter": 'task = "translate"'}, "translate: a Parakeet CTC has no translation"),
        ({"adapter": 'decode_language = "da"'}, "decode_language: a Parakeet CTC has no language tokens"),
        ({"training": "label_smoothing = 0.1"}, "label_smoothing: a Parakeet CTC has no label smoothing"),
        (
            {"method": "warm-start", "tables": '[seed]\nadapter = "nearest"'},
            "nearest: a Parakeet CTC has no language identification",
        ),
        (
            {"method": "expert-pair", "tables": '[expert]\nadapter = "nearest"'},
            "nearest, expert-pair: a Parakeet CTC has no language identification, expert pairs",
        ),
    ],
)
def test_what_it_cannot_be_trained_for_is_refused(
    parakeet: Path, tmp_path: Path, how: dict[str, str], message: str
) -> None:
    path = recipe(parakeet, **({"method": "lora"} | how))
    with pytest.raises(InvalidInputError, match=message):
        train(path, tmp_path / "out", **places(tmp_path))
    assert not (tmp_path / "out").exists()


def test_texts_that_it_cannot_write_or_align_are_dropped_with_the_reason(parakeet: Path) -> None:
    folder = parakeet.with_name("data")
    rows = [
        {"file_name": "0.wav", "text": "Ab Ca"},
        {"file_name": "1.wav", "text": "a text of far more letters than the clip has frames"},
        {"file_name": "2.wav", "text": "bad"},
    ]
    (folder / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    prepared = prepare(
        [Source(read_dataset(folder))], load_base_model(parakeet, device="cpu"), RowRules(language="en")
    )
    assert [example.id for example in prepared.examples] == ["2.wav"]
    reasons = {row.id: row.reason for row in prepared.dropped}
    assert "text with 'A', 'C'" in reasons["0.wav"]
    assert "frames of audio; is it the right text?" in reasons["1.wav"]


def test_the_frames_that_a_text_has_are_those_that_the_encoder_makes(parakeet: Path) -> None:
    base = load_base_model(parakeet, device="cpu")
    rules, extractor = row_processor(base, RowRules(language="en")), base.processor.feature_extractor
    assert isinstance(rules, CtcRowProcessor)
    for samples in (1, 1599, 12_800, 12_801, 12_959, 12_960, 14_100, 15_999):
        features, mask = normalised_log_mel(
            extractor, [Audio(np.zeros(samples, np.float32), SAMPLE_RATE, "")]
        )
        encoded = base.model.encoder(torch.from_numpy(features), torch.from_numpy(mask))
        assert rules.frames(samples / SAMPLE_RATE) == int(encoded.attention_mask.sum()), samples


def test_its_features_end_with_the_clip_and_its_labels_have_no_prompt(parakeet: Path) -> None:
    base = load_base_model(parakeet, device="cpu")
    data = read_dataset(parakeet.with_name("data"))
    examples: tuple[Example, ...] = prepare([Source(data)], base, RowRules(language="en")).examples
    assert [base.text_of(example.tokens).strip() for example in examples] == TEXTS
    assert all(example.prompt == 0 for example in examples)
    assert [example.features.shape for example in examples] == [
        (16, round(100 * example.seconds)) for example in examples
    ]


def test_layers_and_parts_have_its_own_names(parakeet: Path) -> None:
    names = [name for name, _ in ParakeetForCTC.from_pretrained(parakeet).named_parameters()]
    assert {layer_factor(name, 0.5, 2) for name in names if "layers.1" in name} == {1.0}
    assert {layer_factor(name, 0.5, 2) for name in names if "layers.1" not in name} == {0.5}
    parts = {
        "decoder": {"ctc_head.weight", "ctc_head.bias"},
        "feed-forward": {name for name in names if ".feed_forward" in name},
        "self-attention": {name for name in names if ".self_attn." in name},
        "layer-norms": {name for name in names if ".norm_" in name or ".conv.norm." in name},
        "convolutions": {name for name in names if "subsampling" in name or "wise_conv" in name},
    }
    for part, expected in parts.items():
        assert {name for name in names if is_frozen(name, [part])} == expected, part
        assert expected
