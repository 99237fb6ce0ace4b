"""Train an adapter from a recipe: data in, artifact out.

    artifact = train(Path("recipes/mini/da.toml"), Path("out/da"), registries=…, cache=…)

The artifact appears at once and whole. Until then everything lives in `<out>.training`, in a folder
named after recipe, data, base model and seed: the same command goes on after an interruption, and
changed inputs start anew.
"""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from safetensors import SafetensorError
from transformers import PrinterCallback, Seq2SeqTrainingArguments, set_seed
from transformers.utils import logging as transformers_logging

from adapter_hub.artifact import Artifact
from adapter_hub.cache import Cache
from adapter_hub.errors import AdapterHubError, ConflictError, InvalidInputError, NotFoundError
from adapter_hub.exchange import pull
from adapter_hub.manifest import Similarity
from adapter_hub.paths import folder_in_the_making
from adapter_hub.reference import is_local
from adapter_hub.registry import Registry
from adapter_hub.runtime.base_model import BaseModel, load_base_model
from adapter_hub.speech.dataset import Dataset, read_dataset
from adapter_hub.trainers.engine import (
    AdapterTrainer,
    Collator,
    LikeLengths,
    ReportProgress,
    Rows,
    StopOnInterrupt,
    last_checkpoint,
)
from adapter_hub.trainers.examples import Prepared, prepare
from adapter_hub.trainers.methods import inject
from adapter_hub.trainers.recipe import NEAREST, RecipeFile, read_recipe
from adapter_hub.trainers.sealing import Inputs, write_adapter
from adapter_hub.trainers.similarity import candidates, measure_similarity, ranked

LOGS_AN_EPOCH = 10
TELL_SECONDS = 5.0  # between two lines of progress while data is read
Tell = Callable[[str], None]


class TrainingInterruptedError(AdapterHubError):
    """Ctrl-C: a checkpoint was saved, the same command goes on from it."""


def train(
    recipe: Path,
    out: Path,
    *,
    registries: Sequence[Registry],
    cache: Cache,
    device: str | None = None,
    tell: Tell = lambda _: None,
) -> Artifact:
    """Train what `recipe` describes and write the artifact to `out`.

    Args:
        recipe: a TOML file, see `adapter_hub.trainers.recipe`.
        out: a folder that does not exist yet; `<out>.training` holds checkpoints meanwhile.
        registries: where a seed is looked up, and the candidates of `seed.adapter = "nearest"`.
        cache: where a seed is pulled to.
        device: torch's name; None for a GPU if there is one.
        tell: receives lines of progress.

    Raises:
        InvalidInputError: recipe, data or seed cannot be used, or the loss is not finite.
        ConflictError: `out` exists and is something else.
        TrainingInterruptedError: Ctrl-C; run it again to go on.
    """
    transformers_logging.set_verbosity_error()
    file = read_recipe(recipe)
    if out.exists():
        return _finished(out, file, tell)
    inputs = _gather(file, registries, cache, device, tell)
    work = out.with_name(f"{out.name}.training")
    with _alone(work), _explained(work):
        began = time.monotonic()
        model, trainer = _fit(inputs, work / inputs.key, tell)
        seconds = time.monotonic() - began
        try:
            with folder_in_the_making(out) as folder:
                write_adapter(folder, model, inputs, steps=trainer.state.global_step, seconds=seconds)
        except FileExistsError:
            raise ConflictError(f"{out}: appeared during training; choose another --out") from None
    shutil.rmtree(work, ignore_errors=True)
    return Artifact.open(out)


@contextlib.contextmanager
def _alone(work: Path) -> Iterator[None]:
    """Keep a second training out of the same folder of checkpoints."""
    work.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(work / "lock", timeout=0):
            yield
    except Timeout:
        raise ConflictError(
            f"{work}: another training is running there; wait, or choose another --out"
        ) from None


@contextlib.contextmanager
def _explained(work: Path) -> Iterator[None]:
    """Turn what the libraries below raise for a full disk or memory into one line."""
    try:
        yield
    except SafetensorError as error:
        raise AdapterHubError(f"{work}: {error}; free some space and run the same command to go on") from None
    except torch.OutOfMemoryError:
        raise AdapterHubError(
            "training: the device has not enough memory; lower training.batch_size or lora.rank"
        ) from None
    except RuntimeError as error:
        if "PytorchStreamWriter" not in str(error):  # torch's name for a checkpoint that cannot be written
            raise
        raise AdapterHubError(
            f"{work}: a checkpoint could not be written; free some space and run the same command to go on"
        ) from None


def _finished(out: Path, file: RecipeFile, tell: Tell) -> Artifact:
    """An artifact of this very recipe is the answer already."""
    with contextlib.suppress(AdapterHubError):
        artifact = Artifact.open(out)
        if artifact.manifest.recipe == file.text:
            tell(f"{out}: trained by this recipe already; remove it to train again")
            return artifact
    raise ConflictError(f"{out}: exists and was not made by this recipe; choose another --out or remove it")


def _gather(
    file: RecipeFile, registries: Sequence[Registry], cache: Cache, device: str | None, tell: Tell
) -> Inputs:
    recipe = file.recipe
    name = recipe.base_model.id
    base = load_base_model(
        file.resolve(name) if is_local(name) else name, revision=recipe.base_model.revision, device=device
    )
    base.check_languages([recipe.decode_language])
    dataset = read_dataset(file.resolve(recipe.data.train))
    train = _prepare("train", dataset, base, file, tell)
    dev = None
    if recipe.data.dev is not None:
        dev = _prepare("dev", read_dataset(file.resolve(recipe.data.dev)), base, file, tell)
    parents, similarity = _seed(file, base, dataset, registries, cache, tell)
    return Inputs(file, base, train, dev, parents, similarity)


def _prepare(split: str, dataset: Dataset, base: BaseModel, file: RecipeFile, tell: Tell) -> Prepared:
    adapter = file.recipe.adapter
    if adapter.timestamps:
        raise InvalidInputError("adapter.timestamps: a folder of clips has no word times; leave it false")
    told = time.monotonic()

    def progress(done: int, total: int) -> None:
        nonlocal told
        if time.monotonic() - told > TELL_SECONDS:
            told = time.monotonic()
            tell(f"{split}: {done}/{total} utterances read")

    language = file.recipe.decode_language
    prepared = prepare(dataset, base, language=language, task=adapter.task, progress=progress)
    tell(f"{split}: {len(prepared.examples)} utterances, {prepared.hours:.2f} h, {dataset.folder}")
    for row in prepared.dropped:
        tell(f"{split}: dropped {row.id}: {row.reason}")
    return prepared


def _seed(
    file: RecipeFile,
    base: BaseModel,
    dataset: Dataset,
    registries: Sequence[Registry],
    cache: Cache,
    tell: Tell,
) -> tuple[tuple[Artifact, ...], tuple[Similarity, ...]]:
    """Pull the seed of a warm start, and measure why it is the one."""
    seed = file.recipe.seed
    if seed is None:
        return (), ()
    known = candidates(registries, base, leave_out=file.recipe.decode_language)
    among = seed.among or tuple(sorted(known))
    if seed.adapter == NEAREST and not among:
        raise NotFoundError(
            f"seed.adapter = {NEAREST!r}: no registry holds a lora adapter for this base model; "
            "name one, or train it first with method lora"
        )
    similarity: tuple[Similarity, ...] = ()
    if among:
        measured = measure_similarity(
            base, dataset, among=among, segments=seed.segments, random_seed=seed.random_seed
        )
        similarity = (measured,)
        tell("similarity: " + ", ".join(f"{k} {measured.scores[k]:.3f}" for k in ranked(measured)))
    if seed.adapter != NEAREST:
        ref = seed.adapter
        if is_local(ref):
            ref = str(file.resolve(ref).resolve())
    else:
        nearest = next((k for k in ranked(measured) if k in known), None)
        if nearest is None:
            raise NotFoundError(f"seed.among {list(among)}: no registry holds an adapter for any of them")
        ref = str(known[nearest])
    parent = pull(ref, registries=registries, cache=cache)
    if parent.manifest.base_model.digest != base.digest:
        raise InvalidInputError(
            f"seed {parent.ref}: made for base model {parent.manifest.base_model.id}, "
            f"digest {parent.manifest.base_model.digest}, not {base.digest}"
        )
    tell(f"seed: {parent.ref}")
    return (parent,), similarity


def _fit(inputs: Inputs, work: Path, tell: Tell) -> tuple[Any, AdapterTrainer]:
    """Run the training, from the last checkpoint if there is one."""
    settings = inputs.file.recipe.training
    set_seed(settings.random_seed)
    # the loaded base model stays as it is for the probe: the LoRA goes into a copy of the modules
    whisper = load_base_model(
        inputs.base.folder if inputs.base.revision is None else inputs.base.id,
        revision=inputs.base.revision,
        device=str(inputs.base.device),
    ).model
    model = inject(whisper, inputs.file.recipe, inputs.parents)
    model.train()
    sampler = LikeLengths(inputs.train.examples, settings.batch_size, settings.random_seed)
    end = inputs.base.processor.tokenizer.convert_tokens_to_ids("<|endoftext|>")
    chunk = whisper.config.max_source_positions * 2 if settings.audio_length == "chunk" else None
    report, stop = ReportProgress(tell), StopOnInterrupt()
    trainer = AdapterTrainer(
        model=model,
        args=_arguments(inputs, work),
        train_dataset=Rows(inputs.train.examples),
        eval_dataset=Rows(inputs.dev.examples) if inputs.dev else None,
        data_collator=Collator(inputs.train.prompt, end, chunk, sampler if settings.spec_augment else None),
        dev_collator=Collator(inputs.train.prompt, end, chunk, None),
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
    return model, trainer


def _arguments(inputs: Inputs, work: Path) -> Seq2SeqTrainingArguments:
    settings = inputs.file.recipe.training
    steps = -(-len(inputs.train.examples) // settings.batch_size)
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
