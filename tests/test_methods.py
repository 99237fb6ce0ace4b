"""Every method with every option of training, for a few steps on a small real Whisper."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from small_training import places, recipe
from small_whisper import make_adapter
from test_composition import features_of, logits_of

from adapter_hub.artifact.folder import Artifact
from adapter_hub.formats.full_fine_tune import FullFineTune
from adapter_hub.model.base_model import BaseModel, load_base_model
from adapter_hub.model.loading import load_adapter
from adapter_hub.model.session import Session
from adapter_hub.trainers.methods.table import METHODS
from adapter_hub.trainers.training import train

OPTIONS = """
gradient_accumulation = 2
gradient_checkpointing = true
label_smoothing = 0.1
weight_decay = 0.01
early_stopping = 1
"""


def method_recipe(folder: Path, base_folder: Path, method: str, parent: Path, options: str) -> Path:
    tables = {
        "warm-start": f'[seed]\nadapter = "{parent}"\n',
        "expert-pair": f'[expert]\nadapter = "{parent}"\n[seed]\nadapter = "expert"\n',
    }
    path = recipe(folder, base_folder, method=f'"{method}"', extra=tables.get(method, ""), rate=1e-3)
    text = path.read_text() + options
    if method == "full-fine-tuning":
        text = text[: text.index("[lora]")] + text[text.index("[training]") :]
    else:
        text = text.replace("[lora]", "[lora]\ndropout = 0.1")
    path.write_text(text)
    return path


def answers(outcome: Any, out: Path, base: BaseModel) -> torch.Tensor:
    if isinstance(outcome, FullFineTune):
        return logits_of(load_base_model(out, device="cpu").model, base, features_of(base, 2))
    assert isinstance(outcome, Artifact)
    outcome.verify()
    session = Session(base)
    session.set_adapters([load_adapter(base, outcome)] * 2)
    return logits_of(session.model, base, features_of(base, 2))


@pytest.mark.parametrize("precision", ["float32", pytest.param("bfloat16", marks=pytest.mark.slow)])
@pytest.mark.parametrize("method", METHODS)
def test_a_method_takes_every_option(
    method: str, precision: str, tmp_path: Path, data: Path, base_folder: Path, base: BaseModel
) -> None:
    parent = make_adapter(tmp_path / "parent", base, seed=5, language="pl").path
    options = f'{OPTIONS}precision = "{precision}"\n'
    path, said = method_recipe(tmp_path, base_folder, method, parent, options), []
    outcome = train(path, tmp_path / "out", tell=said.append, **places(tmp_path))
    losses = [float(line.split("dev loss ")[1].split()[0]) for line in said if "dev loss" in line]
    assert len(losses) == 2
    assert losses[1] < losses[0] * 1.05
    found = answers(outcome, tmp_path / "out", base)
    assert bool(torch.isfinite(found).all())
    assert float((found - logits_of(base.model, base, features_of(base, 2))).abs().max()) > 1e-3


@pytest.mark.parametrize(
    "method",
    [
        "expert-pair",
        *(pytest.param(name, marks=pytest.mark.slow) for name in METHODS if name != "expert-pair"),
    ],
)
def test_gradient_checkpointing_changes_no_number(
    method: str, tmp_path: Path, data: Path, base_folder: Path, base: BaseModel
) -> None:
    parent = make_adapter(tmp_path / "parent", base, seed=5, language="pl").path
    found = []
    for name, options in (("plain", ""), ("checkpointed", "gradient_checkpointing = true\n")):
        path = method_recipe(tmp_path, base_folder, method, parent, options)
        found.append(answers(train(path, tmp_path / name, **places(tmp_path)), tmp_path / name, base))
    torch.testing.assert_close(found[1], found[0], atol=1e-4, rtol=1e-4)
