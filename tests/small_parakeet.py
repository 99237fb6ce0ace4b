"""A small Parakeet CTC with random weights, saved as transformers saves one."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import ParakeetForCTC

from adapter_hub.trainers.makers.parakeet.architecture import build_model, build_processor, save

# what a LoRA adapts in a Parakeet: attention, feed-forward, pointwise convolutions
TARGETS = [
    *("q_proj", "k_proj", "v_proj", "o_proj", "relative_k_proj"),
    *("linear1", "linear2", "pointwise_conv1", "pointwise_conv2"),
]
SIZES = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "subsampling_conv_channels": 8,
    "num_mel_bins": 16,
}


def skip_without_features() -> None:
    """Skip what computes features, with a transformers that needs librosa for them."""
    try:
        build_processor(SIZES["num_mel_bins"])
    except ImportError:
        pytest.skip(
            "this version of transformers has no features of a Parakeet without librosa",
            allow_module_level=True,
        )


def save_small_parakeet(folder: Path, *, seed: int = 0) -> Path:
    """Save a random Parakeet whose batch norms have running statistics as a trained one's."""
    skip_without_features()
    torch.manual_seed(seed)
    model = build_model(SIZES)
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if name.endswith("running_mean"):
                tensor.normal_(std=0.1)
            elif name.endswith("running_var"):
                tensor.uniform_(0.5, 1.5)
            elif name.endswith("num_batches_tracked"):
                tensor.fill_(10 + seed)
            elif tensor.ndim > 1:
                tensor.normal_(std=0.15)
    return save(model, folder)


def save_lora(
    parakeet: Path, folder: Path, *, seed: int, rank: int = 4, targets: list[str] = TARGETS
) -> Path:
    """Save a LoRA of random weights with PEFT, as a training would."""
    torch.manual_seed(seed)
    config = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=targets, init_lora_weights=False)
    model = get_peft_model(ParakeetForCTC.from_pretrained(parakeet), config)
    with torch.no_grad():
        for name, tensor in model.named_parameters():
            if "lora_" in name:
                tensor.normal_(std=0.15)
    model.save_pretrained(folder)
    return folder
