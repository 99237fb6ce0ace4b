"""Training on several processes: real ones, started by torchrun, on CPUs (gloo)."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import torch
from filelock import FileLock
from safetensors.torch import load_file
from small_training import places as places_of
from small_training import recipe
from small_whisper import make_adapter

from adapter_hub.artifact.folder import Artifact
from adapter_hub.model.base_model import BaseModel
from adapter_hub.registry.file import FileRegistry
from adapter_hub.trainers.training import train

pytestmark = pytest.mark.slow
PATIENCE = 240  # seconds


@contextmanager
def torchrun(
    folder: Path,
    path: Path,
    out: str,
    count: int = 2,
    program: tuple[str, ...] = ("-m", "adapter_hub"),
    device: str = "cpu",
) -> Iterator[subprocess.Popen[str]]:
    """Start `adapter-hub train` in `count` processes; what is left of them is killed at the end."""
    FileRegistry(folder / "registry.json").update(lambda _: None)
    places = ["--cache", str(folder / "cache"), "--registry", str(folder / "registry.json")]
    launcher = ["-m", "torch.distributed.run", "--nproc-per-node", str(count)]
    command = [sys.executable, *launcher, *program, *places,
               "--device", device, "train", str(path), "--out", str(folder / out)]  # fmt: skip
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                             env=os.environ | {"OMP_NUM_THREADS": "1"})  # fmt: skip
    try:
        yield child
    finally:
        for process in (*workers(child), child.pid):
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        child.communicate()


def workers(child: subprocess.Popen[str]) -> list[int]:
    """Return the processes that torchrun started, in the order of their ranks."""
    try:
        return sorted(
            int(pid) for pid in Path(f"/proc/{child.pid}/task/{child.pid}/children").read_text().split()
        )
    except OSError:
        return []


def whole(folder: Path, path: Path, out: str, count: int = 2, device: str = "cpu") -> tuple[int, str, str]:
    with torchrun(folder, path, out, count, device=device) as child:
        said, talk = child.communicate(timeout=PATIENCE)
    return child.returncode, said, talk


def until(child: subprocess.Popen[str], words: str, times: int) -> str:
    """Read the talk until some words came so often."""
    assert child.stderr is not None
    talk = ""
    for line in child.stderr:
        talk += line
        times -= words in line
        if not times:
            return talk
    raise AssertionError(talk)


def ours(talk: str) -> list[str]:
    """Return the lines of the talk that are errors of the command; torchrun has a report of its own."""
    return [line for line in talk.splitlines() if line.startswith("error: ")]


def difference(one: Path, other: Path) -> float:
    first, second = (load_file(path / "adapter_model.safetensors") for path in (one, other))
    return max(float((first[name] - second[name]).abs().max()) for name in first)


@pytest.mark.parametrize("accumulation", ["1", "2"])
def test_two_processes_train_what_one_does_and_only_the_first_writes_and_talks(
    accumulation: str, tmp_path: Path, data: Path, base_folder: Path
) -> None:
    settings: dict[str, str | None] = {
        "batch_size": "5", "gradient_accumulation": accumulation, "early_stopping": "2"}  # fmt: skip
    path = recipe(tmp_path, base_folder, training=settings, dtype='"float32"', epochs=3)
    alone = train(path, tmp_path / "alone", **places_of(tmp_path))
    assert isinstance(alone, Artifact)
    code, said, talk = whole(tmp_path, path, "both")
    assert code == 0, talk
    both = Artifact.open(tmp_path / "both")
    both.verify()
    assert said == f"{both.ref} {both.digest} in {tmp_path / 'both'}\n"
    assert talk.count("train: 12 utterances") == 1
    assert difference(alone.path, both.path) < 1e-5
    assert alone.manifest.training is not None
    assert both.manifest.training is not None
    assert both.manifest.training.best_step == alone.manifest.training.best_step
    for one, other in zip(
        both.manifest.training.curve or (), alone.manifest.training.curve or (), strict=True
    ):
        assert one.loss == pytest.approx(other.loss, rel=1e-3)
    assert "2 processes" in both.manifest.training.hardware
    assert not (tmp_path / "both.training").exists()
    assert sorted(path.name for path in both.path.iterdir()) == sorted(p.name for p in alone.path.iterdir())


def test_two_processes_train_a_pair_as_one_does(
    tmp_path: Path, data: Path, base_folder: Path, base: BaseModel
) -> None:
    parent = make_adapter(tmp_path / "parent", base, seed=5, language="pl")
    extra = f'[expert]\nadapter = "{parent.path}"\nsegments = 4\n'
    path = recipe(tmp_path, base_folder, method='"expert-pair"', extra=extra, dtype='"float32"')
    train(path, tmp_path / "alone", **places_of(tmp_path))
    code, _, talk = whole(tmp_path, path, "both")
    assert code == 0, talk
    for part in ("gate.safetensors", "experts/child/adapter_model.safetensors"):
        first, second = (load_file(tmp_path / out / part) for out in ("alone", "both"))
        assert max(float((first[name] - second[name]).abs().max()) for name in first) < 1e-5
    name = "experts/parent/adapter_model.safetensors"
    assert (tmp_path / "both" / name).read_bytes() == (parent.path / Path(name).name).read_bytes()


@pytest.mark.parametrize("way", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_training_goes_on_and_ends_as_an_uninterrupted_one(
    way: signal.Signals, tmp_path: Path, data: Path, base_folder: Path
) -> None:
    path = recipe(tmp_path, base_folder, training={"epochs": "12"}, dtype='"float32"')
    alone = train(path, tmp_path / "alone", **places_of(tmp_path))
    assert isinstance(alone, Artifact)
    with torchrun(tmp_path, path, "both") as child:
        talk = until(child, "dev loss", 3)
        if way == signal.SIGINT:
            child.send_signal(way)  # torchrun passes it on
        else:
            os.kill(workers(child)[1], way)
        talk += child.communicate(timeout=PATIENCE)[1]
    assert child.returncode != 0
    (line,) = ours(talk)
    if way == signal.SIGINT:
        assert "checkpoint saved in" in line
        assert line.endswith("run the same command to resume")
    else:
        assert "another process ended" in line
    assert not (tmp_path / "both").exists()
    code, _, talk = whole(tmp_path, path, "both", count=3)  # of another number, even
    assert code == 0, talk
    assert talk.count("resuming from checkpoint") == 1
    assert difference(alone.path, tmp_path / "both") < 1e-5


def test_an_error_of_all_is_told_once_and_leaves_nothing(
    tmp_path: Path, data: Path, base_folder: Path
) -> None:
    path = recipe(tmp_path, base_folder, training={"precision": '"float16"'})
    code, said, talk = whole(tmp_path, path, "out")
    assert (code, said) == (1, "")
    (line,) = ours(talk)
    assert "needs a GPU" in line
    (tmp_path / "out.training").mkdir(exist_ok=True)
    path = recipe(tmp_path, base_folder)
    with FileLock(tmp_path / "out.training" / "lock"):
        code, said, talk = whole(tmp_path, path, "out")
    assert (code, said) == (1, "")
    (line,) = ours(talk)
    assert "another training is running there" in line
    path = recipe(tmp_path, base_folder, training={"batch_size": "1"})
    code, said, talk = whole(tmp_path, path, "out")
    (line,) = ours(talk)
    assert "a step of 1 rows cannot be shared by 2 processes; start fewer" in line
    assert not (tmp_path / "out").exists()


def test_a_loss_that_is_not_finite_ends_every_process_with_advice(
    tmp_path: Path, data: Path, base_folder: Path
) -> None:
    path = recipe(tmp_path, base_folder, rate=1e30, epochs=4)
    began = time.monotonic()
    code, _, talk = whole(tmp_path, path, "out")
    assert code == 1
    assert time.monotonic() - began < PATIENCE
    assert any(
        "the loss is nan at step" in line and "lower peak_learning_rate" in line for line in ours(talk)
    )
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("watched", [True, False])
def test_a_last_step_that_ruins_the_model_is_told_once(
    watched: bool, tmp_path: Path, data: Path, base_folder: Path
) -> None:
    path = recipe(tmp_path, base_folder, training={"epochs": None, "steps": "1"}, rate=1e30)
    if not watched:
        path.write_text(path.read_text().replace('dev = "data/dev"\n', ""))
    code, _, talk = whole(tmp_path, path, "out")
    assert code == 1
    (line,) = ours(talk)
    assert ("the dev loss is nan at step 1" if watched else "the model is not finite after step 1") in line
    assert not (tmp_path / "out").exists()


LITTLE_MEMORY_FOR_THE_SECOND = """
import os, resource, sys
from pathlib import Path
from adapter_hub.cli import main
import adapter_hub.trainers.training
if os.environ["RANK"] == "1":
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + 2**30, -1))
sys.exit(main(sys.argv[1:]))
"""


def test_a_process_without_memory_says_what_to_do_and_ends_the_others(
    tmp_path: Path, data: Path, base_folder: Path
) -> None:
    settings: dict[str, str | None] = {"batch_size": "6000", "audio_length": '"chunk"', "spec_augment": None}
    path = recipe(tmp_path, base_folder, training=settings)
    often = '[[data.train]]\nfolder = "data/train"\nweight = 100\n' * 5
    text = path.read_text().replace('train = "data/train"\ndev = "data/dev"\n', "")
    path.write_text(text.replace("[lora]", f"{often}[lora]"))
    (tmp_path / "limited.py").write_text(LITTLE_MEMORY_FOR_THE_SECOND)
    with torchrun(tmp_path, path, "out", program=(str(tmp_path / "limited.py"),)) as child:
        _, talk = child.communicate(timeout=PATIENCE)
    assert child.returncode == 1
    assert any("not enough memory; lower training.batch_size" in line for line in ours(talk)), talk
    assert len(ours(talk)) <= 2  # the first process may have noticed
    assert not (tmp_path / "out").exists()


def test_a_single_process_of_torchrun_is_an_ordinary_training(
    tmp_path: Path, data: Path, base_folder: Path
) -> None:
    path = recipe(tmp_path, base_folder, dtype='"float32"')
    alone = train(path, tmp_path / "alone", **places_of(tmp_path))
    assert isinstance(alone, Artifact)
    code, _, talk = whole(tmp_path, path, "one", count=1)
    assert code == 0, talk
    assert difference(alone.path, tmp_path / "one") == 0
    assert torch.distributed.is_available()
