"""Training on a GPU: every method in every precision, resumed with its scaler, and on several GPUs."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from small_training import places, recipe
from small_whisper import make_adapter
from test_methods import answers, method_recipe
from test_training_processes import difference, whole

from adapter_hub.artifact.folder import Artifact
from adapter_hub.errors import InvalidInputError, OutOfMemoryError
from adapter_hub.model.base_model import BaseModel
from adapter_hub.trainers.inputs import Inputs, gather
from adapter_hub.trainers.loop.fitting import fit
from adapter_hub.trainers.methods.table import METHODS
from adapter_hub.trainers.recipe import read_recipe
from adapter_hub.trainers.training import train

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")

NEAR = {"float32": 0.02, "bfloat16": 0.05}  # how far a dev loss may be from that of a CPU in float32


def on(device: str, folder: Path) -> dict[str, Any]:
    return places(folder) | {"device": device}


def dev_losses(said: list[str]) -> list[float]:
    return [float(line.split("dev loss ")[1].split()[0]) for line in said if "dev loss" in line]


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("method", METHODS)
def test_a_method_trains_as_on_a_cpu(
    method: str, precision: str, tmp_path: Path, data: Path, base_folder: Path, base: BaseModel
) -> None:
    if precision == "bfloat16" and not torch.cuda.is_bf16_supported(including_emulation=False):
        pytest.skip("this GPU lacks bfloat16")
    parent = make_adapter(tmp_path / "parent", base, seed=5, language="pl").path
    losses = {}
    for device, kind in (("cpu", "float32"), ("cuda", precision)):
        path = method_recipe(tmp_path, base_folder, method, parent, f'precision = "{kind}"\n')
        path.write_text(path.read_text().replace("dropout = 0.1\n", "").replace("epochs = 2", "epochs = 4"))
        said: list[str] = []
        outcome = train(path, tmp_path / device, tell=said.append, **on(device, tmp_path))
        losses[device] = dev_losses(said)
        assert bool(torch.isfinite(answers(outcome, tmp_path / device, base)).all())
    assert len(losses["cuda"]) == 4
    if precision == "float16":  # the first steps are skipped until the scale of the loss fits
        assert losses["cuda"][-1] < losses["cpu"][0] * 1.05
    else:
        assert losses["cuda"] == pytest.approx(losses["cpu"], rel=NEAR[precision])


class Enough(Exception):  # noqa: N818
    """Ends a training, as a crash would."""


def test_a_float16_training_goes_on_with_the_scale_of_its_loss(
    tmp_path: Path, data: Path, base_folder: Path
) -> None:
    path = recipe(
        tmp_path, base_folder, training={"precision": '"float16"', "epochs": "6"}, dtype='"float32"'
    )
    where = on("cuda", tmp_path)
    inputs: Inputs = gather(read_recipe(path), where["registries"], where["cache"], "cuda", lambda _: None)
    alone = fit(inputs, tmp_path / "whole", lambda _: None)

    def crash(line: str) -> None:
        if line.startswith("step 12/18") and "dev loss" in line:
            raise Enough(line)

    with pytest.raises(Enough, match="step 12/18"):
        fit(inputs, tmp_path / "crashed", crash)
    said: list[str] = []
    resumed = fit(inputs, tmp_path / "crashed", said.append)
    assert "resuming from checkpoint-9" in said
    one, other = alone.trainable.state(), resumed.trainable.state()
    assert max(float((one[name] - other[name]).abs().max()) for name in one) < 1e-3
    # the scale, and the steps since it last changed: nine fewer if it had been reset
    kept = [(tmp_path / work / "checkpoint-18" / "scaler.pt").read_bytes() for work in ("whole", "crashed")]
    assert kept[0] == kept[1]


def test_bfloat16_is_refused_on_a_gpu_that_only_emulates_it(
    tmp_path: Path, data: Path, base_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = recipe(tmp_path, base_folder, training={"precision": '"bfloat16"'})
    where = on("cuda", tmp_path)
    inputs = gather(read_recipe(path), where["registries"], where["cache"], "cuda", lambda _: None)
    old = SimpleNamespace(name="Tesla T4", major=7, minor=5)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda *_: old)
    with pytest.raises(InvalidInputError, match='"bfloat16": Tesla T4 lacks it; use "float16"'):
        fit(inputs, tmp_path / "work", lambda _: None)


def test_a_gpu_without_enough_memory_is_one_line_with_advice(
    tmp_path: Path, data: Path, base_folder: Path
) -> None:
    training: dict[str, str | None] = {"batch_size": "1200", "audio_length": '"chunk"', "spec_augment": None}
    path = recipe(tmp_path, base_folder, training=training)
    often = '[[data.train]]\nfolder = "data/train"\nweight = 100\n'
    text = path.read_text().replace('train = "data/train"\ndev = "data/dev"\n', "")
    path.write_text(text.replace("[lora]", f"{often}[lora]"))
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(0).total_memory
    room = torch.cuda.memory_reserved() + 96 * 2**20  # the batch's features alone are 154 MB
    torch.cuda.set_per_process_memory_fraction(room / total)
    try:
        with pytest.raises(
            OutOfMemoryError, match=r"not enough memory; lower training\.batch_size"
        ) as caught:
            train(path, tmp_path / "out", **on("cuda", tmp_path))
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
@pytest.mark.parametrize("method", ["lora", "expert-pair"])
def test_a_process_on_each_gpu_trains_what_one_does(
    method: str, tmp_path: Path, data: Path, base_folder: Path, base: BaseModel
) -> None:
    parent = make_adapter(tmp_path / "parent", base, seed=5, language="pl").path
    extra = f'[expert]\nadapter = "{parent}"\nsegments = 4\n' if method == "expert-pair" else ""
    path = recipe(tmp_path, base_folder, method=f'"{method}"', extra=extra, dtype='"float32"')
    alone = train(path, tmp_path / "alone", **on("cuda", tmp_path))
    assert isinstance(alone, Artifact)
    code, _, talk = whole(tmp_path, path, "all", count=torch.cuda.device_count(), device="cuda")
    assert code == 0, talk
    folder = "experts/child" if method == "expert-pair" else "."
    assert difference(alone.path / folder, tmp_path / "all" / folder) < 1e-3
    training = Artifact.open(tmp_path / "all").manifest.training
    assert training is not None
    assert f"{torch.cuda.device_count()} processes" in training.hardware
