"""A small untrained Whisper, real in every part, and adapters for it with weights that do something."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from making import manifest_fields, parent_of
from safetensors.torch import save_file

from adapter_hub.artifact.folder import Artifact, seal, write_ancestors
from adapter_hub.artifact.weights import lora_section
from adapter_hub.model.base_model import BaseModel, load_base_model

SENTENCES = ["zero one two three four", "nul en to tre fire fem", "żółć ąę", "零一二三四五", "しち"]
LANGUAGES = ["pl", "zh", "en", "da", "ja"]
SETTINGS = {
    "chunk_seconds": 4,
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "attention_heads": 2,
    "ffn_dim": 64,
    "max_target_positions": 40,
}
ALL = ["q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2"]


def make_base_model(folder: Path, seed: int = 1) -> Path:
    """Write an untrained base model whose outputs vary with the audio."""
    from adapter_hub.trainers.makers.base_model.architecture import build_model, build_processor, save

    torch.manual_seed(seed)
    processor = build_processor(SENTENCES, SETTINGS)
    model = build_model(processor, SETTINGS, LANGUAGES)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() > 1 and "embed" not in name:
                parameter.mul_(4.0)  # fresh weights of 0.02 would make every audio sound alike
    save(model, processor, str(folder))
    return folder


def write_peft(
    folder: Path,
    base: BaseModel,
    *,
    seed: int,
    rank: int = 4,
    alpha: float = 8,
    targets: Sequence[str] = ALL,
    dtype: torch.dtype = torch.float32,
    **more: Any,
) -> Path:
    """Write an adapter as PEFT itself saves it, with random weights; `more` is for LoraConfig."""
    from peft import LoraConfig, get_peft_model
    from transformers import WhisperForConditionalGeneration

    plain = WhisperForConditionalGeneration.from_pretrained(base.folder, dtype=torch.float32)
    config = LoraConfig(r=rank, lora_alpha=alpha, target_modules=list(targets), **more)
    model = get_peft_model(plain, config)
    torch.manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.normal_(std=0.3)
    model.to(dtype).save_pretrained(str(folder), save_embedding_layers=False)
    (folder / "README.md").unlink()
    config_file = folder / "adapter_config.json"  # PEFT writes where the base model lies here
    text = json.loads(config_file.read_text()) | {"base_model_name_or_path": base.pin.id}
    config_file.write_text(json.dumps(text))
    return folder


def make_adapter(
    folder: Path, base: BaseModel, *, seed: int, language: str = "da", token: str = "", **options: Any
) -> Artifact:
    """Make and seal an adapter of the small base model, decoded with the token of another language if any."""
    write_peft(folder, base, seed=seed, **options)
    return seal(
        folder,
        manifest_fields(
            f"small/{language.lower()}-{seed}",
            languages=[{"tag": language, "decode_language": token or language}],
            base_model=base.pin,
        ),
    )


def make_pair(
    folder: Path,
    base: BaseModel,
    parent: Artifact,
    *,
    kind: str,
    seed: int,
    biased: bool = False,
    **options: Any,
) -> Artifact:
    """Make and seal an expert pair of `parent` and a child with random weights."""
    experts = folder / "experts"
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        (experts / "parent").mkdir(parents=True, exist_ok=True)
        shutil.copy(parent.path / name, experts / "parent" / name)
    write_peft(experts / "child", base, seed=seed, **options)
    sections = [lora_section(experts / role, role) for role in ("child", "parent")]
    paths = sorted({module.path for section in sections for module in section.modules})
    torch.manual_seed(seed)
    gate = {}
    for path in paths:
        if kind == "token":
            gate[f"{path}.weight"] = torch.randn(2, base.linears[path].in_features)
        if kind == "static" or biased:
            gate[f"{path}.bias"] = torch.randn(2)
    save_file(gate, folder / "gate.safetensors")
    write_ancestors(folder, [parent])
    return seal(
        folder,
        manifest_fields(
            f"small/pair-{kind}-{seed}",
            created="2026-02-01T00:00:00Z",
            base_model=base.pin,
            method="expert-pair",
            lora=sections,
            gate={"kind": kind, "parameters": sum(value.numel() for value in gate.values())},
            parents=[parent_of(parent, "expert")],
        ),
    )


def speech(seconds: float, seed: int, rate: int = 16_000) -> np.ndarray:
    """Return something that sounds: tones and noise, `[seconds * rate]` float32."""
    random = np.random.default_rng(seed)
    time = np.arange(int(seconds * rate)) / rate
    tones = sum(np.sin(2 * np.pi * f * time * (1 + 0.1 * time)) for f in random.uniform(100, 3000, 5))
    return (0.1 * tones + 0.02 * random.standard_normal(len(time))).astype(np.float32)


def write_speech(path: Path, seconds: float = 1.0, seed: int = 0, rate: int = 16_000) -> Path:
    """Write `speech` to an audio file."""
    soundfile.write(path, speech(seconds, seed, rate), rate)
    return path


@pytest.fixture(scope="session")
def base_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a small base model."""
    return make_base_model(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="session")
def base(base_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> BaseModel:
    """A small base model, loaded; tests do not change it."""
    torch.set_num_threads(1)  # operations this small only wait for one another
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ADAPTER_HUB_CACHE", str(tmp_path_factory.mktemp("cache")))
        return load_base_model(base_folder, device="cpu")


@pytest.fixture(scope="session")
def adapters(base: BaseModel, tmp_path_factory: pytest.TempPathFactory) -> list[Artifact]:
    """Three adapters: ranks 4, 4 and 8, the last for some modules only and in float16."""
    folder = tmp_path_factory.mktemp("adapters")
    return [
        make_adapter(folder / "a", base, seed=1, language="da"),
        make_adapter(folder / "b", base, seed=2, language="pl"),
        make_adapter(
            folder / "c", base, seed=3, language="ja", rank=8, targets=["q_proj", "fc1"], dtype=torch.float16
        ),
    ]
