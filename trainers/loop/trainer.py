"""The training loop: transformers' Seq2SeqTrainer, fed with prepared examples.

Added to it: inputs that may end where their audio ends, batches of similar length that processes share, a
loss over the text alone, in which every token of a step weighs the same, and checkpoints that hold only
what is trained.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch.utils.data import DataLoader
from transformers import Seq2SeqTrainer, Seq2SeqTrainingArguments, TrainerControl, TrainerState

from adapter_hub.errors import AdapterHubError, DivergedError, IntegrityError
from adapter_hub.escaping import shown
from adapter_hub.files.reading import read_bounded
from adapter_hub.model.memory import is_out_of_memory
from adapter_hub.trainers.loop.batches import (
    BatchRow,
    Collator,
    ShardedBatchSampler,
    dev_batches,
)
from adapter_hub.trainers.loop.callbacks import SaveByTime, StopOnInterrupt, stops_early
from adapter_hub.trainers.loop.checkpoints import STATE, STATE_BYTES
from adapter_hub.trainers.loop.ctc import CtcCollator, CtcObjective
from adapter_hub.trainers.loop.families import FAMILIES
from adapter_hub.trainers.loop.learning_rates import slanted_triangle, slow_down
from adapter_hub.trainers.loop.objective import Objective, text_tokens
from adapter_hub.trainers.loop.process_group import ProcessGroup
from adapter_hub.trainers.methods.trainable import TrainableModel
from adapter_hub.trainers.recipe_tables import TrainingTable

CHECKPOINT_WEIGHTS = "adapter_model.safetensors"


class Arguments(Seq2SeqTrainingArguments):
    """transformers' arguments, with one GPU per process: more GPUs are used by more processes.

    Attributes:
        settings: the recipe's, for what transformers has no argument for.
    """

    settings: TrainingTable

    @property
    def n_gpu(self) -> int:
        """Return at most 1; transformers would split batches over all GPUs that it sees."""
        return min(1, super().n_gpu)


class AdapterTrainer(Seq2SeqTrainer):
    """Trains a `TrainableModel`.

    Args:
        objective: the loss of the model.
        trainable: the model; checkpoints hold its state.
        train_dataset: rows to train on.
        train_batches: this process's batches of them.
        eval_dataset: rows whose loss is measured after each epoch, or None.
        dev: this process's batches of them.
        collator: of training batches; dev batches are never masked.
        processes: that train together.
        stop: knows whether Ctrl-C was pressed.
        others: arguments of the base class.
    """

    args: Arguments
    control: TrainerControl
    lr_scheduler: Any
    train_dataset: Any
    eval_dataset: Any

    def __init__(
        self,
        *,
        objective: Objective | CtcObjective,
        trainable: TrainableModel,
        train_batches: ShardedBatchSampler,
        dev: Sequence[Sequence[BatchRow]],
        collator: Collator | CtcCollator,
        processes: ProcessGroup,
        stop: StopOnInterrupt,
        **others: Any,
    ) -> None:
        self.trainable, self.dev, self.collator = trainable, dev, collator
        self.train_batches = train_batches
        self.processes, self.stop = processes, stop
        self._began, self._before = time.monotonic(), 0.0
        super().__init__(model=objective, **others)
        self.saving = SaveByTime(self.args.settings.save_minutes)
        self.add_callback(self.saving)

    @property
    def seconds(self) -> float:
        """Wall-clock seconds since the first step; an interruption does not count."""
        return self._before + time.monotonic() - self._began

    def get_train_dataloader(self) -> Any:
        """Return this process's share of the batches; accelerate need not distribute them."""
        batches: Any = self.train_batches
        return DataLoader(self.train_dataset, batch_sampler=batches, collate_fn=self.collator)

    def create_optimizer(self, *model: Any) -> torch.optim.Optimizer:
        """Return transformers' AdamW, with the learning rates of the recipe's `layer_decay`.

        Args:
            model: passed on; transformers 5.0 gives none.
        """
        optimizer = super().create_optimizer(*model)
        if self.args.settings.layer_decay != 1:
            config = self.trainable.whisper.config
            layers = FAMILIES[config.model_type].layers(config)
            slow_down(optimizer, self.model.named_parameters(), self.args.settings.layer_decay, layers)
        return optimizer

    def create_scheduler(
        self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None
    ) -> torch.optim.lr_scheduler.LRScheduler:
        """Return the recipe's schedule.

        Args:
            num_training_steps: of the whole training.
            optimizer: None for the trainer's own.
        """
        if self.args.settings.schedule == "slanted-triangle" and self.lr_scheduler is None:
            steps, cut = num_training_steps, self.args.settings.warmup_share
            self.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(
                optimizer or self.optimizer, lambda step: slanted_triangle(step, steps, cut)
            )
            self._created_lr_scheduler = True
        return super().create_scheduler(num_training_steps, optimizer)

    def _get_num_items_in_batch(self, batch_samples: list[Any], device: torch.device) -> int:
        """Return the text tokens of a step, those of other processes included; agree on what follows it."""
        counted = sum(int(text_tokens(batch["labels"])) for batch in batch_samples)
        due = self.processes.is_main and self.saving.is_due
        tokens, pressed, save = self.processes.all_reduce(counted, int(self.stop.pressed), int(due))
        self.stop.interrupted, self.saving.agreed = pressed > 0, save > 0
        return max(1, tokens)

    def compute_loss(
        self, model: Any, inputs: dict[str, torch.Tensor], num_items_in_batch: Any = None, **_: Any
    ) -> torch.Tensor:
        """Return the loss of a batch's text (nats) over the text tokens of the whole step.

        The step's other batches and processes add theirs, so that every token weighs the same.

        Args:
            model: the objective, wrapped for data-parallel training.
            inputs: from `Collator`.
            num_items_in_batch: text tokens of the whole step, of all processes.

        Returns:
            A float32 scalar.

        Raises:
            DivergedError: the loss is not finite.
        """
        loss: torch.Tensor = model(**inputs)
        if not torch.isfinite(loss):
            raise _diverged(f"the loss is {loss.item()} at step {self.state.global_step + 1}")
        # gradients are averaged over processes, and the count is of all of them
        return loss * (self.processes.world_size / num_items_in_batch)

    @torch.no_grad()
    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        """Return the dev loss in nats per token; error rates are measured after training, by `evaluate`.

        Raises:
            DivergedError: the loss is not finite. OtherProcessError: the same, in the other processes.
        """
        total = torch.zeros(2, device=self.args.device)
        for rows in self.dev:
            total += self._summed_loss(self.eval_dataset, rows)
        loss, count = self.accelerator.reduce(total).tolist()
        with self.processes.synchronised():
            if not math.isfinite(loss):
                raise _diverged(f"the dev loss is {loss / count} at step {self.state.global_step}")
        metrics = {"eval_loss": loss / count}
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def _summed_loss(self, dataset: Any, rows: Sequence[BatchRow]) -> torch.Tensor:
        """Return the summed loss of a batch that is not trained on, and its text tokens, `[2]`."""
        self.model.eval()
        collate = self.collator.unmasked()
        inputs = self._prepare_inputs(collate([dataset[row] for row in rows]))
        with self.compute_loss_context_manager():
            return torch.stack([self.model(**inputs), text_tokens(inputs["labels"])])

    @torch.no_grad()
    def check_finite(self) -> None:
        """Refuse a model that its last step made unusable; losses are checked before a step only.

        Raises:
            DivergedError: a weight is not finite, or the loss of a row is not.
        """
        weights = (weight for weight in self.model.parameters() if weight.requires_grad)
        whole = all(bool(torch.isfinite(weight).all()) for weight in weights)
        (rows,) = dev_batches(self.train_dataset.examples[:1], 1, self.train_batches.shortest)
        if not (whole and torch.isfinite(self._summed_loss(self.train_dataset, rows)).all()):
            raise _diverged(f"the model is not finite after step {self.state.global_step}")

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add losses, and the seconds that training has taken so far, to the log that checkpoints hold.

        Args:
            logs: what transformers logs.
            start_time: passed on.
        """
        super().log(logs | {"seconds": self.seconds}, start_time)

    def floating_point_ops(self, inputs: Any) -> int:
        """Return 0: the number is not used, and transformers would count every weight at every step."""
        return 0

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        folder = Path(output_dir or self.args.output_dir)
        folder.mkdir(parents=True, exist_ok=True)
        save_file(self.trainable.state(), folder / CHECKPOINT_WEIGHTS)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        checkpoint = Path(resume_from_checkpoint)
        self._load_weights(checkpoint)
        with _readable(checkpoint):
            log = json.loads(read_bounded(checkpoint / STATE, STATE_BYTES))["log_history"]
            self._before = max((float(row.get("seconds", 0.0)) for row in log), default=0.0)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        with _readable(Path(checkpoint or ".")):
            super()._load_optimizer_and_scheduler(checkpoint)

    def _load_rng_state(self, checkpoint: str | None) -> None:
        with _readable(Path(checkpoint or ".")):
            super()._load_rng_state(checkpoint)

    def _load_best_model(self) -> None:
        self._load_weights(Path(self.args.output_dir) / f"checkpoint-{self.state.best_global_step}")

    def _load_weights(self, checkpoint: Path) -> None:
        with _readable(checkpoint):
            self.trainable.load_state(load_file(checkpoint / CHECKPOINT_WEIGHTS))

    def restore_finished(self, checkpoint: Path, patience: int | None) -> bool:
        """Load the end of a training that is complete; transformers would train it further.

        Args:
            checkpoint: the last one.
            patience: epochs without a lower dev loss after which the recipe stops; None for all its steps.

        Returns:
            False, with nothing changed, if there are steps left.

        Raises:
            IntegrityError: the checkpoint cannot be read.
        """
        with _readable(checkpoint):
            state = TrainerState.load_from_json(str(checkpoint / STATE))
            stopped = patience is not None and stops_early(state.log_history, patience)
        if state.global_step < state.max_steps and not stopped:
            return False
        self.state = state
        self._load_from_checkpoint(str(checkpoint))
        if self.args.load_best_model_at_end:
            self._load_best_model()
        return True


def _diverged(what: str) -> DivergedError:
    return DivergedError(
        f"training: {what}; lower peak_learning_rate, or look for broken audio with `adapter-hub data check`"
    )


@contextmanager
def _readable(checkpoint: Path) -> Iterator[None]:
    """Turn any error of transformers or torch about the files of a checkpoint into one line."""
    try:
        yield
    except (AdapterHubError, MemoryError, KeyboardInterrupt):
        raise
    except Exception as error:
        if is_out_of_memory(error):
            raise
        reason = shown(" ".join(f"{type(error).__name__}: {error}".split()), 120)
        raise IntegrityError(
            f"{checkpoint}: cannot be read ({reason})",
            (),
            "remove that folder to resume from the checkpoint before it",
        ) from error
