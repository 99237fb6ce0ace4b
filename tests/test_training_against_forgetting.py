"""Options against forgetting: what learns more slowly, what does not learn, and what it stays close to."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from small_training import places, recipe
from torch.nn import functional

from adapter_hub.artifact.folder import Artifact
from adapter_hub.data.dataset import read_dataset
from adapter_hub.errors import InvalidInputError
from adapter_hub.model.base_model import BaseModel, load_base_model
from adapter_hub.trainers.data.mixture import domain_weights, epoch_length
from adapter_hub.trainers.data.preparing import prepare, resampled
from adapter_hub.trainers.data.rows import RowRules
from adapter_hub.trainers.data.sources import Source
from adapter_hub.trainers.loop.distillation import distillation_loss
from adapter_hub.trainers.loop.learning_rates import layer_factor, slanted_triangle, slow_down
from adapter_hub.trainers.loop.objective import Objective
from adapter_hub.trainers.methods.freezing import PARTS, is_frozen
from adapter_hub.trainers.methods.table import make_trainable
from adapter_hub.trainers.recipe import read_recipe
from adapter_hub.trainers.training import train

WHOLE: dict[str, str | None] = {"spec_augment": None, "audio_length": '"chunk"'}
FULL = {"method": '"full-fine-tuning"', "rate": 1e-3}


def written(folder: Path, base_folder: Path, **others: Any) -> Path:
    path = recipe(folder, base_folder, **others)
    if others.get("method") == FULL["method"]:
        text = path.read_text()
        start = text.index("[lora]")
        path.write_text(text[:start] + text[text.index("[training]") :])
    return path


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(next(folder.glob("*model.safetensors")))


def test_the_highest_encoder_layer_learns_fastest_and_all_else_as_slowly_as_the_lowest() -> None:
    rates = {
        "model.encoder.layers.11.fc1.weight": 1.0,
        "model.encoder.layers.10.self_attn.q_proj.bias": 0.9,
        "base_model.model.model.encoder.layers.0.fc1.lora_A.default.weight": 0.9**11,
        "model.encoder.layer_norm.weight": 1.0,
        "model.encoder.conv1.weight": 0.9**11,
        "model.decoder.layers.11.encoder_attn.k_proj.weight": 0.9**11,
        "model.decoder.embed_tokens.weight": 0.9**11,
        "model.decoder.layer_norm.weight": 0.9**11,
    }
    for name, rate in rates.items():
        assert layer_factor(name, 0.9, 12) == pytest.approx(rate), name


def test_an_optimiser_gives_every_weight_the_rate_of_its_layer() -> None:
    model = torch.nn.ModuleDict(
        {"encoder": torch.nn.ModuleDict({"layers": torch.nn.ModuleList(torch.nn.Linear(2, 2) for _ in "ab")})}
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    slow_down(optimizer, model.named_parameters(), 0.5, 2)
    rates = {id(weight): group["lr"] for group in optimizer.param_groups for weight in group["params"]}
    for name, weight in model.named_parameters():
        assert rates[id(weight)] == pytest.approx(1e-3 if ".1." in name else 5e-4)
    assert len(rates) == 4


def test_a_slanted_triangle_follows_the_paper() -> None:
    steps, cut, ratio = 200, 0.1, 32
    for step in range(steps):
        peak = int(steps * cut)
        share = step / peak if step < peak else 1 - (step - peak) / (peak * (1 / cut - 1))
        assert slanted_triangle(step, steps, cut) == pytest.approx((1 + share * (ratio - 1)) / ratio)
    assert slanted_triangle(0, steps, cut) == slanted_triangle(steps, steps, cut) == 1 / 32
    assert slanted_triangle(0, 1, 0.0) == 1  # of a training without a warm-up


def test_lower_rates_and_another_schedule_change_what_is_trained_and_resume_where_they_stopped(
    tmp_path: Path, data: Path, base_folder: Path
) -> None:
    settings = WHOLE | {"layer_decay": "0.5", "schedule": '"slanted-triangle"'}
    found = {}
    for name, training in {"plain": WHOLE, "slow": settings}.items():
        train(written(tmp_path, base_folder, training=training, **FULL), tmp_path / name, **places(tmp_path))
        found[name] = weights(tmp_path / name)
    start = weights(base_folder)
    low = "model.encoder.layers.0.fc1.weight"
    assert (found["slow"][low] - start[low]).norm() < 0.7 * (found["plain"][low] - start[low]).norm()


@pytest.mark.parametrize("method", [FULL["method"], '"lora"'])
def test_frozen_parts_stay_as_they_were(method: str, tmp_path: Path, data: Path, base_folder: Path) -> None:
    training = WHOLE | {"freeze": '["decoder", "convolutions"]', "epochs": "1"}
    path = written(tmp_path, base_folder, training=training, method=method, dtype='"float32"')
    train(path, tmp_path / "out", **places(tmp_path))
    if method == '"lora"':
        made = Artifact.open(tmp_path / "out")
        assert {module.path.split(".")[1] for module in made.manifest.lora[0].modules} == {"encoder"}
        return
    start, after = weights(base_folder), weights(tmp_path / "out")
    for name, tensor in after.items():
        assert torch.equal(tensor, start[name]) == (
            is_frozen(name, ["decoder", "convolutions"]) or "embed_positions" in name
        ), name


def test_every_part_names_weights_of_a_whisper_and_the_encoders_attention_is_all_that_takashima_trains(
    base_folder: Path,
) -> None:
    names = list(weights(base_folder))
    for part in PARTS:
        assert any(is_frozen(name, [part]) for name in names), part
        assert not all(is_frozen(name, [part]) for name in names), part
    left = [name for name in names if not is_frozen(name, ["all-but-encoder-attention"])]
    assert all(".encoder.layers." in name and ".self_attn." in name for name in left)


@pytest.mark.parametrize("method", [FULL["method"], '"lora"'])
def test_the_teacher_is_the_base_model_and_its_distance_is_the_divergence_written_out(
    method: str, tmp_path: Path, data: Path, base_folder: Path
) -> None:
    extra = "[distillation]\nweight = 0.5\ntemperature = 2.0"
    read = read_recipe(written(tmp_path, base_folder, method=method, extra=extra)).recipe
    whisper = load_base_model(base_folder, device="cpu").model
    trainable = make_trainable(whisper, read, {})
    torch.manual_seed(1)
    for weight in trainable.model.parameters():
        if weight.requires_grad:
            weight.data += 0.05 * torch.randn_like(weight)
    positions = 2 * whisper.config.max_source_positions
    batch = {
        "input_features": torch.randn(1, whisper.config.num_mel_bins, positions),
        "decoder_input_ids": torch.tensor([[5, 6, 7]]),
        "labels": torch.tensor([[-100, 7, 8]]),
    }
    objective = Objective(trainable, 0.0)
    plain, whole = objective.eval()(**batch), objective.train()(**batch)
    fresh = load_base_model(base_folder, device="cpu").model
    inputs = {key: batch[key] for key in ("input_features", "decoder_input_ids")}
    with torch.no_grad():
        wanted = fresh(**inputs).logits[0, 1:].float() / 2
        logits = trainable.whisper(**inputs).logits[0, 1:].float() / 2
    p, q = wanted.softmax(-1), logits.softmax(-1)
    divergence = (p * (p.log() - q.log())).sum()
    assert divergence > 1e-4
    assert whole.item() - plain.item() == pytest.approx(0.5 * 4 * divergence.item(), rel=1e-3)
    assert distillation_loss(logits, logits, 3.0).item() == pytest.approx(0, abs=1e-6)
    whole.backward()  # the teacher takes no gradient, and what is trained does
    assert all(weight.grad is not None for weight in trainable.model.parameters() if weight.requires_grad)
    assert functional.cross_entropy(2 * logits, batch["labels"][0, 1:], reduction="sum") == pytest.approx(
        plain.item(), rel=1e-4
    )


def test_domains_share_an_epoch_equally_or_as_many_rows_as_they_have() -> None:
    domains = ["clean"] * 90 + ["noisy"] * 10
    for exponent, share in ((0.0, 0.5), (1.0, 0.1), (0.5, 10**0.5 / (10**0.5 + 90**0.5))):
        found = domain_weights(domains, exponent)
        assert sum(found[90:]) == pytest.approx(100 * share)
        assert epoch_length(found) == 100


def test_a_row_s_own_domain_comes_before_that_of_its_source(data: Path, base: BaseModel) -> None:
    listed = data / "train" / "metadata.jsonl"
    first, *others = listed.read_text().splitlines()
    listed.write_text("\n".join([json.dumps(json.loads(first) | {"domain": "own"}), *others]))
    source = Source(read_dataset(data / "train"), domain="common")
    split = resampled(prepare([source], base, RowRules(language="da")), 0.0)
    assert [example.domain for example in split.examples] == ["own"] + ["common"] * 11
    assert [example.weight for example in split.examples] == pytest.approx([6.0] + [6 / 11] * 11)


def test_a_recipe_resamples_the_domains_of_its_sources(tmp_path: Path, data: Path, base_folder: Path) -> None:
    path = written(tmp_path, base_folder)
    source = '[[data.train]]\nfolder = "data/{}"\ndomain = "{}"\n'
    sources = source.format("train", "a") + source.format("dev", "b")
    text = path.read_text().replace('train = "data/train"\n', "sampling_exponent = 0.0\n")
    path.write_text(text.replace("[lora]", sources + "[lora]"))
    made = train(path, tmp_path / "out", **places(tmp_path))
    assert isinstance(made, Artifact)
    assert read_recipe(path).recipe.data.sampling_exponent == 0
    path.write_text(path.read_text().replace('domain = "b"', "weight = 2.0"))
    with pytest.raises(InvalidInputError, match=r"train\[2\]\.weight: sampling_exponent decides it"):
        read_recipe(path)


@pytest.mark.parametrize(
    ("training", "extra", "message"),
    [
        ({"layer_decay": "0.0"}, "", r"training\.layer_decay"),
        ({"layer_decay": "1.1"}, "", r"training\.layer_decay"),
        ({"schedule": '"triangle"'}, "", r"training\.schedule"),
        ({"freeze": '["decoders"]'}, "", r"training\.freeze"),
        ({}, "[distillation]\nweight = 0", r"distillation\.weight"),
        ({}, "[distillation]\ntemperature = -1", r"distillation\.temperature"),
        ({}, "[distillation]\nlambda = 1", r"unknown key 'distillation\.lambda'"),
    ],
)
def test_impossible_values_are_refused_by_name(
    training: dict[str, str | None], extra: str, message: str, tmp_path: Path, base_folder: Path
) -> None:
    with pytest.raises(InvalidInputError, match=message):
        read_recipe(recipe(tmp_path, base_folder, training=training, extra=extra))


def test_a_recipe_that_freezes_everything_is_refused(tmp_path: Path, data: Path, base_folder: Path) -> None:
    training: dict[str, str | None] = {"freeze": '["encoder", "decoder"]'}
    path = written(tmp_path, base_folder, training=training, **FULL)
    with pytest.raises(InvalidInputError, match=r"training\.freeze .* leaves nothing to train"):
        train(path, tmp_path / "out", **places(tmp_path))
    path = written(tmp_path, base_folder, training=training)
    with pytest.raises(InvalidInputError, match=r"training\.freeze"):
        train(path, tmp_path / "out", **places(tmp_path))
