"""Run the optimisation of a recipe, from the last checkpoint if there is one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from transformers import PrinterCallback, Seq2SeqTrainingArguments, set_seed

from adapter_hub.errors import AdapterHubError
from adapter_hub.runtime.base_model import load_base_model
from adapter_hub.trainers.engine import (
    AdapterTrainer,
    Collator,
    LikeLengths,
    ReportProgress,
    Rows,
    StopOnInterrupt,
    last_checkpoint,
)
from adapter_hub.trainers.inputs import Inputs
from adapter_hub.trainers.methods import start
from adapter_hub.trainers.trainee import Trainee

LOGS_AN_EPOCH = 10
Tell = Callable[[str], None]


class TrainingInterruptedError(AdapterHubError):
    """Ctrl-C: a checkpoint was saved, the same command goes on from it."""


def fit(inputs: Inputs, work: Path, tell: Tell) -> tuple[Trainee, AdapterTrainer]:
    """Run the training, from the last checkpoint if there is one."""
    settings = inputs.file.recipe.training
    set_seed(settings.random_seed)
    # the loaded base model stays as it is for the probe: training changes a copy
    whisper = load_base_model(
        inputs.base.folder if inputs.base.revision is None else inputs.base.id,
        revision=inputs.base.revision,
        device=str(inputs.base.device),
    ).model
    trainee = start(whisper, inputs.file.recipe, inputs.parents)
    trainee.model.train()
    sampler = LikeLengths(inputs.train.examples, settings.batch_size, settings.random_seed)
    end = inputs.base.processor.tokenizer.convert_tokens_to_ids("<|endoftext|>")
    chunk = whisper.config.max_source_positions * 2 if settings.audio_length == "chunk" else None
    report, stop = ReportProgress(tell), StopOnInterrupt()
    trainer = AdapterTrainer(
        trainee=trainee,
        args=_arguments(inputs, work),
        train_dataset=Rows(inputs.train.examples),
        eval_dataset=Rows(inputs.dev.examples) if inputs.dev else None,
        data_collator=Collator(end, chunk, sampler if settings.spec_augment else None),
        dev_collator=Collator(end, chunk, None),
        train_sampler=sampler,
        callbacks=[report, stop],
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


def _arguments(inputs: Inputs, work: Path) -> Seq2SeqTrainingArguments:
    settings = inputs.file.recipe.training
    steps = -(-inputs.train.rows_an_epoch // settings.batch_size)
    return Seq2SeqTrainingArguments(
        output_dir=str(work),
        per_device_train_batch_size=settings.batch_size,
        per_device_eval_batch_size=settings.batch_size,
        num_train_epochs=settings.epochs,
        learning_rate=settings.peak_learning_rate,
        lr_scheduler_type="linear",
        warmup_steps=round(steps * settings.epochs * settings.warmup_share),
        weight_decay=settings.weight_decay,
        label_smoothing_factor=settings.label_smoothing,
        eval_strategy="epoch" if inputs.dev else "no",
        save_strategy="epoch",
        save_total_limit=2,
        logging_steps=max(1, steps // LOGS_AN_EPOCH),
        seed=settings.random_seed,
        remove_unused_columns=False,
        label_names=["labels"],
        report_to="none",
        disable_tqdm=True,
        dataloader_pin_memory=False,
        use_cpu=inputs.base.device.type == "cpu",
    )
