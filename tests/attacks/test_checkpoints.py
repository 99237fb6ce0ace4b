"""Checkpoints that are damaged, planted or pickled: never run, never sealed as trained here, one line."""

from __future__ import annotations

import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from command_line import Outcome, Run
from small_training import recipe


class Trap:
    """A pickle that writes a file when it is loaded."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.mark,)


@pytest.fixture
def interrupted(
    tmp_path: Path, data: Path, base_folder: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> tuple[Path, Path, Path]:
    """A training that was over when it could not be written: recipe, out, its only checkpoint."""
    path, out = recipe(tmp_path, base_folder), tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr("adapter_hub.trainers.training.write_adapter", _full)
        train(run, tmp_path, path, out)
    *_, last = sorted(
        (tmp_path / "out.training").glob("*/checkpoint-*"), key=lambda found: found.stat().st_mtime
    )
    return path, out, last


def _full(*_: object) -> None:
    raise OSError(28, "No space left on device")


def train(run: Run, tmp_path: Path, path: Path, out: Path, cache: str = "cache") -> Outcome:
    return run("--cache", tmp_path / cache, "--device", "cpu", "train", path, "--out", out)


def test_a_planted_checkpoint_is_not_sealed_as_trained_by_this_recipe(
    interrupted: tuple[Path, Path, Path], run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, out, _ = interrupted
    outcome = train(run, tmp_path, path, out, cache="of somebody else")
    assert outcome.code == 1
    (line,) = [line for line in outcome.err.splitlines() if line.startswith("error: ")]
    assert "was not written by a training of yours on this machine" in line
    assert not out.exists()
    monkeypatch.setenv("ADAPTER_HUB_TRUST_CHECKPOINTS", "1")
    assert train(run, tmp_path, path, out, cache="of somebody else").code == 0


DAMAGES: dict[str, Callable[[Path], None]] = {
    "other weights": lambda folder: _flip(folder / "adapter_model.safetensors"),
    "garbage as random state": lambda folder: _write(folder / "rng_state.pth", b"\x80\x02garbage."),
    "an object as state": lambda folder: _write(folder / "trainer_state.json", b"{}"),
    "a deep state": lambda folder: _write(folder / "trainer_state.json", b"[" * 100_000),
}


def _write(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(data)


QUICK = ("other weights", "a deep state")


@pytest.mark.parametrize(
    "damage", [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in DAMAGES]
)
def test_a_damaged_checkpoint_is_told_and_the_one_before_it_goes_on(
    damage: str, interrupted: tuple[Path, Path, Path], run: Run, tmp_path: Path
) -> None:
    path, out, last = interrupted
    DAMAGES[damage](last)
    outcome = train(run, tmp_path, path, out)
    assert outcome.code == 0, outcome.err
    assert "Traceback" not in outcome.err
    assert (out / "adapter.json").is_file()


@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("optimizer.pt", "pickle"),
        pytest.param("scheduler.pt", "zip", marks=pytest.mark.slow),
        ("rng_state.pth", "zip"),
        pytest.param("optimizer.pt", "garbage", marks=pytest.mark.slow),
    ],
)
def test_nothing_of_a_trusted_checkpoint_is_run_and_what_cannot_be_read_is_named(
    name: str,
    form: str,
    interrupted: tuple[Path, Path, Path],
    run: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path, out, last = interrupted
    _back_one_step(last)
    mark = tmp_path / "was run"
    match form:
        case "pickle":
            (last / name).write_bytes(pickle.dumps(Trap(mark)))
        case "zip":
            torch.save(Trap(mark), last / name)
        case "garbage":
            (last / name).write_bytes(b"garbage")
    shutil.rmtree(tmp_path / "cache" / "trainings")
    monkeypatch.setenv("ADAPTER_HUB_TRUST_CHECKPOINTS", "1")
    outcome = train(run, tmp_path, path, out)
    assert not mark.exists()
    assert outcome.code == 1
    (line,) = [line for line in outcome.err.splitlines() if line.startswith("error: ")]
    assert f"{last}: cannot be read (" in line
    assert "remove that folder" in line
    assert "Traceback" not in outcome.err


def _back_one_step(checkpoint: Path) -> None:
    """Make a finished checkpoint one with steps left, so that it is resumed."""
    import json

    state = json.loads((checkpoint / "trainer_state.json").read_bytes())
    state["global_step"] -= 1
    (checkpoint / "trainer_state.json").write_text(json.dumps(state))
