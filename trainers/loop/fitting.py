"""Run the optimiser on a recipe's data, from the last checkpoint if there is one."""

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
from adapter_hub.trainers.loop.batches import (
    FRAMES_PER_SECOND,
    ExampleDataset,
    LengthGroupedSampler,
    ShardedBatchSampler,
    dev_batches,
    frames_of,
)
from adapter_hub.trainers.loop.callbacks import (
    ChooseEpoch,
    ReportProgress,
    SeedSteps,
    StopEarly,
    StopOnInterrupt,
    WriteEvents,
)
from adapter_hub.trainers.loop.checkpoints import Checkpoints, NoteCheckpoints, last_checkpoint
from adapter_hub.trainers.loop.families import FAMILIES
from adapter_hub.trainers.loop.process_group import OtherProcessError, ProcessGroup
from adapter_hub.trainers.loop.resource_errors import SMALLER_MODEL, SMALLER_STEPS, explain_out_of_memory
from adapter_hub.trainers.loop.result import TrainingResult, training_curve
from adapter_hub.trainers.loop.trainer import AdapterTrainer, Arguments
from adapter_hub.trainers.methods.low_rank import cast_frozen_linears, use_fast_lora
from adapter_hub.trainers.methods.table import make_trainable
from adapter_hub.trainers.methods.trainable import TrainableModel
from adapter_hub.trainers.recipe_tables import TrainingTable

LOGS_PER_EPOCH = 10


class TrainingInterruptedError(AdapterHubError):
    """Ctrl-C was pressed: a checkpoint was saved, and the same command resumes from it."""


class TrainingData(NamedTuple):
    """The examples of a training.

    Attributes:
        train: examples to train on.
        dev: examples whose loss is measured after each epoch; may be empty.
        end: id of the end-of-text token, or of the blank.
    """

    train: Sequence[Example]
    dev: Sequence[Example]
    end: int


def fit(
    inputs: Inputs,
    work: Path,
    tell: Tell,
    *,
    processes: ProcessGroup | None = None,
    events: Path | None = None,
    notes: Path | None = None,
) -> TrainingResult:
    """Run the training, from the last checkpoint if there is one.

    Args:
        inputs: of the recipe.
        work: holds the checkpoints; the same for all processes.
        tell: receives lines of progress.
        processes: that train together; None for this one alone.
        events: folder of TensorBoard's event files; None for none.
        notes: where checkpoints are noted, see `checkpoints`; None for the user's cache.

    Raises:
        ConflictError: there are checkpoints that this user's trainings did not write.
        InvalidInputError: a precision that the device lacks, or fewer rows in a step than processes.
        DivergedError: a loss or the model is not finite. TrainingInterruptedError: Ctrl-C.
        OutOfMemoryError: of the machine or its GPU. IntegrityError: a checkpoint that cannot be read.
    """
    settings, processes = inputs.file.recipe.training, processes or ProcessGroup()
    with processes.synchronised(), explain_out_of_memory(SMALLER_MODEL):
        _check(inputs, processes)
        set_seed(settings.random_seed)
        trainable = _trainable(inputs)
    stop = StopOnInterrupt(
        tell if processes.is_main else (lambda _: None), is_alone=processes.world_size == 1
    )
    trainer = make_trainer(
        settings,
        trainable,
        TrainingData(
            inputs.train.examples,
            inputs.dev.examples if inputs.dev else (),
            FAMILIES[inputs.base.family].end(inputs.base.processor.tokenizer),
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
    if processes.is_main:
        callbacks.append(ReportProgress(tell))
        callbacks += [WriteEvents(events)] if events is not None else []
    for callback in callbacks:
        trainer.add_callback(callback)
    checkpoint = processes.from_main(lambda: last_checkpoint(work, kept, tell))
    if checkpoint is not None and processes.is_main:
        tell(f"resuming from {checkpoint.name}")
    # if only writing the result failed, the training is not repeated
    if checkpoint is None or not trainer.restore_finished(checkpoint, settings.early_stopping):
        with stop, explain_out_of_memory(SMALLER_STEPS):
            trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
    if stop.interrupted:
        raise (TrainingInterruptedError if processes.is_main else OtherProcessError)(
            f"training interrupted at step {trainer.state.global_step} of {trainer.state.max_steps}, "
            f"checkpoint saved in {work}; run the same command to resume"
        )
    with processes.synchronised(), explain_out_of_memory(SMALLER_STEPS):
        trainer.check_finite()
    return TrainingResult(
        trainable=trainable,
        steps=trainer.state.global_step,
        seconds=trainer.seconds,
        best_step=trainer.state.best_global_step if settings.early_stopping else None,
        curve=training_curve(trainer.state.log_history),
        processes=processes.world_size,
    )


def _trainable(inputs: Inputs) -> TrainableModel:
    """Return what the recipe's method trains; the loaded base model stays as it is, for the probe."""
    base = inputs.base
    whisper = load_base_model(base.folder, device=str(base.device), cache=inputs.cache).model
    trainable = make_trainable(whisper, inputs.file.recipe, inputs.parents)
    speed_up(trainable, inputs.file.recipe.training)
    return trainable


def speed_up(trainable: TrainableModel, settings: TrainingTable) -> None:
    """Make a model compute the same in less time and memory, as far as the settings allow.

    Args:
        trainable: it is changed.
        settings: the recipe's precision and gradient checkpointing.
    """
    whisper = trainable.whisper
    use_fast_lora(trainable.model)
    if settings.precision != "float32":
        cast_frozen_linears(whisper, DTYPES[settings.precision])
    if settings.gradient_checkpointing:
        # transformers renamed it in 5.23
        enable = getattr(whisper, "activation_checkpointing_enable", whisper.gradient_checkpointing_enable)
        enable({"use_reentrant": False})


def make_trainer(
    settings: TrainingTable,
    trainable: TrainableModel,
    data: TrainingData,
    work: Path,
    *,
    processes: ProcessGroup,
    stop: StopOnInterrupt,
) -> AdapterTrainer:
    """Return the trainer of a model.

    Args:
        settings: the recipe's.
        trainable: the model, on the device to train on.
        data: the examples.
        work: the folder of checkpoints.
        processes: that train together.
        stop: knows whether Ctrl-C was pressed.
    """
    config = trainable.whisper.config
    family = FAMILIES[config.model_type]
    shortest = shortest_batch(settings, family.chunk_frames(config))
    shard: dict[str, Any] = {"rank": processes.rank, "world_size": processes.world_size}
    sampler = LengthGroupedSampler(data.train, settings.batch_size, settings.random_seed)
    train_batches = ShardedBatchSampler(sampler, settings.gradient_accumulation, shortest, **shard)
    device = trainable.whisper.device
    arguments = _arguments(settings, work, train_batches, has_dev=bool(data.dev), device=device)
    trainer = AdapterTrainer(
        objective=family.objective(trainable, settings.label_smoothing),
        trainable=trainable,
        args=arguments,
        train_dataset=ExampleDataset(data.train),
        train_batches=train_batches,
        eval_dataset=ExampleDataset(data.dev) if data.dev else None,
        dev=dev_batches(data.dev, settings.batch_size, shortest, **shard),
        collator=family.collator(data.end, masked=settings.spec_augment),
        processes=processes,
        stop=stop,
    )
    trainer.add_callback(ChooseEpoch(train_batches))
    trainer.remove_callback(PrinterCallback)  # it prints to stdout, which is for data
    return trainer


def shortest_batch(settings: TrainingTable, chunk: int | None) -> int:
    """Return how many frames every batch has at least.

    >>> shortest_batch(TrainingTable(audio_length="batch", input_seconds=15.0), chunk=3000)
    1500

    Args:
        settings: the recipe's.
        chunk: frames of the base model's chunk; None where inputs have no fixed length.
    """
    if chunk is None:
        return 0
    if settings.audio_length == "chunk":
        return chunk
    return min(2 * round(settings.input_seconds * FRAMES_PER_SECOND / 2), chunk)


def longest_batch(settings: TrainingTable, chunk: int | None, examples: Sequence[Example]) -> float | None:
    """Return the most seconds that the encoder is given for a clip; None where inputs have no fixed length.

    Args:
        settings: the recipe's.
        chunk: frames of the base model's chunk; None where inputs have no fixed length.
        examples: to train on, at least one.
    """
    if chunk is None:
        return None
    longest = max(example.features.shape[1] for example in examples)
    return frames_of(longest, shortest_batch(settings, chunk)) / FRAMES_PER_SECOND


def _arguments(
    settings: TrainingTable,
    work: Path,
    train_batches: ShardedBatchSampler,
    *,
    has_dev: bool,
    device: torch.device,
) -> Arguments:
    """Return transformers' arguments for a recipe."""
    steps_per_epoch = train_batches.steps_per_epoch
    steps = settings.steps or steps_per_epoch * settings.epochs
    arguments = Arguments(
        output_dir=str(work),
        per_device_train_batch_size=settings.batch_size,
        per_device_eval_batch_size=settings.batch_size,
        gradient_accumulation_steps=train_batches.accumulation,
        num_train_epochs=settings.epochs,
        max_steps=settings.steps or -1,
        learning_rate=settings.peak_learning_rate,
        lr_scheduler_type="linear",
        warmup_steps=round(steps * settings.warmup_share),
        weight_decay=settings.weight_decay,
        bf16=settings.precision == "bfloat16",
        fp16=settings.precision == "float16",
        eval_strategy="epoch" if has_dev else "no",
        save_strategy="epoch",
        save_total_limit=2,
        load_best_model_at_end=settings.early_stopping is not None,
        metric_for_best_model="eval_loss" if settings.early_stopping else None,
        greater_is_better=False if settings.early_stopping else None,
        logging_steps=max(1, min(steps, steps_per_epoch) // LOGS_PER_EPOCH),
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
    arguments.settings = settings
    # `accelerate launch` has a precision of its own in the environment; the recipe decides
    arguments.mixed_precision = {"bfloat16": "bf16", "float16": "fp16"}.get(settings.precision, "no")
    return arguments


def _check(inputs: Inputs, processes: ProcessGroup) -> None:
    """Refuse, before the first step, what cannot work."""
    settings, device = inputs.file.recipe.training, inputs.base.device
    if settings.precision == "float16" and device.type != "cuda":
        raise InvalidInputError(
            f'training.precision = "float16": needs a GPU, found {device.type}; use "bfloat16" or "float32"'
        )
    if settings.precision == "bfloat16" and device.type == "cuda" and not _knows_bfloat16():
        name = torch.cuda.get_device_name(device)
        raise InvalidInputError(f'training.precision = "bfloat16": not supported by {name}; use "float16"')
    rows = settings.batch_size * settings.gradient_accumulation
    if rows < processes.world_size:
        raise InvalidInputError(
            f"training.batch_size {settings.batch_size}: a step of {rows} rows cannot be shared by "
            f"{processes.world_size} processes; start fewer"
        )


def _knows_bfloat16() -> bool:
    """Tell whether the GPU computes in bfloat16; older GPUs emulate it, many times slower than float32."""
    return torch.cuda.is_bf16_supported(including_emulation=False)
