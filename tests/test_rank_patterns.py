"""Ranks by pattern: PEFT's meaning, in training, in the files, in use and for every method."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from small_training import places, recipe
from small_whisper import make_adapter
from test_composition import features_of, logits_of
from transformers import WhisperForConditionalGeneration

from adapter_hub.artifact.folder import Artifact
from adapter_hub.errors import InvalidInputError
from adapter_hub.formats.manifest import LoraSection
from adapter_hub.model.base_model import BaseModel
from adapter_hub.model.loading import load_adapter
from adapter_hub.model.session import Session
from adapter_hub.trainers.training import train

PATTERN = '{ fc1 = 2, "decoder.layers.[0-9].fc2" = 6 }'


def patterned(folder: Path, base_folder: Path, pattern: str = PATTERN, **changes: Any) -> Path:
    path = recipe(folder, base_folder, **({"dtype": '"float32"'} | changes))
    path.write_text(path.read_text().replace("[lora]", f"[lora]\nrank_pattern = {pattern}"))
    return path


def ranks(section: LoraSection) -> dict[str, tuple[int, float]]:
    """Return rank and scaling of the linears of the first layers."""
    return {m.path: (m.rank, m.scaling) for m in section.modules if ".layers.0." in m.path}


def check_ranks(section: LoraSection) -> None:
    found = ranks(section)
    assert found["model.encoder.layers.0.fc1"] == (2, 4.0)  # alpha 8 whatever the rank, as in PEFT
    assert found["model.decoder.layers.0.fc2"] == (6, pytest.approx(8 / 6))
    assert found["model.encoder.layers.0.fc2"] == found["model.decoder.layers.0.self_attn.q_proj"] == (4, 2.0)


def answers(base: BaseModel, artifact: Artifact) -> torch.Tensor:
    session = Session(base)
    session.set_adapters([load_adapter(base, artifact)] * 2)
    return logits_of(session.model, base, features_of(base, 2))


def test_a_lora_with_ranks_by_pattern_answers_in_peft_as_here(
    tmp_path: Path, data: Path, base_folder: Path, base: BaseModel
) -> None:
    artifact = train(patterned(tmp_path, base_folder), tmp_path / "out", **places(tmp_path))
    check_ranks(artifact.manifest.lora[0])
    config = json.loads((artifact.path / "adapter_config.json").read_text())
    assert config["rank_pattern"]["model.decoder.layers.1.fc2"] == 6
    plain = WhisperForConditionalGeneration.from_pretrained(base_folder, dtype=torch.float32)
    theirs = logits_of(PeftModel.from_pretrained(plain, artifact.path).eval(), base, features_of(base, 2))
    torch.testing.assert_close(answers(base, artifact), theirs, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("method", ["warm-start", "expert-pair"])
def test_a_warm_start_and_a_child_have_ranks_by_pattern(
    method: str, tmp_path: Path, data: Path, base_folder: Path, base: BaseModel
) -> None:
    seed = make_adapter(tmp_path / "seed", base, seed=5, language="pl", rank=2, alpha=2)
    extra = f'[seed]\nadapter = "{seed.path}"\n'
    extra += f'[expert]\nadapter = "{seed.path}"\n' if method == "expert-pair" else ""
    path = patterned(tmp_path, base_folder, method=f'"{method}"', extra=extra)
    artifact = train(path, tmp_path / "out", **places(tmp_path))
    sections = {section.role: section for section in artifact.manifest.lora}
    check_ranks(sections["child" if method == "expert-pair" else "self"])
    assert bool(torch.isfinite(answers(base, artifact)).all())


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("{ w_proj = 2 }", "lora.rank_pattern: 'w_proj' matches no adapted linear; expected a name like fc1"),
        ('{ "fc[1" = 2 }', r"lora.rank_pattern: 'fc\[1' is not a pattern"),
        ("{ fc1 = 0 }", "lora.rank_pattern.fc1: .*greater than or equal to 1"),
    ],
)
def test_a_pattern_that_means_nothing_is_refused(
    pattern: str, message: str, tmp_path: Path, data: Path, base_folder: Path
) -> None:
    with pytest.raises(InvalidInputError, match=message):
        train(patterned(tmp_path, base_folder, pattern), tmp_path / "out", **places(tmp_path))
