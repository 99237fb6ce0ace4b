"""The training loop: transformers' Seq2SeqTrainer on PEFT's LoRA, fed with prepared examples.

What is ours: inputs that may end where their audio ends, batches of like length, a loss over the text
alone, masks that depend on seed, epoch and row only (so that a resumed run sees the same), and
checkpoints of the adapter without a look at the Hub.
"""

from __future__ import annotations

import json
import math
import shutil
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch.utils.data import Dataset, Sampler
from transformers import Seq2SeqTrainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from adapter_hub.errors import InvalidInputError
from adapter_hub.trainers.data.mixture import epoch_length, epoch_rows
from adapter_hub.trainers.examples import Example, pad, targets
from adapter_hub.trainers.objective import Objective, text_tokens
from adapter_hub.trainers.spec_augment import mask
from adapter_hub.trainers.trainee import Trainee

BLUR = 0.05  # of the lengths that are sorted by: a twentieth of a batch is padding, none comes twice
CHECKPOINT_WEIGHTS = "adapter_model.safetensors"


class Rows(Dataset[tuple[int, Example]]):
    """Examples with their index, which seeds their masks."""

    def __init__(self, examples: Sequence[Example]) -> None:
        self.examples = examples

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, index: int) -> tuple[int, Example]:
        return index, self.examples[index]


class LikeLengths(Sampler[int]):
    """Shuffles every epoch anew, so that a batch holds examples of like length.

    A row comes as often as its weight says. The order depends on `random_seed` and epoch alone;
    transformers calls `set_epoch`.
    """

    def __init__(self, examples: Sequence[Example], batch_size: int, random_seed: int) -> None:
        self.lengths = np.array([example.features.shape[1] for example in examples])
        self.weights = [example.weight for example in examples]
        self.batch_size, self.random_seed, self.epoch = batch_size, random_seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch's order."""
        self.epoch = epoch

    def __len__(self) -> int:
        return epoch_length(self.weights)

    def __iter__(self) -> Iterator[int]:
        rows = np.array(epoch_rows(self.weights, self.epoch, self.random_seed))
        rng = np.random.default_rng((self.random_seed, self.epoch))
        blurred = self.lengths[rows] * rng.uniform(1 - BLUR, 1 + BLUR, len(rows))
        order = rows[np.argsort(blurred, kind="stable")]
        groups = [order[i : i + self.batch_size] for i in range(0, len(order), self.batch_size)]
        # the last group may be short: it stays last, so that batches do not straddle groups
        whole = groups[:-1] if len(groups[-1]) < self.batch_size else groups
        for i in rng.permutation(len(whole)):
            yield from map(int, whole[i])
        if len(whole) < len(groups):
            yield from map(int, groups[-1])


class Collator:
    """Stacks examples into a batch.

    Args:
        end: id of end-of-text, the padding of decoder inputs.
        chunk: frames of the base model's chunk; None: as long as the longest example.
        sampler: tells the epoch, for the masks; None for no masks.
    """

    def __init__(self, end: int, chunk: int | None, sampler: LikeLengths | None) -> None:
        self.end, self.chunk, self.sampler = end, chunk, sampler

    def __call__(self, rows: Sequence[tuple[int, Example]]) -> dict[str, torch.Tensor]:
        """Return `input_features` [batch, mels, frames], `decoder_input_ids` and `labels` [batch, tokens]."""
        examples = [example for _, example in rows]
        longest = max(example.features.shape[1] for example in examples)
        features = pad(examples, self.chunk or longest + longest % 2)
        if self.sampler is not None:
            for (index, example), row in zip(rows, features, strict=True):
                seed = (self.sampler.random_seed, self.sampler.epoch, index)
                mask(row[:, : example.features.shape[1]], np.random.default_rng(seed))
        inputs, labels = targets(examples, self.end)
        return {
            "input_features": torch.from_numpy(features),
            "decoder_input_ids": torch.from_numpy(inputs),
            "labels": torch.from_numpy(labels),
        }


class AdapterTrainer(Seq2SeqTrainer):
    """Trains what a method started, on variable-length features; the base class gets the other arguments."""

    data_collator: Any
    control: TrainerControl

    def __init__(
        self,
        *,
        trainee: Trainee,
        label_smoothing: float,
        train_sampler: LikeLengths,
        dev_collator: Collator,
        **kwargs: Any,
    ) -> None:
        self.trainee, self._sampler, self._dev_collator = trainee, train_sampler, dev_collator
        super().__init__(model=Objective(trainee, label_smoothing), **kwargs)

    def compute_loss(
        self, model: Any, inputs: dict[str, torch.Tensor], num_items_in_batch: Any = None, **_: Any
    ) -> torch.Tensor:
        """Return the cross-entropy of a batch's text (nats) over the text tokens of the whole step.

        The step's other accumulated parts and processes add theirs, so that every token weighs the same.
        """
        loss: torch.Tensor = model(**inputs)
        if not torch.isfinite(loss):
            raise InvalidInputError(
                f"training: the loss is {loss.item()} at step {self.state.global_step + 1}; "
                "lower peak_learning_rate, or look for broken audio with `adapter-hub data check`"
            )
        # gradients are averaged over processes, and the count is of all of them
        return loss * (self.accelerator.num_processes / num_items_in_batch)

    @torch.no_grad()
    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        """Return the dev loss (nats a token); text is scored outside of training, by `evaluate`."""
        model = self.model
        model.eval()
        total = torch.zeros(2, device=self.args.device)
        for batch in self.get_eval_dataloader():
            inputs = self._prepare_inputs(batch)
            with self.compute_loss_context_manager():
                total += torch.stack([model(**inputs), text_tokens(inputs["labels"])])
        loss, count = self.accelerator.reduce(total).tolist()
        metrics = {"eval_loss": loss / count}
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def floating_point_ops(self, inputs: Any) -> int:
        """Return 0: nobody asks, and transformers would count every weight at every step."""
        return 0

    def get_eval_dataloader(self, eval_dataset: Any = None) -> Any:
        """Return dev batches, never masked."""
        ours, self.data_collator = self.data_collator, self._dev_collator
        try:
            return super().get_eval_dataloader(eval_dataset)
        finally:
            self.data_collator = ours

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler[int]:
        return self._sampler

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        folder = Path(output_dir or self.args.output_dir)
        folder.mkdir(parents=True, exist_ok=True)
        save_file(self.trainee.state(), folder / CHECKPOINT_WEIGHTS)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        self.trainee.load_state(load_file(Path(resume_from_checkpoint) / CHECKPOINT_WEIGHTS))

    def _load_best_model(self) -> None:
        best = Path(self.args.output_dir) / f"checkpoint-{self.state.best_global_step}"
        self._load_from_checkpoint(str(best))


def last_checkpoint(work: Path) -> Path | None:
    """Return the newest whole checkpoint in `work`; remove what a killed training left half-written.

    transformers writes `trainer_state.json` last: a checkpoint without a readable one is not whole.
    """
    found = sorted(
        work.glob("checkpoint-*"), key=lambda path: int(path.name.rpartition("-")[2]), reverse=True
    )
    for path in found:
        try:
            json.loads((path / "trainer_state.json").read_bytes())
        except (OSError, ValueError):
            shutil.rmtree(path)
        else:
            return path
    return None


class StopEarly(TrainerCallback):
    """Ends the training after so many epochs without a lower dev loss.

    Counted from the log, which a checkpoint holds: a resumed run stops where an uninterrupted one does.
    """

    def __init__(self, patience: int) -> None:
        self.patience = patience

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> TrainerControl:
        """Ask for the end."""
        losses = [row["eval_loss"] for row in state.log_history if "eval_loss" in row]
        if len(losses) - 1 - losses.index(min(losses)) >= self.patience:
            control.should_training_stop = True
        return control


class StopOnInterrupt(TrainerCallback):
    """Ctrl-C ends the step, saves a checkpoint and stops; a second one stops at once."""

    def __init__(self) -> None:
        self.interrupted = False
        self._before: Any = None

    def __enter__(self) -> StopOnInterrupt:
        self._before = signal.signal(signal.SIGINT, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        signal.signal(signal.SIGINT, self._before)

    def _note(self, _: int, __: FrameType | None) -> None:
        self.interrupted = True
        signal.signal(signal.SIGINT, self._before)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> TrainerControl:
        """Ask for a checkpoint and the end."""
        if self.interrupted:
            control.should_save = control.should_training_stop = True
        return control

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> TrainerControl:
        """Leave out the dev loss of an epoch that was cut short: its end comes after the resumption."""
        if self.interrupted and state.epoch is not None and state.epoch != int(state.epoch):
            control.should_evaluate = False
        return control


class ReportProgress(TrainerCallback):
    """Tells step, loss and time left, about every two seconds and at the end of each epoch."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self.tell = tell
        self._began = self._told = 0.0
        self._first = 0

    def on_train_begin(self, args: Any, state: TrainerState, control: Any, **_: Any) -> None:
        """Start the clock; a resumed run has steps behind it."""
        self._began, self._first = time.monotonic(), state.global_step

    def on_log(self, args: Any, state: TrainerState, control: Any, logs: Any = None, **_: Any) -> None:
        """Tell the losses (nats a token) that transformers logs."""
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


def _minutes(seconds: float) -> str:
    return f"{int(seconds // 60)}:{math.ceil(seconds % 60):02d}"
