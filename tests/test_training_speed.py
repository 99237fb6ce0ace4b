"""The fast ways of training give what the plain ways give."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import WhisperForConditionalGeneration

from adapter_hub.trainers.data.examples import IGNORED
from adapter_hub.trainers.loop.objective import Objective, text_tokens
from adapter_hub.trainers.methods.low_rank import cast_frozen_linears, use_fast_lora
from adapter_hub.trainers.methods.trainable import TrainableModel, trainable_lora

ALL = ["q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2"]


def _trainable(base_folder: Path, **settings: Any) -> TrainableModel:
    torch.manual_seed(1)
    whisper = WhisperForConditionalGeneration.from_pretrained(base_folder, dtype=torch.float32)
    model = get_peft_model(whisper, LoraConfig(r=4, lora_alpha=8, target_modules=ALL, **settings))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.05)
    return trainable_lora(model.train())


def _batch(frames: int = 200) -> dict[str, torch.Tensor]:
    rng = np.random.default_rng(3)
    labels = torch.from_numpy(rng.integers(0, 300, (3, 9)))
    labels[:, :2] = IGNORED
    labels[1, 5:] = IGNORED
    return {
        "input_features": torch.from_numpy(rng.standard_normal((3, 80, frames)).astype(np.float32)),
        "decoder_input_ids": torch.from_numpy(rng.integers(0, 300, (3, 9))),
        "labels": labels,
    }


def _gradients(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def test_hastened_layers_give_the_same_loss_and_the_same_gradients_as_pefts_own(base_folder: Path) -> None:
    plain, fast = _trainable(base_folder), _trainable(base_folder)
    assert use_fast_lora(fast.model) == sum(hasattr(m, "lora_A") for m in fast.model.modules())
    batch = _batch()
    losses = []
    for trainable in (plain, fast):
        loss = Objective(trainable, 0.0)(**batch)
        loss.backward()
        losses.append(loss.detach())
    torch.testing.assert_close(losses[0], losses[1], rtol=1e-5, atol=1e-5)
    wanted, found = _gradients(plain.model), _gradients(fast.model)
    assert set(wanted) == set(found)
    assert all("lora_" in name for name in wanted)
    for name, gradient in wanted.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-4, atol=1e-5, msg=name)


@pytest.mark.parametrize("settings", [{"lora_dropout": 0.5}, {"use_dora": True}])
def test_layers_that_are_more_than_a_plain_lora_keep_pefts_way(
    base_folder: Path, settings: dict[str, Any]
) -> None:
    assert use_fast_lora(_trainable(base_folder, **settings).model) == 0


def test_a_hastened_layer_still_obeys_peft(base_folder: Path) -> None:
    trainable = _trainable(base_folder)
    batch = _batch()
    plain = Objective(trainable, 0.0).eval()
    with trainable.model.disable_adapter():
        without = plain(**batch)
    use_fast_lora(trainable.model)
    with trainable.model.disable_adapter():
        assert torch.equal(plain(**batch), without)
    assert not torch.equal(plain(**batch), without)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_objective_is_the_cross_entropy_of_transformers_own_forward(
    base_folder: Path, smoothing: float
) -> None:
    trainable = _trainable(base_folder)
    chunk = trainable.whisper.config.max_source_positions * 2
    batch = _batch(chunk)
    logits = trainable.whisper(
        input_features=batch["input_features"], decoder_input_ids=batch["decoder_input_ids"]
    ).logits
    wanted = torch.nn.functional.cross_entropy(
        logits.flatten(0, 1), batch["labels"].flatten(), label_smoothing=smoothing, reduction="sum"
    )
    assert text_tokens(batch["labels"]) == 3 * 7 - 4
    torch.testing.assert_close(Objective(trainable, smoothing)(**batch), wanted)


def test_under_autocast_hastened_layers_and_frozen_linears_kept_in_its_type_change_next_to_nothing(
    base_folder: Path,
) -> None:
    plain, fast, kept = (_trainable(base_folder) for _ in range(3))
    use_fast_lora(fast.model)
    use_fast_lora(kept.model)
    layers = sum(hasattr(module, "lora_A") for module in kept.model.modules())
    assert cast_frozen_linears(kept.whisper, torch.bfloat16) == layers
    assert kept.whisper.proj_out.weight.dtype == torch.float32
    losses = []
    for trainable in (plain, fast, kept):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = Objective(trainable, 0.0)(**_batch())
        loss.backward()
        losses.append(loss.detach())
    torch.testing.assert_close(losses[0], losses[1], rtol=0.01, atol=0.01)
    assert torch.equal(losses[1], losses[2])
    exact = _trainable(base_folder)
    Objective(exact, 0.0)(**_batch()).backward()
    right, theirs, found, same = (_gradients(item.model) for item in (exact, plain, fast, kept))
    for name, gradient in right.items():  # processors round bfloat16 in their own ways: none is the right one
        usual, ours = (float((item[name] - gradient).norm() / gradient.norm()) for item in (theirs, found))
        assert ours <= 2 * usual + 0.02, name
        assert torch.equal(found[name], same[name])
