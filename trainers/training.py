"""Train an adapter from a recipe: data in, artifact out.

    artifact = train(Path("recipes/mini/da.toml"), Path("out/da"), registries=…, cache=…)

A recipe of method full-fine-tuning gives a Whisper folder and its `FullFineTune` record instead. What
was trained appears at once and whole. Until then everything lives in `<out>.training`, in a folder
named after recipe, data, base model and parents: the same command goes on after an interruption, and
changed inputs start anew.
"""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch
from filelock import FileLock, Timeout
from safetensors import SafetensorError
from transformers.utils import logging as transformers_logging

from adapter_hub.artifact import Artifact
from adapter_hub.cache import Cache
from adapter_hub.errors import AdapterHubError, ConflictError
from adapter_hub.full_fine_tune import FullFineTune
from adapter_hub.paths import folder_in_the_making
from adapter_hub.registry import Registry
from adapter_hub.trainers.fitting import fit
from adapter_hub.trainers.full_fine_tuning import write_full_fine_tune
from adapter_hub.trainers.inputs import gather
from adapter_hub.trainers.recipe import RecipeFile, read_recipe
from adapter_hub.trainers.recipe_tables import FULL_FINE_TUNING
from adapter_hub.trainers.sealing import write_adapter

Tell = Callable[[str], None]


def train(
    recipe: Path,
    out: Path,
    *,
    registries: Sequence[Registry],
    cache: Cache,
    device: str | None = None,
    tell: Tell = lambda _: None,
) -> Artifact | FullFineTune:
    """Train what `recipe` describes and write the artifact, or the full fine-tune, to `out`.

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
    full = file.recipe.adapter.method == FULL_FINE_TUNING
    if out.exists():
        return _finished(out, file, tell)
    inputs = gather(file, registries, cache, device, tell)
    work = out.with_name(f"{out.name}.training")
    with _alone(work), _explained(work):
        began = time.monotonic()
        trainee, trainer = fit(inputs, work / inputs.key, tell)
        seconds = time.monotonic() - began
        try:
            with folder_in_the_making(out) as folder:
                write = write_full_fine_tune if full else write_adapter
                write(folder, trainee, inputs, steps=trainer.state.global_step, seconds=seconds)
        except FileExistsError:
            raise ConflictError(f"{out}: appeared during training; choose another --out") from None
    shutil.rmtree(work, ignore_errors=True)
    return FullFineTune.read(out) if full else Artifact.open(out)


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


def _finished(out: Path, file: RecipeFile, tell: Tell) -> Artifact | FullFineTune:
    """What this very recipe gave is the answer already."""
    found: Artifact | FullFineTune
    with contextlib.suppress(AdapterHubError):
        if file.recipe.adapter.method == FULL_FINE_TUNING:
            found = FullFineTune.read(out)
            same = found.recipe == file.text
        else:
            found = Artifact.open(out)
            same = found.manifest.recipe == file.text
        if same:
            tell(f"{out}: trained by this recipe already; remove it to train again")
            return found
    raise ConflictError(f"{out}: exists and was not made by this recipe; choose another --out or remove it")
