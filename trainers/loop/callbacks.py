"""Callbacks of the trainer: progress, event files, and the reasons to stop before the last step."""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from adapter_hub.reporting import Tell
from adapter_hub.trainers.loop.batches import ShardedBatchSampler

ONE_PRESS = 1.0  # seconds; torchrun passes on the interrupt that the terminal has sent to every process
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

    Attributes:
        pressed: Ctrl-C reached this process.
        interrupted: all processes have agreed on it; they stop after the same step.
    """

    def __init__(self) -> None:
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

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> TrainerControl:
        """Ask transformers to stop; it writes a checkpoint first, as at the end of every epoch."""
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


class ReportProgress(TrainerCallback):
    """Reports step, loss and time left, about every two seconds and at the end of each epoch."""

    def __init__(self, tell: Tell) -> None:
        self.tell = tell
        self._began = self._told = 0.0
        self._first = 0

    def on_train_begin(self, args: Any, state: TrainerState, control: Any, **_: Any) -> None:
        """Start the clock; a resumed run has steps behind it."""
        self._began, self._first = time.monotonic(), state.global_step

    def on_log(self, args: Any, state: TrainerState, control: Any, logs: Any = None, **_: Any) -> None:
        """Report the losses that transformers logs, in nats per token."""
        names = {"loss": "loss", "eval_loss": "dev loss"}
        losses = [f"{name} {float(logs[key]):.4f}" for key, name in names.items() if key in (logs or {})]
        now = time.monotonic()
        last = state.global_step == state.max_steps
        if not losses or not (last or "eval_loss" in logs or now - self._told > 2):
            return
        self._told = now
        done = max(1, state.global_step - self._first)
        left = (state.max_steps - state.global_step) * (now - self._began) / done
        self.tell(f"step {state.global_step}/{state.max_steps}  {' '.join(losses)}  {_minutes(left)} left")


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
