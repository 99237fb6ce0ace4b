"""How trainings end: with what is only left to write, or with a model that is no use; numbers that add up."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from small_training import places, recipe

from adapter_hub.artifact.folder import Artifact
from adapter_hub.errors import ConflictError, DivergedError, OutOfMemoryError
from adapter_hub.formats.manifest import Training
from adapter_hub.trainers import provenance
from adapter_hub.trainers.inputs import gather
from adapter_hub.trainers.loop.fitting import TrainingInterruptedError, fit
from adapter_hub.trainers.recipe import read_recipe
from adapter_hub.trainers.training import train

# the dev loss falls, then rises, at a rate of 0.1
STOPPING: dict[str, str | None] = {"epochs": "40", "warmup_share": "0", "early_stopping": "1"}


def record(artifact: Artifact) -> Training:
    assert artifact.manifest.training is not None
    return artifact.manifest.training


def trained(folder: Path, path: Path, out: str, tell: Callable[[str], None] = lambda _: None) -> Artifact:
    artifact = train(path, folder / out, tell=tell, **places(folder))
    assert isinstance(artifact, Artifact)
    return artifact


def in_the_way(out: Path) -> Callable[[str], None]:
    """Return what lets a training run to its end and then fail to write."""

    def tell(line: str) -> None:
        if "dev loss" in line or line.startswith("resuming from"):
            (out / "somebody's").mkdir(parents=True, exist_ok=True)

    return tell


def ended_alike(one: Artifact, other: Artifact) -> None:
    assert one.manifest.weights_digest == other.manifest.weights_digest
    for name in ("steps", "best_step", "curve"):
        assert getattr(record(one), name) == getattr(record(other), name), name


@pytest.mark.parametrize(
    ("settings", "rate"),
    [pytest.param(STOPPING, 0.1, marks=pytest.mark.slow), ({"epochs": None, "steps": "5"}, 5e-3)],
    ids=["early stopping", "steps that end within an epoch"],
)
def test_what_only_has_to_be_written_is_not_trained_further(
    settings: dict[str, str | None], rate: float, tmp_path: Path, data: Path, base_folder: Path
) -> None:
    path = recipe(tmp_path, base_folder, training=settings, rate=rate)
    whole = trained(tmp_path, path, "whole")
    if settings is STOPPING:
        assert record(whole).steps < 120
        assert record(whole).best_step != record(whole).steps
    out = tmp_path / "out"
    for _ in range(2):
        with pytest.raises(
            ConflictError, match="move it away and run the same command, which then only writes"
        ):
            trained(tmp_path, path, "out", in_the_way(out))
        shutil.rmtree(out)
    said: list[str] = []
    written = trained(tmp_path, path, "out", said.append)
    assert f"resuming from checkpoint-{record(whole).steps}" in said
    assert not any(line.startswith("step ") for line in said)
    ended_alike(written, whole)
    written.verify()


@pytest.mark.parametrize("steps", [pytest.param("4", marks=pytest.mark.slow), "5"])
def test_an_interrupt_at_or_before_the_last_step_leaves_out_no_dev_loss(
    steps: str, tmp_path: Path, data: Path, base_folder: Path
) -> None:
    path = recipe(tmp_path, base_folder, training={"epochs": None, "steps": steps})
    whole = trained(tmp_path, path, "whole")

    def press(line: str) -> None:
        if line.startswith("step 3/") and "dev loss" in line:
            os.kill(os.getpid(), signal.SIGINT)  # the fourth step ends, then the training

    with pytest.raises(TrainingInterruptedError, match=f"at step 4 of {steps}, checkpoint saved"):
        trained(tmp_path, path, "out", press)
    resumed = trained(tmp_path, path, "out")
    ended_alike(resumed, whole)
    assert [point.step for point in record(resumed).curve or () if point.dev_loss] == [3, int(steps)]


@pytest.mark.parametrize(("method", "rate"), [("lora", 1e30), ("full-fine-tuning", 1e38)])
@pytest.mark.parametrize("watched", [True, False])
def test_a_last_step_that_ruins_the_model_is_refused(
    watched: bool, method: str, rate: float, tmp_path: Path, data: Path, base_folder: Path
) -> None:
    path = recipe(
        tmp_path, base_folder, method=f'"{method}"', training={"epochs": None, "steps": "1"}, rate=rate
    )
    text = path.read_text() if watched else path.read_text().replace('dev = "data/dev"\n', "")
    if method == "full-fine-tuning":
        text = text[: text.index("[lora]")] + text[text.index("[training]") :]
    path.write_text(text)
    reason = "the dev loss is (nan|inf) at step 1" if watched else "the model is not finite after step 1"
    for _ in range(2):  # nor is it written when the command is repeated
        with pytest.raises(DivergedError, match=f"training: {reason}; lower peak_learning_rate"):
            train(path, tmp_path / "out", **places(tmp_path))
    assert not (tmp_path / "out").exists()


def test_weights_that_the_published_type_cannot_hold_are_refused(
    tmp_path: Path, data: Path, base_folder: Path
) -> None:
    path = recipe(tmp_path, base_folder, training={"epochs": None, "steps": "1"}, rate=1e6)
    with pytest.raises(
        DivergedError, match=r"lora_[AB]\.weight is too large for float16; lower peak_learning"
    ):
        train(path, tmp_path / "out", **places(tmp_path))
    assert not (tmp_path / "out").exists()


def test_the_seconds_of_the_best_epoch_are_not_counted_twice(
    tmp_path: Path, data: Path, base_folder: Path
) -> None:
    file = read_recipe(recipe(tmp_path, base_folder, training=STOPPING, rate=0.1))
    where = places(tmp_path)
    inputs = gather(file, where["registries"], where["cache"], "cpu", lambda _: None)
    outcome = fit(inputs, tmp_path / "work", lambda line: time.sleep(line.startswith("step 1/")))
    (last,) = (tmp_path / "work").glob(f"checkpoint-{outcome.steps}")
    log = json.loads((last / "trainer_state.json").read_bytes())["log_history"]
    best = max(row["seconds"] for row in log if row["step"] == outcome.best_step)
    assert best >= 1
    assert outcome.seconds - max(row["seconds"] for row in log) < best / 2


def changed_text(data: Path) -> None:
    rows = data / "dev" / "metadata.jsonl"
    rows.write_text(rows.read_text().replace('"nul"', '"tre"', 1))


def changed_order(data: Path) -> None:
    rows = data / "train" / "metadata.jsonl"
    rows.write_text("".join(reversed(rows.read_text().splitlines(keepends=True))))


def changed_language(data: Path) -> None:
    rows = data / "train" / "metadata.jsonl"
    rows.write_text(rows.read_text().replace('{"file_name"', '{"language": "pl", "file_name"', 1))


@pytest.mark.parametrize(
    "change",
    [changed_text, *(pytest.param(one, marks=pytest.mark.slow) for one in (changed_order, changed_language))],
)
def test_checkpoints_of_other_rows_are_not_gone_on_from(
    change: Callable[[Path], None], tmp_path: Path, data: Path, base_folder: Path
) -> None:
    path, out = recipe(tmp_path, base_folder, epochs=1), tmp_path / "out"
    with pytest.raises(ConflictError, match="was created during training"):
        trained(tmp_path, path, "out", in_the_way(out))
    shutil.rmtree(out)
    change(data)
    said: list[str] = []
    trained(tmp_path, path, "out", said.append)
    assert any(line.startswith("step 3/3") for line in said)
    assert not any("resuming from" in line for line in said)


def test_too_little_memory_to_load_is_one_line(
    tmp_path: Path, data: Path, base_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    monkeypatch.setattr(torch.nn.Module, "to", refuse)
    with pytest.raises(
        OutOfMemoryError, match="training: not enough memory; end other programs that use it"
    ) as caught:
        train(recipe(tmp_path, base_folder), tmp_path / "out", **places(tmp_path))
    assert "\n" not in str(caught.value)


def git(folder: Path, *words: str) -> str:
    who = ["-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false"]
    return subprocess.run(
        ["git", *who, *words], cwd=folder, capture_output=True, text=True, check=True
    ).stdout.strip()


def test_a_commit_of_the_project_around_an_environment_is_not_that_of_this_code(tmp_path: Path) -> None:
    installed = tmp_path / ".venv" / "trainers" / "provenance.py"
    installed.parent.mkdir(parents=True)
    installed.write_bytes(Path(provenance.__file__).read_bytes())
    (tmp_path / "README.md").write_text("somebody's project")
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", "README.md")
    git(tmp_path, "commit", "-qm", "first")
    spec = importlib.util.spec_from_file_location("installed_provenance", installed)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.code_revision() == (None, None)
    git(tmp_path, "add", ".venv")
    git(tmp_path, "commit", "-qm", "its own code")
    assert module.code_revision() == (git(tmp_path, "rev-parse", "HEAD"), False)
    installed.write_text(installed.read_text() + "\n")
    assert module.code_revision()[1] is True
