"""On a real Whisper: what decides the text is in the digests, and nothing else is.

The folder is named by ADAPTER_HUB_REAL (`make test-real REAL=FOLDER`), as transformers saves one.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from base_model_edits import GENERATION, PROCESSOR, TOKENIZER_CONFIG, Edit, edit, features, put
from making import make_places, manifest_fields
from safetensors.torch import save_file
from transformers import WhisperForConditionalGeneration, WhisperProcessor

from adapter_hub.artifact.folder import Artifact, seal
from adapter_hub.base_model.digest import base_model_digest
from adapter_hub.decoding.probe import check_probe, measure_probe
from adapter_hub.errors import IntegrityError, InvalidInputError
from adapter_hub.exchange import Places, publish
from adapter_hub.model.assembling import assemble
from adapter_hub.model.base_model import BaseModel, load_base_model
from adapter_hub.model.loading import load_adapter

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def real() -> Path:
    """The folder of a real Whisper."""
    folder = os.environ.get("ADAPTER_HUB_REAL")
    if not folder:
        pytest.skip("needs the folder of a real Whisper in ADAPTER_HUB_REAL")
    return Path(folder)


@pytest.fixture(scope="module")
def base(real: Path) -> BaseModel:
    return load_base_model(real, device="cpu")


@pytest.fixture
def copy(real: Path, tmp_path: Path) -> Path:
    """A copy whose weights are links."""
    folder = tmp_path / "copy"
    folder.mkdir()
    for path in real.iterdir():
        if path.suffix == ".safetensors":
            (folder / path.name).symlink_to(path)
        elif path.is_file():
            shutil.copy(path, folder)
    return folder


def lora(folder: Path, base: BaseModel, version: str, alpha: float) -> Artifact:
    """A random LoRA on queries and values."""
    torch.manual_seed(7)
    tensors = {}
    paths = sorted(path for path in base.linears if path.endswith(("q_proj", "v_proj")))
    for path in paths:
        linear, key = base.linears[path], f"base_model.model.{path}"
        tensors[f"{key}.lora_A.weight"] = torch.randn(8, linear.in_features) * 0.05
        tensors[f"{key}.lora_B.weight"] = torch.randn(linear.out_features, 8) * 0.05
    folder.mkdir()
    save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    config = {"peft_type": "LORA", "r": 8, "lora_alpha": alpha, "bias": "none", "target_modules": paths}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    probe = measure_probe(base, folder)
    return seal(folder, manifest_fields("real/da", version, base_model=base.pin, probe=probe))


OTHERS: dict[str, tuple[str, Edit]] = {
    "suppressed tokens": (GENERATION, lambda tree: tree["suppress_tokens"].pop()),
    "tokens suppressed first": (GENERATION, put(begin_suppress_tokens=[220])),
    "the length": (GENERATION, put(max_length=9)),
    "the token without timestamps": (GENERATION, put(no_timestamps_token_id=50000)),
    "dither": (PROCESSOR, features(dither=0.1)),
    "pieces made special": (TOKENIZER_CONFIG, put(extra_special_tokens=["i", "e", "t"])),
}


@pytest.mark.parametrize("what", OTHERS)
def test_two_real_models_that_differ_in_it_have_two_digests(what: str, base: BaseModel, copy: Path) -> None:
    assert base_model_digest(copy) == base.digest
    edit(copy, *OTHERS[what])
    assert base_model_digest(copy) != base.digest


def test_a_real_model_that_was_saved_again_is_the_same(real: Path, base: BaseModel, tmp_path: Path) -> None:
    dtype = json.loads((real / "config.json").read_bytes()).get("dtype") or "float32"
    model = WhisperForConditionalGeneration.from_pretrained(real, dtype=getattr(torch, dtype))
    model.save_pretrained(tmp_path, max_shard_size="50MB")
    WhisperProcessor.from_pretrained(real).save_pretrained(tmp_path)
    assert len(list(tmp_path.glob("*.safetensors"))) > 2
    assert base_model_digest(tmp_path) == base.digest


def test_a_real_model_is_built_as_transformers_loads_it(real: Path) -> None:
    ours, processor = assemble(real, torch.float32)
    theirs = WhisperForConditionalGeneration.from_pretrained(real, dtype=torch.float32)
    tokenizer = WhisperProcessor.from_pretrained(real).tokenizer
    assert ours.generation_config.to_dict() == theirs.generation_config.to_dict()
    assert processor.tokenizer.get_vocab() == tokenizer.get_vocab()
    for start in range(0, len(tokenizer), 4000):
        ids = list(range(start, min(start + 4000, len(tokenizer))))
        text = tokenizer.decode(ids, skip_special_tokens=True)
        assert processor.tokenizer.decode(ids, skip_special_tokens=True) == text
        assert processor.tokenizer(text)["input_ids"] == tokenizer(text)["input_ids"]
    for one, two in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(one, two)


def test_an_adapter_of_a_real_model_with_another_scaling_is_no_patch(base: BaseModel, tmp_path: Path) -> None:
    registry, store = make_places(tmp_path)
    first = lora(tmp_path / "first", base, "1.0.0", 8)
    publish(first.path, Places(registry, store))
    louder = lora(tmp_path / "louder", base, "1.0.1", 320)
    assert louder.manifest.weights_digest == first.manifest.weights_digest
    with pytest.raises(InvalidInputError, match="the scaling changed between"):
        publish(louder.path, Places(registry, store))
    probe = first.manifest.probe
    assert probe is not None
    assert probe.adapter_text.tokens
    check_probe(base, load_adapter(base, first), probe)
    with pytest.raises(IntegrityError, match="adapter says .*, expected"):
        check_probe(base, load_adapter(base, louder), probe)
