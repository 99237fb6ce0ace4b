"""Run the optimisation of a recipe, from the last checkpoint if there is one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from transformers import PrinterCallback, Seq2SeqTrainingArguments, TrainerCallback, set_seed

from adapter_hub.errors import AdapterHubError, InvalidInputError
from adapter_hub.runtime.base_model import load_base_model
from adapter_hub.trainers.engine import (
    AdapterTrainer,
    Collator,
    LikeLengths,
    ReportProgress,
    Rows,
    StopEarly,
    StopOnInterrupt,
    last_checkpoint,
)
from adapter_hub.trainers.inputs import Inputs
from adapter_hub.trainers.low_rank import hasten
from adapter_hub.trainers.methods import start
from adapter_hub.trainers.trainee import Trainee

LOGS_AN_EPOCH = 10
Tell = Callable[[str], None]


class TrainingInterruptedError(AdapterHubError):
    """Ctrl-C: a checkpoint was saved, the same command goes on from it."""


def fit(inputs: Inputs, work: Path, tell: Tell) -> tuple[Trainee, AdapterTrainer]:
    """Run the training, from the last checkpoint if there is one."""
    settings = inputs.file.recipe.training
    _check_precision(settings.precision, inputs.base.device)
    set_seed(settings.random_seed)
    # the loaded base model stays as it is for the probe: training changes a copy
    whisper = load_base_model(
        inputs.base.folder if inputs.base.revision is None else inputs.base.id,
        revision=inputs.base.revision,
        device=str(inputs.base.device),
    ).model
    trainee = start(whisper, inputs.file.recipe, inputs.parents)
    hasten(trainee.model)
    if settings.gradient_checkpointing:
        whisper.activation_checkpointing_enable({"use_reentrant": False})
    sampler = LikeLengths(inputs.train.examples, settings.batch_size, settings.random_seed)
    end = inputs.base.processor.tokenizer.convert_tokens_to_ids("<|endoftext|>")
    chunk = whisper.config.max_source_positions * 2 if settings.audio_length == "chunk" else None
    report, stop = ReportProgress(tell), StopOnInterrupt()
    callbacks: list[TrainerCallback] = [report, stop]
    if settings.early_stopping is not None:
        callbacks.append(StopEarly(settings.early_stopping))
    trainer = AdapterTrainer(
        trainee=trainee,
        label_smoothing=settings.label_smoothing,
        args=_arguments(inputs, work, -(-len(sampler) // settings.batch_size)),
        train_dataset=Rows(inputs.train.examples),
        eval_dataset=Rows(inputs.dev.examples) if inputs.dev else None,
        data_collator=Collator(end, chunk, sampler if settings.spec_augment else None),
        dev_collator=Collator(end, chunk, None),
        train_sampler=sampler,
        callbacks=callbacks,
    )
    trainer.remove_callback(PrinterCallback)  # it prints to stdout, which is for data
    checkpoint = last_checkpoint(work)
    if checkpoint is not None:
        tell(f"going on from {checkpoint.name}")
    with stop:
        trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
    if stop.interrupted:
        raise TrainingInterruptedError(
            f"training interrupted at step {trainer.state.global_step} of {trainer.state.max_steps}, "
            f"checkpoint saved in {work}; run the same command to go on"
        )
    return trainee, trainer


def _arguments(inputs: Inputs, work: Path, batches: int) -> Seq2SeqTrainingArguments:
    """Return what transformers is told; `batches`: of an epoch."""
    settings = inputs.file.recipe.training
    an_epoch = -(-batches // settings.gradient_accumulation)
    steps = settings.steps or an_epoch * settings.epochs
    return Seq2SeqTrainingArguments(
        output_dir=str(work),
        per_device_train_batch_size=settings.batch_size,
        per_device_eval_batch_size=settings.batch_size,
        gradient_accumulation_steps=settings.gradient_accumulation,
        num_train_epochs=settings.epochs,
        max_steps=settings.steps or -1,
        learning_rate=settings.peak_learning_rate,
        lr_scheduler_type="linear",
        warmup_steps=round(steps * settings.warmup_share),
        weight_decay=settings.weight_decay,
        bf16=settings.precision == "bfloat16",
        fp16=settings.precision == "float16",
        eval_strategy="epoch" if inputs.dev else "no",
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
        use_cpu=inputs.base.device.type == "cpu",
    )


def _check_precision(precision: str, device: torch.device) -> None:
    """Refuse an arithmetic that the device does not have."""
    if precision == "float16" and device.type != "cuda":
        raise InvalidInputError(
            f'training.precision = "float16": needs a GPU, found {device.type}; use "bfloat16" or "float32"'
        )
    if precision == "bfloat16" and device.type == "cuda" and not torch.cuda.is_bf16_supported():
        raise InvalidInputError(
            f'training.precision = "bfloat16": {torch.cuda.get_device_name(device)} lacks it; use "float16"'
        )
