"""The options of `[training]`: each does what it says, and impossible ones are refused by name."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from small_training import places, recipe
from small_whisper import write_speech

from adapter_hub.artifact.folder import Artifact
from adapter_hub.errors import InvalidInputError
from adapter_hub.formats.manifest import CurvePoint, Training
from adapter_hub.trainers.loop.result import POINTS, training_curve
from adapter_hub.trainers.recipe import read_recipe
from adapter_hub.trainers.training import train

EXACT = {"spec_augment": None, "audio_length": '"chunk"'}  # nothing depends on who is in a batch with whom


def trained(
    folder: Path, base_folder: Path, name: str, training: dict[str, str | None], **changes: Any
) -> Artifact:
    path = recipe(folder, base_folder, training=training, dtype='"float32"', **changes)
    artifact = train(path, folder / name, **places(folder))
    assert isinstance(artifact, Artifact)
    return artifact


def record(artifact: Artifact) -> Training:
    assert artifact.manifest.training is not None
    return artifact.manifest.training


def difference(one: Artifact, other: Artifact) -> float:
    first, second = (load_file(found.path / "adapter_model.safetensors") for found in (one, other))
    return max(float((first[name] - second[name]).abs().max()) for name in first)


def test_steps_say_how_long_instead_of_epochs(tmp_path: Path, data: Path, base_folder: Path) -> None:
    artifact = trained(tmp_path, base_folder, "out", {"epochs": None, "steps": "5"})
    assert record(artifact).steps == 5  # of three an epoch
    path = recipe(tmp_path, base_folder, training={"steps": "5"})
    with pytest.raises(InvalidInputError, match=r"training\.epochs and training\.steps: both say how long"):
        read_recipe(path)


@pytest.mark.slow
def test_accumulated_parts_weigh_every_token_alike_as_one_large_batch_does(
    tmp_path: Path, data: Path, base_folder: Path
) -> None:
    whole = trained(tmp_path, base_folder, "whole", EXACT | {"batch_size": "12"})
    parts = trained(tmp_path, base_folder, "parts", EXACT | {"gradient_accumulation": "3"})
    assert record(whole).steps == record(parts).steps == 2
    assert difference(whole, parts) < 1e-5
    other = trained(tmp_path, base_folder, "other", EXACT | {"batch_size": "12"}, rate=6e-3)
    assert difference(whole, other) > 1e-4  # the comparison can tell


@pytest.mark.slow
@pytest.mark.parametrize("length", ["batch", "chunk"])
def test_gradient_checkpointing_changes_memory_not_weights(
    length: str, tmp_path: Path, data: Path, base_folder: Path
) -> None:
    changes = {"audio_length": f'"{length}"'}
    plain = trained(tmp_path, base_folder, "plain", changes)
    frugal = trained(tmp_path, base_folder, "frugal", changes | {"gradient_checkpointing": "true"})
    assert difference(plain, frugal) == 0


def test_bfloat16_trains_nearly_the_same_and_other_precisions_are_refused_where_they_are_lacking(
    tmp_path: Path, data: Path, base_folder: Path
) -> None:
    plain = trained(tmp_path, base_folder, "plain", {})
    rough = trained(tmp_path, base_folder, "rough", {"precision": '"bfloat16"'})
    assert difference(plain, rough) > 0
    for one, other in zip(record(plain).curve or (), record(rough).curve or (), strict=True):
        assert one.loss is not None
        assert one.loss == pytest.approx(other.loss, rel=0.01)
    with pytest.raises(InvalidInputError, match=r'training\.precision = "float16": needs a GPU, found cpu'):
        trained(tmp_path, base_folder, "none", {"precision": '"float16"'})
    with pytest.raises(InvalidInputError, match=r"training\.precision"):
        trained(tmp_path, base_folder, "none", {"precision": '"float8"'})


@pytest.mark.slow
def test_the_recipe_decides_the_precision_whatever_accelerate_launch_was_told(
    tmp_path: Path, data: Path, base_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = trained(tmp_path, base_folder, "plain", {})
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    assert difference(plain, trained(tmp_path, base_folder, "launched", {})) == 0


def test_label_smoothing_raises_the_loss_of_training_and_not_that_of_dev(
    tmp_path: Path, data: Path, base_folder: Path
) -> None:
    once: dict[str, str | None] = {"epochs": None, "steps": "1"}
    plain = trained(tmp_path, base_folder, "plain", once, rate=1e-5)
    smooth = trained(tmp_path, base_folder, "smooth", once | {"label_smoothing": "0.5"}, rate=1e-5)
    (one,), (other,) = record(plain).curve or (), record(smooth).curve or ()
    assert one.loss is not None
    assert other.loss is not None
    assert abs(one.loss - other.loss) > 0.01
    assert one.dev_loss == pytest.approx(other.dev_loss, abs=0.001)


def test_early_stopping_keeps_the_weights_of_the_epoch_with_the_lowest_dev_loss(
    tmp_path: Path, data: Path, base_folder: Path
) -> None:
    settings: dict[str, str | None] = {"epochs": "40", "warmup_share": "0"}
    early = trained(tmp_path, base_folder, "early", settings | {"early_stopping": "2"}, rate=0.1)
    found = record(early)
    dev = {point.step: point.dev_loss for point in found.curve or () if point.dev_loss is not None}
    assert found.steps < 120
    assert found.best_step == min(dev, key=lambda step: dev[step] or 0)
    assert list(dev).index(found.best_step) == len(dev) - 3
    path = recipe(tmp_path, base_folder, training={"early_stopping": "2"})
    path.write_text(path.read_text().replace('dev = "data/dev"\n', ""))
    with pytest.raises(InvalidInputError, match=r"training\.early_stopping needs data\.dev"):
        read_recipe(path)


@pytest.mark.slow
def test_the_weights_of_the_best_epoch_are_those_that_had_its_dev_loss(
    tmp_path: Path, data: Path, base_folder: Path
) -> None:
    """A training of exactly as many steps, with the same learning rates, ends with the same weights."""
    settings: dict[str, str | None] = {"epochs": "40", "warmup_share": "0", "early_stopping": "1"}
    early = trained(tmp_path, base_folder, "early", settings, rate=0.1)
    copies: list[Path] = []

    class Enough(Exception):  # noqa: N818
        pass

    def keep(line: str) -> None:
        step = line.split("/")[0].removeprefix("step ")
        if step.isdigit() and int(step) > (record(early).best_step or 0):
            copies.extend((tmp_path / "again.training").glob(f"*/checkpoint-{record(early).best_step}"))
            raise Enough("kept")

    path = recipe(tmp_path, base_folder, training=settings, dtype='"float32"', rate=0.1)
    with pytest.raises(Enough, match="kept"):
        train(path, tmp_path / "again", tell=keep, **places(tmp_path))
    kept = load_file(copies[0] / "adapter_model.safetensors")
    for name, tensor in load_file(early.path / "adapter_model.safetensors").items():
        assert torch.equal(tensor, kept[name]), name


def test_the_curve_is_in_the_manifest_and_at_most_so_many_points_long(
    tmp_path: Path, data: Path, base_folder: Path
) -> None:
    found = record(trained(tmp_path, base_folder, "out", {}))
    curve = found.curve
    assert found.best_step is None
    assert curve is not None
    assert [point.step for point in curve] == [1, 2, 3, 4, 5, 6]
    assert all(point.loss is not None for point in curve)
    assert [point.step for point in curve if point.dev_loss is not None] == [3, 6]
    log: list[dict[str, float]] = [{"step": step, "loss": float(step)} for step in range(1, 251)]
    thinned = training_curve([*log, {"step": 250, "eval_loss": 1.23456789}])
    assert len(thinned) <= POINTS
    assert thinned[0] == CurvePoint(step=3, loss=2.0)
    assert thinned[-1] == CurvePoint(step=250, loss=250.0, dev_loss=1.235)
    assert training_curve([{"train_runtime": 1.0}]) == ()


def test_event_files_hold_the_losses_and_are_never_in_the_artifact(
    tmp_path: Path, data: Path, base_folder: Path
) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    path = recipe(tmp_path, base_folder)
    artifact = train(path, tmp_path / "out", tensorboard=tmp_path / "events", **places(tmp_path))
    assert isinstance(artifact, Artifact)
    artifact.verify()
    events = EventAccumulator(str(tmp_path / "events" / "out"))
    events.Reload()
    assert {"loss", "dev_loss", "learning_rate", "grad_norm"} <= set(events.Tags()["scalars"])
    dev = [(event.step, float(f"{event.value:.4g}")) for event in events.Scalars("dev_loss")]
    curve = record(artifact).curve or ()
    assert dev == [(point.step, point.dev_loss) for point in curve if point.dev_loss is not None]
    for folder in (tmp_path / "new", tmp_path / "new" / "events", tmp_path):
        with pytest.raises(InvalidInputError, match=r"--tensorboard .*choose another folder"):
            train(path, tmp_path / "new", tensorboard=folder, **places(tmp_path))
    assert not (tmp_path / "new").exists()


LITTLE_MEMORY = """
import resource, sys
from pathlib import Path
from adapter_hub.cli import main
import adapter_hub.trainers.training
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + int(sys.argv[3]), -1))
sys.exit(main(["--cache", sys.argv[4], "--device", "cpu", "train", sys.argv[1], "--out", sys.argv[2]]))
"""


@pytest.mark.slow
def test_too_little_memory_is_one_line_with_advice(tmp_path: Path, data: Path, base_folder: Path) -> None:
    for i in range(100, 140):  # enough of them that the batch does not fit
        write_speech(data / "train" / f"{i}.wav", seconds=3.9, seed=i)
    rows = "".join(f'{{"file_name": "{i}.wav", "text": "fem"}}\n' for i in range(100, 140))
    (data / "train" / "metadata.jsonl").write_text(rows)
    path = recipe(tmp_path, base_folder, training=EXACT | {"batch_size": "4000"})
    path.write_text(
        path.read_text()
        .replace('train = "data/train"', "")
        .replace("[lora]", '[[data.train]]\nfolder = "data/train"\nweight = 100\n[lora]')
    )
    arguments = [
        str(path),
        str(tmp_path / "out"),
        str(2**30),
        str(tmp_path / "cache"),
    ]
    command = [sys.executable, "-c", LITTLE_MEMORY, *arguments]
    outcome = subprocess.run(command, capture_output=True, text=True, check=False)
    assert outcome.returncode == 1, outcome.stderr
    assert "Traceback" not in outcome.stderr
    last = outcome.stderr.splitlines()[-1]
    assert last.startswith("error: training: not enough memory; lower training.batch_size"), outcome.stderr
    assert not (tmp_path / "out").exists()
