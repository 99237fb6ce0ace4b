"""A training that was killed goes on to the very weights of one that was not, whatever it does."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from small_training import places, recipe
from small_whisper import make_adapter
from test_training import CHILD

from adapter_hub.artifact.folder import Artifact
from adapter_hub.model.base_model import BaseModel
from adapter_hub.trainers.training import train

pytestmark = pytest.mark.slow
EVERYTHING: dict[str, str | None] = {
    "epochs": "8",
    "batch_size": "3",
    "gradient_accumulation": "2",
    "early_stopping": "7",
    "label_smoothing": "0.1",
    "gradient_checkpointing": "true",
}
MIXTURE = """
[[data.train]]
folder = "data/train"
weight = 1.5
[[data.train]]
folder = "data/dev"
language = "pl"
weight = 0.5
[[data.dev]]
folder = "data/dev"
"""


def everything(folder: Path, base_folder: Path, base: BaseModel, method: str) -> Path:
    """Write a recipe with everything on that could depend on what a killed process knew."""
    parent = make_adapter(folder / "parent", base, seed=5, language="pl", rank=3)
    seed = f'[seed]\nadapter = "{parent.path}"\nsegments = 4\n'
    tables = {
        "warm-start": seed,
        "expert-pair": f'[expert]\nadapter = "{parent.path}"\nsegments = 4\n' + seed,
    }
    path = recipe(
        folder, base_folder, method=f'"{method}"', extra=tables.get(method, ""), training=EVERYTHING
    )
    text = path.read_text().replace('train = "data/train"\ndev = "data/dev"\n', MIXTURE)
    if method == "full-fine-tuning":
        text = text[: text.index("[lora]")] + text[text.index("[training]") :].replace("0.005", "0.001")
    else:
        text = text.replace("[lora]", "[lora]\ndropout = 0.1")
    path.write_text(text)
    return path


@pytest.mark.parametrize("method", ["lora", "warm-start", "expert-pair", "full-fine-tuning"])
def test_killed_twice_it_ends_with_the_weights_of_an_uninterrupted_training(
    method: str, tmp_path: Path, data: Path, base_folder: Path, base: BaseModel
) -> None:
    path = everything(tmp_path, base_folder, base, method)
    whole = train(path, tmp_path / "whole", **places(tmp_path))
    for epochs in (2, 5):  # as many dev losses are told before the process is killed
        command = [sys.executable, "-c", CHILD, str(tmp_path), str(path), "out"]
        child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert child.stdout is not None
        for line in child.stdout:
            step = line.removeprefix("step ").split("/")[0]
            if "dev loss" in line and int(step) >= 4 * epochs:
                child.send_signal(signal.SIGKILL)
                break
        assert child.communicate(timeout=240)[1] == ""
        assert child.returncode == -signal.SIGKILL
    said: list[str] = []
    resumed = train(path, tmp_path / "out", tell=said.append, **places(tmp_path))
    assert any("resuming from checkpoint" in line for line in said)
    if isinstance(whole, Artifact):
        assert isinstance(resumed, Artifact)
        assert resumed.manifest.weights_digest == whole.manifest.weights_digest
        one, other = resumed.manifest.training, whole.manifest.training
        assert one is not None
        assert other is not None
        assert (one.steps, one.best_step, one.curve) == (other.steps, other.best_step, other.curve)
    else:
        assert resumed.digest == whole.digest
