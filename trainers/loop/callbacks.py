"""Callbacks of the trainer: progress, event files, and the reasons to stop before the last step."""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from adapter_hub.reporting import PassingLine, Tell
from adapter_hub.trainers.loop.batches import ShardedBatchSampler

ONE_PRESS = 1.0  # seconds; torchrun passes on the interrupt that the terminal has sent to every process
EVERY = 2.0  # seconds between two lines of progress
NAMES = {"loss": "loss", "eval_loss": "dev loss"}
SCALARS = {
    "loss": "loss",
    "eval_loss": "dev_loss",
    "learning_rate": "learning_rate",
    "grad_norm": "grad_norm",
}


class SeedSteps(TrainerCallback):
    """Seeds dropout by step, so that a resumed training draws the same without any saved state."""

    def __init__(self, random_seed: int, rank: int) -> None:
        self.random_seed, self.rank = random_seed, rank

    def on_step_begin(self, args: Any, state: TrainerState, control: Any, **_: Any) -> None:
        """Seed torch's generators."""
        torch.manual_seed((self.random_seed * 1_000_003 + state.global_step) * 1_009 + self.rank)


class ChooseEpoch(TrainerCallback):
    """Tells the batches which epoch begins.

    transformers tells the loader; before 5.17 nobody, where a resumed epoch's first batches are skipped: that
    is another loader, and it would go through the rows of the first epoch.
    """

    def __init__(self, batches: ShardedBatchSampler) -> None:
        self.batches = batches

    def on_epoch_begin(self, args: Any, state: TrainerState, control: Any, **_: Any) -> None:
        """Choose the epoch of the next step; nothing has been taken from the batches yet."""
        self.batches.set_epoch(state.global_step // self.batches.steps_per_epoch)


class StopEarly(TrainerCallback):
    """Ends the training after `patience` epochs without a lower dev loss.

    Counted from the log, which a checkpoint holds: a resumed run stops where an uninterrupted one does.
    """

    def __init__(self, patience: int) -> None:
        self.patience = patience

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> TrainerControl:
        """Ask transformers to stop."""
        if stops_early(state.log_history, self.patience):
            control.should_training_stop = True
        return control


def stops_early(log: Iterable[Mapping[str, Any]], patience: int) -> bool:
    """Tell whether the lowest dev loss is at least `patience` epochs old.

    Args:
        log: `TrainerState.log_history`.
        patience: epochs without a lower dev loss.
    """
    losses = [row["eval_loss"] for row in log if "eval_loss" in row]
    return bool(losses) and len(losses) - 1 - losses.index(min(losses)) >= patience


class StopOnInterrupt(TrainerCallback):
    """Ctrl-C ends the step, saves a checkpoint and stops; a second one stops at once.

    Args:
        tell: receives a line when Ctrl-C is pressed.
        is_alone: whether no other process has to agree, so that the step that runs is the last.

    Attributes:
        pressed: Ctrl-C reached this process.
        interrupted: all processes have agreed on it; they stop after the same step.
    """

    def __init__(self, tell: Tell = lambda _: None, *, is_alone: bool = False) -> None:
        self.tell, self.is_alone = tell, is_alone
        self.pressed = self.interrupted = False
        self._before: Any = None
        self._when = 0.0

    def __enter__(self) -> StopOnInterrupt:
        if threading.current_thread() is threading.main_thread():  # no other thread receives signals
            self._before = signal.signal(signal.SIGINT, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)

    def _note(self, _: int, __: FrameType | None) -> None:
        if self.pressed and time.monotonic() - self._when > ONE_PRESS:
            raise KeyboardInterrupt
        if not self.pressed:
            self.pressed, self._when = True, time.monotonic()
            with suppress(RuntimeError):  # the signal came while another line was being written
                self.tell("stopping after this step; Ctrl-C again stops at once, without a checkpoint")

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> TrainerControl:
        """Ask transformers to stop; it writes a checkpoint first, as at the end of every epoch."""
        self.interrupted |= self.is_alone and self.pressed
        if self.interrupted:
            control.should_training_stop = True
        return control

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> TrainerControl:
        """Leave out the dev loss of an epoch that was cut short: it ends after training is resumed."""
        over = state.global_step >= state.max_steps  # within an epoch, where the recipe counts steps
        if self.interrupted and not over and state.epoch is not None and state.epoch != int(state.epoch):
            control.should_evaluate = False
        return control


class SaveByTime(TrainerCallback):
    """Saves a checkpoint within an epoch when the last one is some minutes old.

    Args:
        minutes: between two checkpoints; 0 for none within an epoch.

    Attributes:
        agreed: all processes save after this step, as the first of them says.
    """

    def __init__(self, minutes: float) -> None:
        self.minutes, self.agreed = minutes, False
        self._saved = time.monotonic()

    @property
    def is_due(self) -> bool:
        """Whether the last checkpoint is old enough, by this process's clock."""
        return bool(self.minutes) and time.monotonic() - self._saved >= 60 * self.minutes

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Start the clock."""
        self._saved = time.monotonic()

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Start it again."""
        self._saved = time.monotonic()

    def on_step_end(
        self, args: Any, state: TrainerState, control: TrainerControl, **_: Any
    ) -> TrainerControl:
        """Ask for a checkpoint; at the end of an epoch one is written anyway, after its dev loss."""
        ends = state.global_step >= state.max_steps or state.epoch in (None, int(state.epoch or 0))
        if self.agreed and not ends:
            control.should_save = True
        return control


class ReportProgress(TrainerCallback):
    """Reports step, losses, learning rate, speed and time left every two seconds, and every dev loss."""

    def __init__(self, tell: Tell) -> None:
        self.tell = tell
        self._began = self._told = 0.0
        self._first = 0
        self._logged: dict[str, float] = {}

    def on_train_begin(self, args: Any, state: TrainerState, control: Any, **_: Any) -> None:
        """Start the clock; a resumed run has steps behind it."""
        self._began, self._first = time.monotonic(), state.global_step

    def on_step_end(self, args: Any, state: TrainerState, control: Any, **_: Any) -> None:
        """Report the losses that were logged last."""
        if time.monotonic() - self._told > EVERY:
            self._tell(
                state, {key: self._logged[key] for key in ("loss", "learning_rate") if key in self._logged}
            )

    def on_log(self, args: Any, state: TrainerState, control: Any, logs: Any = None, **_: Any) -> None:
        """Report the losses that transformers logs, in nats per token."""
        self._logged |= logs or {}
        last = state.global_step == state.max_steps
        if not {"loss", "eval_loss"} & set(logs or {}):
            return
        if last or "eval_loss" in logs or time.monotonic() - self._told > EVERY:
            self._tell(state, logs, stays=last or "eval_loss" in logs)

    def _tell(self, state: TrainerState, logs: Mapping[str, float], *, stays: bool = False) -> None:
        now = time.monotonic()
        self._told = now
        done, total = state.global_step, max(1, state.max_steps)
        speed = max(1, done - self._first) / max(now - self._began, 1e-3)
        losses = [f"{NAMES[key]} {float(logs[key]):.4f}" for key in NAMES if key in logs]
        rate = [f"learning rate {logs['learning_rate']:.1e}"] if "learning_rate" in logs else []
        left = f"{speed:.2g} steps per second  {_minutes((total - done) / speed)} left"
        line = "  ".join([f"step {done}/{total}", *([" ".join(losses)] if losses else []), *rate, left])
        self.tell(line if stays else PassingLine(line, done / total))


class WriteEvents(TrainerCallback):
    """Writes TensorBoard's event files: losses (nats per token), learning rate, norm of the gradient.

    A resumed run continues in the same folder, and what was written after its checkpoint is discarded.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._writer: Any = None

    def on_train_begin(self, args: Any, state: TrainerState, control: Any, **_: Any) -> None:
        """Open a file of events."""
        from torch.utils.tensorboard import SummaryWriter  # noqa: PLC0415  # takes a second

        self._writer = SummaryWriter(str(self.folder), purge_step=state.global_step + 1)

    def on_log(
        self, args: Any, state: TrainerState, control: Any, logs: Mapping[str, Any] | None = None, **_: Any
    ) -> None:
        """Write what transformers logs."""
        for key, name in SCALARS.items():
            if key in (logs or {}):
                self._writer.add_scalar(name, float((logs or {})[key]), state.global_step)

    def on_epoch_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Flush the events to the file."""
        self._writer.flush()

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Close the file."""
        self._writer.close()


def _minutes(seconds: float) -> str:
    return f"{int(seconds // 60)}:{math.ceil(seconds % 60):02d}"
