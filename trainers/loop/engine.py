"""The training loop: transformers' Seq2SeqTrainer, fed with prepared examples.

What is ours: inputs that may end where their audio ends, batches of like length that processes share, a
loss over the text alone, in which every token of a step weighs the same, and checkpoints of what is
trained without a look at the Hub.
"""

from __future__ import annotations

import json
import math
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from transformers import Seq2SeqTrainer, Seq2SeqTrainingArguments, TrainerControl, TrainerState

from adapter_hub.errors import AdapterHubError, DivergedError, IntegrityError
from adapter_hub.escaping import shown
from adapter_hub.files.reading import read_bounded
from adapter_hub.model.memory import is_out_of_memory
from adapter_hub.reporting import Tell
from adapter_hub.trainers.loop.batches import Collator, Loader, Place, Shares, dev_batches
from adapter_hub.trainers.loop.callbacks import StopOnInterrupt, stops_early
from adapter_hub.trainers.loop.checkpoints import Checkpoints
from adapter_hub.trainers.loop.objective import Objective, text_tokens
from adapter_hub.trainers.loop.processes import Processes
from adapter_hub.trainers.methods.trainee import Trainee

CHECKPOINT_WEIGHTS = "adapter_model.safetensors"
STATE = "trainer_state.json"
STATE_BYTES = 2**28  # of it: losses of millions of steps


class Arguments(Seq2SeqTrainingArguments):
    """transformers' arguments for one GPU a process: more are used by more processes."""

    @property
    def n_gpu(self) -> int:
        """Return at most 1; transformers would split batches over all GPUs that it sees."""
        return min(1, super().n_gpu)


class AdapterTrainer(Seq2SeqTrainer):
    """Trains what a method started.

    Args:
        objective: the loss, of the trainee.
        trainee: what checkpoints hold.
        train_dataset: rows to train on.
        shares: this process' batches of them.
        eval_dataset: rows to watch, or None.
        dev: this process' batches of them.
        collator: of training batches; others are never masked.
        processes: that train together.
        stop: knows of an interrupt.
        others: of the base class.
    """

    control: TrainerControl
    train_dataset: Any
    eval_dataset: Any

    def __init__(
        self,
        *,
        objective: Objective,
        trainee: Trainee,
        shares: Shares,
        dev: Sequence[Sequence[Place]],
        collator: Collator,
        processes: Processes,
        stop: StopOnInterrupt,
        **others: Any,
    ) -> None:
        self.trainee, self.shares, self.dev, self.collator = trainee, shares, dev, collator
        self.processes, self.stop = processes, stop
        self._began, self._before = time.monotonic(), 0.0
        super().__init__(model=objective, **others)

    @property
    def seconds(self) -> float:
        """Of wall-clock time since the first step; an interruption does not count."""
        return self._before + time.monotonic() - self._began

    def get_train_dataloader(self) -> Any:
        """Return this process' share of the batches; accelerate has nothing left to share out."""
        batches: Any = self.shares
        return Loader(self.train_dataset, batch_sampler=batches, collate_fn=self.collator)

    def _get_num_items_in_batch(self, batch_samples: list[Any], device: torch.device) -> int:
        """Return the text tokens of a step, those of other processes included; agree on an interrupt."""
        counted = sum(int(text_tokens(batch["labels"])) for batch in batch_samples)
        tokens, pressed = self.processes.sums(counted, int(self.stop.pressed))
        self.stop.interrupted = pressed > 0
        return max(1, tokens)

    def compute_loss(
        self, model: Any, inputs: dict[str, torch.Tensor], num_items_in_batch: Any = None, **_: Any
    ) -> torch.Tensor:
        """Return the cross-entropy of a batch's text (nats) over the text tokens of the whole step.

        The step's other accumulated parts and processes add theirs, so that every token weighs the same.

        Raises:
            DivergedError: it is not finite.
        """
        loss: torch.Tensor = model(**inputs)
        if not torch.isfinite(loss):
            raise _diverged(f"the loss is {loss.item()} at step {self.state.global_step + 1}")
        # gradients are averaged over processes, and the count is of all of them
        return loss * (self.processes.count / num_items_in_batch)

    @torch.no_grad()
    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        """Return the dev loss (nats a token); text is scored outside of training, by `evaluate`.

        Raises:
            DivergedError: it is not finite. ElsewhereError: the same, in all processes but the first.
        """
        total = torch.zeros(2, device=self.args.device)
        for places in self.dev:
            total += self._listen(self.eval_dataset, places)
        loss, count = self.accelerator.reduce(total).tolist()
        with self.processes.together():
            if not math.isfinite(loss):
                raise _diverged(f"the dev loss is {loss / count} at step {self.state.global_step}")
        metrics = {"eval_loss": loss / count}
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def _listen(self, rows: Any, places: Sequence[Place]) -> torch.Tensor:
        """Return the summed cross-entropy of a batch that is not trained on, and its text tokens, `[2]`."""
        self.model.eval()
        collator = Collator(self.collator.end, masked=False)
        inputs = self._prepare_inputs(collator([rows[place] for place in places]))
        with self.compute_loss_context_manager():
            return torch.stack([self.model(**inputs), text_tokens(inputs["labels"])])

    @torch.no_grad()
    def check_finite(self) -> None:
        """Refuse a model that its last step has ruined: the loss is looked at before a step.

        Raises:
            DivergedError: a weight is not finite, or what the model answers to a row is not.
        """
        weights = (weight for weight in self.model.parameters() if weight.requires_grad)
        whole = all(bool(torch.isfinite(weight).all()) for weight in weights)
        (places,) = dev_batches(self.train_dataset.examples[:1], 1, self.shares.chunk)
        if not (whole and torch.isfinite(self._listen(self.train_dataset, places)).all()):
            raise _diverged(f"the model is not finite after step {self.state.global_step}")

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Keep losses, and the seconds that training took so far, in the log that checkpoints hold."""
        super().log(logs | {"seconds": self.seconds}, start_time)

    def floating_point_ops(self, inputs: Any) -> int:
        """Return 0: nobody asks, and transformers would count every weight at every step."""
        return 0

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        folder = Path(output_dir or self.args.output_dir)
        folder.mkdir(parents=True, exist_ok=True)
        save_file(self.trainee.state(), folder / CHECKPOINT_WEIGHTS)

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
            self.trainee.load_state(load_file(checkpoint / CHECKPOINT_WEIGHTS))

    def restore_finished(self, checkpoint: Path, patience: int | None) -> bool:
        """Stand where a training that is over stood at its end; transformers would train it further.

        Args:
            checkpoint: the last one.
            patience: epochs without a lower dev loss after which the recipe stops; None for all its steps.

        Returns:
            False, with nothing changed, if there are steps left.
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


def last_checkpoint(work: Path, kept: Checkpoints | None = None, tell: Tell = lambda _: None) -> Path | None:
    """Return the newest whole checkpoint in `work`; remove what a killed training left half-written.

    transformers writes `trainer_state.json` last: a checkpoint without a readable one is not whole.

    Args:
        work: the folder.
        kept: knows which of them were written here; None takes any.
        tell: told which are removed because they changed.

    Raises:
        ConflictError: as `Checkpoints.newest`.
    """
    found = [path for path in work.glob("checkpoint-*") if path.name.rpartition("-")[2].isdecimal()]
    for path in sorted(found, key=lambda path: int(path.name.rpartition("-")[2]), reverse=True):
        try:
            state = json.loads(read_bounded(path / STATE, STATE_BYTES))
        except (OSError, ValueError, RecursionError):
            state = None
        if isinstance(state, dict):
            return path if kept is None else kept.newest(tell)
        shutil.rmtree(path)
    return None if kept is None else kept.newest(tell)


@contextmanager
def _readable(checkpoint: Path) -> Iterator[None]:
    """Turn whatever the files of a checkpoint make transformers and torch raise into one line."""
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
            "remove that folder to go on from the one before it",
        ) from error
