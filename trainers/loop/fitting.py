"""Run the optimisation of a recipe, from the last checkpoint if there is one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from transformers import PrinterCallback, TrainerCallback, set_seed

from adapter_hub.errors import AdapterHubError, InvalidInputError
from adapter_hub.model.base_model import DTYPES, load_base_model
from adapter_hub.paths import cache_folder
from adapter_hub.reporting import Tell
from adapter_hub.trainers.data.examples import Example
from adapter_hub.trainers.inputs import Inputs
from adapter_hub.trainers.loop.batches import Collator, LikeLengths, Rows, Shares, dev_batches
from adapter_hub.trainers.loop.callbacks import (
    ReportProgress,
    SeedSteps,
    StopEarly,
    StopOnInterrupt,
    WriteEvents,
)
from adapter_hub.trainers.loop.checkpoints import Checkpoints, NoteCheckpoints
from adapter_hub.trainers.loop.engine import AdapterTrainer, Arguments, last_checkpoint
from adapter_hub.trainers.loop.objective import Objective
from adapter_hub.trainers.loop.outcome import Outcome, training_curve
from adapter_hub.trainers.loop.processes import ElsewhereError, Processes
from adapter_hub.trainers.loop.shortages import SMALLER_MODEL, SMALLER_STEPS, enough_memory
from adapter_hub.trainers.methods.low_rank import hasten, keep_cast
from adapter_hub.trainers.methods.table import start
from adapter_hub.trainers.methods.trainee import Trainee
from adapter_hub.trainers.recipe import TrainingTable

LOGS_AN_EPOCH = 10


class TrainingInterruptedError(AdapterHubError):
    """Ctrl-C: a checkpoint was saved, the same command resumes from it."""


class Material(NamedTuple):
    """What a loop reads.

    Attributes:
        train: examples to train on.
        dev: examples to watch; may be empty.
        end: id of end-of-text.
    """

    train: Sequence[Example]
    dev: Sequence[Example]
    end: int


def fit(
    inputs: Inputs,
    work: Path,
    tell: Tell,
    *,
    processes: Processes | None = None,
    events: Path | None = None,
    notes: Path | None = None,
) -> Outcome:
    """Run the training, from the last checkpoint if there is one.

    Args:
        inputs: of the recipe.
        work: holds the checkpoints; the same for all processes.
        tell: receives lines of progress.
        processes: that train together; None for this one alone.
        events: folder of TensorBoard's event files; None for none.
        notes: where checkpoints are noted, see `checkpoints`; None for the user's cache.

    Raises:
        ConflictError: checkpoints that nobody here has written.
        InvalidInputError: a precision that the device lacks, rows that cannot be shared.
        DivergedError: a loss or the model is not finite. TrainingInterruptedError: Ctrl-C.
    """
    settings, processes = inputs.file.recipe.training, processes or Processes()
    with processes.together(), enough_memory(SMALLER_MODEL):
        _check(inputs, processes)
        set_seed(settings.random_seed)
        trainee = _trainee(inputs)
    stop = StopOnInterrupt()
    trainer = make_trainer(
        settings,
        trainee,
        Material(
            inputs.train.examples,
            inputs.dev.examples if inputs.dev else (),
            inputs.base.processor.tokenizer.convert_tokens_to_ids("<|endoftext|>"),
        ),
        work,
        processes=processes,
        stop=stop,
    )
    kept = Checkpoints(work, notes or cache_folder() / "trainings")
    callbacks: list[TrainerCallback] = [SeedSteps(settings.random_seed, processes.rank), stop]
    callbacks.append(NoteCheckpoints(kept, processes))
    if settings.early_stopping is not None:
        callbacks.append(StopEarly(settings.early_stopping))
    if processes.first:
        callbacks.append(ReportProgress(tell))
        callbacks += [WriteEvents(events)] if events is not None else []
    for callback in callbacks:
        trainer.add_callback(callback)
    checkpoint = processes.from_first(lambda: last_checkpoint(work, kept, tell))
    if checkpoint is not None and processes.first:
        tell(f"resuming from {checkpoint.name}")
    # a training that failed when it was written is only written again
    if checkpoint is None or not trainer.restore_finished(checkpoint, settings.early_stopping):
        with stop, enough_memory(SMALLER_STEPS):
            trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
    if stop.interrupted:
        raise (TrainingInterruptedError if processes.first else ElsewhereError)(
            f"training interrupted at step {trainer.state.global_step} of {trainer.state.max_steps}, "
            f"checkpoint saved in {work}; run the same command to resume"
        )
    with processes.together(), enough_memory(SMALLER_STEPS):
        trainer.check_finite()
    return Outcome(
        trainee=trainee,
        steps=trainer.state.global_step,
        seconds=trainer.seconds,
        best_step=trainer.state.best_global_step if settings.early_stopping else None,
        curve=training_curve(trainer.state.log_history),
        processes=processes.count,
    )


def _trainee(inputs: Inputs) -> Trainee:
    """Return what the recipe's method starts from; the loaded base model stays as it is, for the probe."""
    whisper = load_base_model(
        inputs.base.folder if inputs.base.revision is None else inputs.base.id,
        revision=inputs.base.revision,
        device=str(inputs.base.device),
    ).model
    trainee = start(whisper, inputs.file.recipe, inputs.parents)
    lighten(trainee, inputs.file.recipe.training)
    return trainee


def lighten(trainee: Trainee, settings: TrainingTable) -> None:
    """Make a trainee compute what it does in less time and memory, as far as the settings let it."""
    whisper = trainee.whisper
    hasten(trainee.model)
    if settings.precision != "float32":
        keep_cast(whisper, DTYPES[settings.precision])
    if settings.gradient_checkpointing:
        # transformers renamed it in 5.23
        enable = getattr(whisper, "activation_checkpointing_enable", whisper.gradient_checkpointing_enable)
        enable({"use_reentrant": False})


def make_trainer(
    settings: TrainingTable,
    trainee: Trainee,
    material: Material,
    work: Path,
    *,
    processes: Processes,
    stop: StopOnInterrupt,
) -> AdapterTrainer:
    """Return the loop that trains a trainee.

    Args:
        settings: the recipe's.
        trainee: on the device to train on.
        material: what to train on.
        work: of checkpoints.
        processes: that train together.
        stop: knows of an interrupt.
    """
    chunk = trainee.whisper.config.max_source_positions * 2 if settings.audio_length == "chunk" else None
    mine: dict[str, Any] = {"rank": processes.rank, "count": processes.count}
    order = LikeLengths(material.train, settings.batch_size, settings.random_seed)
    shares = Shares(order, settings.gradient_accumulation, chunk, **mine)
    arguments = _arguments(settings, work, shares, watched=bool(material.dev), device=trainee.whisper.device)
    trainer = AdapterTrainer(
        objective=Objective(trainee, settings.label_smoothing),
        trainee=trainee,
        args=arguments,
        train_dataset=Rows(material.train),
        shares=shares,
        eval_dataset=Rows(material.dev) if material.dev else None,
        dev=dev_batches(material.dev, settings.batch_size, chunk, **mine),
        collator=Collator(material.end, masked=settings.spec_augment),
        processes=processes,
        stop=stop,
    )
    trainer.remove_callback(PrinterCallback)  # it prints to stdout, which is for data
    return trainer


def _arguments(
    settings: TrainingTable, work: Path, shares: Shares, *, watched: bool, device: torch.device
) -> Arguments:
    """Return what transformers is told."""
    an_epoch = -(-len(shares) // shares.accumulation)
    steps = settings.steps or an_epoch * settings.epochs
    arguments = Arguments(
        output_dir=str(work),
        per_device_train_batch_size=settings.batch_size,
        per_device_eval_batch_size=settings.batch_size,
        gradient_accumulation_steps=shares.accumulation,
        num_train_epochs=settings.epochs,
        max_steps=settings.steps or -1,
        learning_rate=settings.peak_learning_rate,
        lr_scheduler_type="linear",
        warmup_steps=round(steps * settings.warmup_share),
        weight_decay=settings.weight_decay,
        bf16=settings.precision == "bfloat16",
        fp16=settings.precision == "float16",
        eval_strategy="epoch" if watched else "no",
        save_strategy="epoch",
        save_total_limit=2,
        load_best_model_at_end=settings.early_stopping is not None,
        metric_for_best_model="eval_loss" if settings.early_stopping else None,
        greater_is_better=False if settings.early_stopping else None,
        logging_steps=max(1, min(steps, an_epoch) // LOGS_AN_EPOCH),
        logging_nan_inf_filter=False,  # the loss is checked where it is computed
        seed=settings.random_seed,
        remove_unused_columns=False,
        label_names=["labels"],
        report_to="none",
        disable_tqdm=True,
        dataloader_pin_memory=False,
        ddp_find_unused_parameters=False,
        ddp_broadcast_buffers=False,  # frozen, and read from the same files: an expert pair's parent
        use_cpu=device.type == "cpu",
    )
    # `accelerate launch` has a precision of its own in the environment; the recipe decides
    arguments.mixed_precision = {"bfloat16": "bf16", "float16": "fp16"}.get(settings.precision, "no")
    return arguments


def _check(inputs: Inputs, processes: Processes) -> None:
    """Refuse what is known to be impossible before the first step."""
    settings, device = inputs.file.recipe.training, inputs.base.device
    if settings.precision == "float16" and device.type != "cuda":
        raise InvalidInputError(
            f'training.precision = "float16": needs a GPU, found {device.type}; use "bfloat16" or "float32"'
        )
    if settings.precision == "bfloat16" and device.type == "cuda" and not _knows_bfloat16():
        raise InvalidInputError(
            f'training.precision = "bfloat16": {torch.cuda.get_device_name(device)} lacks it; use "float16"'
        )
    rows = settings.batch_size * settings.gradient_accumulation
    if rows < processes.count:
        raise InvalidInputError(
            f"training.batch_size {settings.batch_size}: a step of {rows} rows cannot be shared by "
            f"{processes.count} processes; start fewer"
        )


def _knows_bfloat16() -> bool:
    """Tell whether the GPU computes in bfloat16; older ones emulate it, many times slower than float32."""
    return torch.cuda.is_bf16_supported(including_emulation=False)
