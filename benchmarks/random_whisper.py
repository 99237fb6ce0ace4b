"""Whisper's published shapes with random weights, adapters for them, and both in transformers and PEFT."""

from __future__ import annotations

import copy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from transformers import GenerationConfig, WhisperConfig, WhisperForConditionalGeneration

from adapter_hub.model.base_model import BaseModel
from adapter_hub.model.layout import EXPERTS, AdapterLayout, ModuleLayout, padded_rank
from adapter_hub.model.loading import ResidentAdapter

SHAPES = {
    "mini": {"d_model": 64, "layers": 2, "heads": 2},  # to try a benchmark itself
    "tiny": {"d_model": 384, "layers": 4, "heads": 6},
    "small": {"d_model": 768, "layers": 12, "heads": 12},
    "large-v3-turbo": {"d_model": 1280, "layers": 32, "decoder_layers": 4, "heads": 20, "mels": 128},
}
LINEARS = ("q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2")
END, START, LANGUAGE, TASK, NO_TIMESTAMPS, VOCABULARY = 50257, 50258, 50259, 50359, 50363, 51865
LANGUAGES = ("en", "zh", "de", "es", "ru", "ko", "fr", "ja")  # the first of Whisper's, in its order


def random_base(shape: str) -> BaseModel:
    """Return a Whisper of a published shape with random weights; texts never end by themselves."""
    size = SHAPES[shape]
    config = WhisperConfig(
        vocab_size=VOCABULARY,
        num_mel_bins=size.get("mels", 80),
        d_model=size["d_model"],
        encoder_layers=size["layers"],
        decoder_layers=size.get("decoder_layers", size["layers"]),
        encoder_attention_heads=size["heads"],
        decoder_attention_heads=size["heads"],
        encoder_ffn_dim=4 * size["d_model"],
        decoder_ffn_dim=4 * size["d_model"],
        pad_token_id=END,
        bos_token_id=END,
        eos_token_id=END,
        decoder_start_token_id=START,
    )
    torch.manual_seed(1)
    model = WhisperForConditionalGeneration(config).eval().requires_grad_(requires_grad=False)
    for name, parameter in model.named_parameters():
        if parameter.dim() > 1 and "embed" not in name:
            parameter.mul_(2.5)  # fresh weights of 0.02 would make every audio sound alike
        elif "decoder.embed_positions" in name:
            parameter.normal_(std=0.1)
    model.generation_config = GenerationConfig(
        eos_token_id=END,
        pad_token_id=END,
        bos_token_id=END,
        decoder_start_token_id=START,
        is_multilingual=True,
        lang_to_id={f"<|{code}|>": LANGUAGE + place for place, code in enumerate(LANGUAGES)},
        task_to_id={"transcribe": TASK},
        no_timestamps_token_id=NO_TIMESTAMPS,
        max_length=448,
        suppress_tokens=[END, *range(START, VOCABULARY)],
    )
    return BaseModel(model, SimpleNamespace(), Path(), f"random whisper-{shape}", None, "")


def random_adapter(base: BaseModel, seed: int, rank: int = 32, *, gated: bool = False) -> ResidentAdapter:
    """Return an adapter of every linear of every layer; with `gated` a token-gated pair of such."""
    parts, size = [], 0
    half = padded_rank(rank)
    for path, linear in base.linears.items():
        if path == "proj_out":
            continue
        width, rows = (EXPERTS * half, EXPERTS * half + EXPERTS) if gated else (rank, rank)
        a, b = size, size + rows * linear.in_features
        bias = b + width * linear.out_features
        parts.append(
            ModuleLayout(path, width, linear.in_features, linear.out_features, a, b, bias if gated else None)
        )
        size = bias + EXPERTS * gated
    generator = torch.Generator().manual_seed(seed)
    buffer = (torch.randn(size, generator=generator) * 0.02).to(base.device, base.dtype)
    return ResidentAdapter(f"random/{seed}", AdapterLayout(tuple(parts), size), buffer)


def merged(base: BaseModel, adapter: ResidentAdapter) -> Any:
    """Return transformers' model with the adapter's update in its weights."""
    model = copy.deepcopy(base.model)
    with torch.no_grad():
        for path, part in adapter.layout.items():
            update = part.lora_b(adapter.buffer) @ part.lora_a(adapter.buffer)
            model.get_submodule(path).weight += update
    return model


def peft_model(base: BaseModel, adapters: list[ResidentAdapter]) -> Any:
    """Return PEFT's model with these adapters, named a0, a1, …"""
    from peft import LoraConfig, get_peft_model  # noqa: PLC0415

    rank = next(iter(adapters[0].layout.values())).rank
    config = LoraConfig(r=rank, lora_alpha=rank, target_modules=list(LINEARS))
    model = get_peft_model(copy.deepcopy(base.model), config, adapter_name="a0")
    for number in range(1, len(adapters)):
        model.add_adapter(f"a{number}", config)
    with torch.no_grad():
        for number, adapter in enumerate(adapters):
            for path, part in adapter.layout.items():
                layer = model.base_model.model.get_submodule(path)
                layer.lora_A[f"a{number}"].weight.copy_(part.lora_a(adapter.buffer))
                layer.lora_B[f"a{number}"].weight.copy_(part.lora_b(adapter.buffer))
    return model.eval()
