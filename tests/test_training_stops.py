"""A training that is stopped or killed loses little, says what it does, and leaves others' checkpoints be."""

from __future__ import annotations

import os
import re
import shutil
import signal
from pathlib import Path

import pytest
from small_training import places, recipe
from transformers import TrainerControl, TrainerState, TrainingArguments

from adapter_hub.artifact.folder import Artifact
from adapter_hub.cli.terminal import progress
from adapter_hub.cli.terminal.progress import Bar, Teller
from adapter_hub.reporting import PassingLine
from adapter_hub.trainers.loop.callbacks import StopOnInterrupt
from adapter_hub.trainers.loop.fitting import TrainingInterruptedError
from adapter_hub.trainers.training import train


class Killed(BaseException):
    """As by the system: nothing of ours can react."""


def die(line: str) -> None:
    if "dev loss" in line:
        raise Killed("killed")


def killed(folder: Path, path: Path) -> Path:
    """Train until the first dev loss, before the epoch's checkpoint; return the folder of checkpoints."""
    with pytest.raises(Killed, match="killed"):
        train(path, folder / "out", tell=die, **places(folder))
    (kept,) = (folder / "out.training").glob("*/checkpoint-2")
    return kept


def test_ctrl_c_says_that_the_step_is_the_last_and_it_is(tmp_path: Path) -> None:
    said: list[str] = []
    with StopOnInterrupt(said.append, is_alone=True) as stop:
        os.kill(os.getpid(), signal.SIGINT)
        control = stop.on_step_end(TrainingArguments(str(tmp_path)), TrainerState(), TrainerControl())
    assert said == ["stopping after this step; Ctrl-C again stops at once, without a checkpoint"]
    assert (control.should_training_stop, stop.interrupted) == (True, True)


def test_an_interrupted_training_tells_rate_and_speed_and_stops(
    tmp_path: Path, data: Path, base_folder: Path
) -> None:
    said: list[str] = []

    def press(line: str) -> None:
        said.append(line)
        if line.startswith("step 1/"):
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(TrainingInterruptedError, match="at step [12] of 6, checkpoint saved"):
        train(recipe(tmp_path, base_folder), tmp_path / "out", tell=press, **places(tmp_path))
    assert [line for line in said if line.startswith("stopping after this step")]
    (first,) = [line for line in said if line.startswith("step 1/6")]
    assert isinstance(first, PassingLine)
    assert first.share == pytest.approx(1 / 6)
    assert re.search(r"[\d.]+ steps per second  \d+:\d\d left$", first)


def test_a_killed_training_goes_on_within_the_epoch_to_the_same_weights(
    tmp_path: Path, data: Path, base_folder: Path
) -> None:
    path = recipe(tmp_path, base_folder, training={"save_minutes": "1e-9"})
    whole = train(path, tmp_path / "whole", **places(tmp_path))
    killed(tmp_path, path)
    said: list[str] = []
    resumed = train(path, tmp_path / "out", tell=said.append, **places(tmp_path))
    assert "resuming from checkpoint-2" in said
    assert isinstance(whole, Artifact)
    assert isinstance(resumed, Artifact)
    assert resumed.manifest.weights_digest == whole.manifest.weights_digest
    assert [line for line in said if "learning rate" in line]


def test_another_recipe_in_the_same_place_leaves_the_first_one_s_checkpoints(
    tmp_path: Path, data: Path, base_folder: Path
) -> None:
    path = recipe(tmp_path, base_folder, training={"save_minutes": "1e-9"})
    text, kept = path.read_text(), killed(tmp_path, path)
    path.write_text(text.replace("epochs = 2", "epochs = 1"))
    said: list[str] = []
    train(path, tmp_path / "out", tell=said.append, **places(tmp_path))
    assert kept.is_dir()
    assert [line for line in said if "this one starts from scratch and leaves them" in line]
    assert [line for line in said if "keeps the checkpoints of 1 other trainings" in line]
    shutil.rmtree(tmp_path / "out")
    path.write_text(text)
    said.clear()
    train(path, tmp_path / "out", tell=said.append, **places(tmp_path))
    assert "resuming from checkpoint-2" in said
    assert not (tmp_path / "out.training").exists()


def test_a_log_is_told_how_far_it_is_now_and_then(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    bar = Bar("evaluating", 4)
    bar.add(1, 2.0)
    assert capfd.readouterr().err == ""  # short work needs no lines
    monkeypatch.setattr(progress, "LOG_SECONDS", 0.0)
    bar.add(1, 2.0)
    bar.close()
    assert re.fullmatch(r"evaluating 2/4  [\d.]+ s of audio per second, \d+ s left\n", capfd.readouterr().err)


def test_on_a_terminal_a_bar_is_drawn_over_itself_and_cleared_for_what_stays(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    teller = Teller()
    teller.shown = True
    teller(PassingLine(f"step 1/4  {'loss ' * 40}", 0.25))
    drawn = capfd.readouterr().err
    assert drawn.startswith(f"\r[{'#' * 6}{'.' * 18}] 25 %  step 1/4  loss")
    assert len(drawn.strip("\r").replace("\x1b[K", "")) < 60
    teller("dropped a.wav: too short")
    assert capfd.readouterr().err == "\r\x1b[Kdropped a.wav: too short\n"
