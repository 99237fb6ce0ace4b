"""Train an adapter from a recipe: data in, artifact out.

    artifact = train("recipes/mini/da.toml", "out/da")

A recipe of method full-fine-tuning gives a Whisper folder and its `FullFineTune` record instead. The output
folder appears complete or not at all. Until then checkpoints are in `<out>.training`, in a folder named
after recipe, data, base model and parents: the same command resumes after an interruption, and changed
inputs start from scratch.
"""

from __future__ import annotations

import contextlib
import re
import shutil
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path

import torch
from transformers.utils import logging as transformers_logging

from adapter_hub.artifact.folder import Artifact
from adapter_hub.errors import AdapterHubError, ConflictError, InvalidInputError, MissingExtraError
from adapter_hub.exchange import Places
from adapter_hub.files.locks import held
from adapter_hub.files.writing import folder_in_the_making, refuse_link
from adapter_hub.formats.full_fine_tune import FullFineTune
from adapter_hub.registry.contract import Registry
from adapter_hub.reporting import Tell
from adapter_hub.stores.cache import Cache
from adapter_hub.trainers.full_fine_tuning import write_full_fine_tune
from adapter_hub.trainers.inputs import Inputs, gather
from adapter_hub.trainers.loop.checkpoints import Checkpoints
from adapter_hub.trainers.loop.fitting import fit
from adapter_hub.trainers.loop.process_group import ProcessGroup
from adapter_hub.trainers.loop.resource_errors import SMALLER_MODEL, explain_full_disk, explain_out_of_memory
from adapter_hub.trainers.published_recipe import published_recipe
from adapter_hub.trainers.recipe import RecipeFile, read_recipe
from adapter_hub.trainers.recipe_tables import FULL_FINE_TUNING
from adapter_hub.trainers.recipe_template import refuse_placeholders
from adapter_hub.trainers.sealing import write_adapter


def train(
    recipe: Path | str,
    out: Path | str,
    *,
    registries: Sequence[Registry] | None = None,
    cache: Cache | None = None,
    device: str | None = None,
    tell: Tell = lambda _: None,
    tensorboard: Path | None = None,
) -> Artifact | FullFineTune:
    """Train what `recipe` describes and write the artifact, or the full fine-tune, to `out`.

    Started by torchrun or `accelerate launch`, the processes share every step's rows, so the result is
    that of one process except for rounding; all of them need access to `out`.

    Args:
        recipe: a TOML file, see `adapter_hub.trainers.recipe`.
        out: a folder that does not exist yet; `<out>.training` holds checkpoints meanwhile.
        registries: where parents are searched, also the candidates of `adapter = "nearest"`; by default the
            user's.
        cache: for features, data sets on the Hub and parents; by default the user's.
        device: torch's name; None for a GPU if there is one.
        tell: receives lines of progress.
        tensorboard: a folder for event files, in a sub-folder named like `out`; None for none.

    Raises:
        NotFoundError, InvalidInputError: recipe, data or parents do not exist or cannot be used.
        DivergedError: the loss or the trained model is not finite.
        MissingExtraError: `tensorboard` without the extra `train`.
        OutOfMemoryError: of the machine or its GPU.
        ConflictError: `out` exists and was not made by this recipe, or another training uses its folder.
        TrainingInterruptedError: Ctrl-C; run the same command to resume.
        OtherProcessError: another process raised one of these.
    """
    recipe, out, own = Path(recipe), Path(out), Places()
    registries, cache = registries or own.registries(), cache or own.open_cache()
    transformers_logging.set_verbosity_error()
    processes = ProcessGroup.join(use_gpu=device != "cpu" and torch.cuda.is_available())
    tell = tell if processes.is_main else _ignore
    try:
        with processes.explain_lost_peer():
            with processes.synchronised():
                refuse_link(out)  # hours before anything is written there
                file = read_recipe(recipe)
                refuse_placeholders(file.recipe, recipe)
                device = _device_of_this_process(device, processes)
                events = _events(tensorboard, out)
            if processes.from_main(out.exists):
                with processes.synchronised():
                    return _already_trained(out, file, cache.folder, tell)
            with processes.synchronised(), explain_out_of_memory(SMALLER_MODEL):
                inputs = gather(file, registries, cache, device, tell)
            return _train(inputs, out, processes, events, tell)
    finally:
        processes.leave()


def _train(
    inputs: Inputs, out: Path, processes: ProcessGroup, events: Path | None, tell: Tell
) -> Artifact | FullFineTune:
    full = inputs.file.recipe.adapter.method == FULL_FINE_TUNING
    work = out.absolute().with_name(f"{out.name}.training")

    def write() -> None:
        try:
            with (
                explain_out_of_memory(SMALLER_MODEL),
                explain_full_disk(out),
                folder_in_the_making(out) as folder,
            ):
                if full:
                    write_full_fine_tune(folder, result, inputs)
                else:
                    write_adapter(folder, result, inputs)
        except FileExistsError:
            raise ConflictError(
                f"{out}: was created during training; move it away and run the same command, "
                "which then only writes what was trained"
            ) from None

    with _exclusively(work, processes), explain_full_disk(work):
        others = _checkpoints_of_others(work, inputs.key)
        if others and not (work / inputs.key).is_dir():
            tell(
                f"{work}: {len(others)} other trainings have checkpoints there, of another recipe or data; "
                "this one starts from scratch and leaves them"
            )
        notes = inputs.cache / "trainings"
        result = fit(inputs, work / inputs.key, tell, processes=processes, events=events, notes=notes)
        processes.from_main(write)
    if processes.is_main:
        Checkpoints(work / inputs.key, notes).forget()
        clear(work, inputs.key)
        if others := _checkpoints_of_others(work, inputs.key):
            tell(
                f"{work}: keeps the checkpoints of {len(others)} other trainings; remove it if they are done"
            )
    return FullFineTune.read(out) if full else Artifact.open(out)


def _ignore(_: str) -> None:
    """Report nothing: only the main process reports."""


def _device_of_this_process(device: str | None, processes: ProcessGroup) -> str | None:
    """Return the device of this process, and refuse a choice that cannot be kept."""
    kind, _, index = (device or "").partition(":")
    if processes.world_size == 1:
        if kind == "cuda" and index not in ("", "0"):
            raise InvalidInputError(
                f"--device {device}: training uses the first visible GPU; "
                f"use --device cuda and set CUDA_VISIBLE_DEVICES={index}"
            )
        return device
    if index or kind not in ("", "cpu", "cuda"):
        raise InvalidInputError(f"--device {device}: every process uses a GPU of its own; use cuda or cpu")
    return f"cuda:{processes.local_rank}" if kind != "cpu" and torch.cuda.is_available() else "cpu"


def _events(tensorboard: Path | None, out: Path) -> Path | None:
    """Return the folder of event files, which must not be in an artifact."""
    if tensorboard is None:
        return None
    if find_spec("tensorboard") is None:
        raise MissingExtraError("--tensorboard needs tensorboard", "train")
    folder, artifact = tensorboard.absolute() / out.name, out.absolute()
    for made in (artifact, artifact.with_name(f"{out.name}.training")):
        if made in (folder, *folder.parents):
            raise InvalidInputError(
                f"--tensorboard {tensorboard}: {folder} is in {made}; choose another folder"
            )
    return folder


@contextlib.contextmanager
def _exclusively(work: Path, processes: ProcessGroup) -> Iterator[None]:
    """Lock the folder of checkpoints against a second training."""
    with contextlib.ExitStack() as stack:
        with processes.synchronised():
            if processes.is_main:
                work.mkdir(parents=True, exist_ok=True)
                busy = (
                    "another training is running there; wait for it, or start another one from "
                    "scratch with another --out"
                )
                stack.enter_context(held(work / "lock", 0.0, str(work), busy))
        yield


def _checkpoints_of_others(work: Path, key: str) -> list[Path]:
    """Return the folders of checkpoints of other recipes, or of this one with other inputs."""
    return [path for path in work.glob("*") if re.fullmatch(r"[0-9a-f]{16}", path.name) and path.name != key]


def clear(work: Path, key: str = "") -> None:
    """Remove the checkpoints of a training that is over, and nothing of another one's.

    Args:
        work: the folder `<out>.training`.
        key: of the training's inputs; empty for all trainings.
    """
    for path in work.iterdir():
        if re.fullmatch(r"[0-9a-f]{16}", path.name) and key in ("", path.name) and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
    (work / "lock").unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # not empty, or a link that the user made
        work.rmdir()


def _already_trained(out: Path, file: RecipeFile, cache: Path, tell: Tell) -> Artifact | FullFineTune:
    """Return what this recipe has already produced in `out`.

    Raises:
        ConflictError: `out` is something else.
    """
    found: Artifact | FullFineTune
    with contextlib.suppress(AdapterHubError):
        if file.recipe.adapter.method == FULL_FINE_TUNING:
            found = FullFineTune.read(out)
            same = found.recipe == published_recipe(file, cache)
        else:
            found = Artifact.open(out)
            same = found.manifest.recipe == published_recipe(file, cache)
        if same:
            tell(f"{out}: already trained by this recipe, according to its record; remove it to train again")
            return found
    raise ConflictError(f"{out}: exists and was not made by this recipe; choose another --out or remove it")
