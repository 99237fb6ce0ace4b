"""Averages of full models: full fine-tunes of one base model, tensor by tensor, in the memory of a slice.

    experts = [ModelComponent(first, 0.25), ModelComponent(second, 0.25)]
    average_models(experts, base_model=folder, out=Path("out/average"))

Weights that sum to less than 1 leave the rest to the base model (Plantinga et al., SLT 2024: with the
original model). Accumulation is in float64, whatever the models' dtype. Integer tensors (the counters of
batch norms) take the largest value, as no average of them means anything.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from adapter_hub.base_model.families import settings_record
from adapter_hub.base_model.tensors import WEIGHTS
from adapter_hub.errors import ConflictError, IntegrityError, InvalidInputError, few
from adapter_hub.files.writing import folder_in_the_making
from adapter_hub.reporting import Progress
from adapter_hub.trainers.averaging.methods import (
    METHODS,
    AveragingMethod,
    MethodOptions,
    check_weights,
    method_named,
)
from adapter_hub.trainers.averaging.tensor_streams import INTEGERS, TensorSource, TensorWriter

GENERATION = "generation"  # of a model's settings


@dataclass(frozen=True)
class ModelComponent:
    """A model's folder and its weight in an average."""

    folder: Path
    weight: float


@dataclass(frozen=True)
class ModelAverageOptions:
    """How models are combined.

    Attributes:
        method: one of `adapter_hub.trainers.averaging.methods`.
        parameters: what that method can be told.
        dtype: of the weights that are written; None keeps each tensor's.
    """

    method: str = "mean"
    parameters: MethodOptions = field(default_factory=MethodOptions)
    dtype: str | None = None


def average_models(
    components: Sequence[ModelComponent],
    *,
    out: Path,
    base_model: Path | None = None,
    options: ModelAverageOptions | None = None,
    progress: Progress | None = None,
    describe: Callable[[Path], object] | None = None,
) -> None:
    """Write the average of models to a folder that transformers opens, whole or not at all.

    `adapter_hub.trainers.averaging.model_record` does the same with a record of where it comes from.

    Args:
        components: folders of models with the same settings, tokenizer and tensors.
        out: a folder that does not exist yet.
        base_model: the model that they were fine-tuned from; needed where the weights leave it a share, and
            by every method but `mean`.
        options: how they are combined; None for their mean.
        progress: called with the tensors that are done and their number.
        describe: called with the folder while it is in the making, when the model in it is whole.

    Raises:
        InvalidInputError: nothing to average, weights that are no shares, or models that differ; every
            difference. ConflictError: `out` exists. NotFoundError: no model in a folder.
    """
    options = options or ModelAverageOptions()
    options.parameters.check()
    chosen = method_named(options.method)
    if options.method == "greedy":
        raise InvalidInputError("average: method greedy chooses among adapters, not among full models")
    if not components:
        raise InvalidInputError("average: no component; name at least one model")
    check_weights({str(component.folder): component.weight for component in components})
    rest = 1.0 - math.fsum(component.weight for component in components)
    if base_model is None and (rest > 1e-9 or options.method != "mean"):
        raise InvalidInputError("average: the base model is needed for its share; name it with --base-model")
    folders = [*(component.folder for component in components), *([base_model] if base_model else [])]
    sources = [TensorSource(folder) for folder in folders]
    if problems := [*_setting_problems(folders), *_tensor_problems(sources)]:
        raise InvalidInputError(f"average: {few(problems)}")
    weights = torch.tensor([component.weight for component in components], dtype=torch.float64)
    blend = _Blend(chosen, weights, options.parameters, base_model is not None)
    with _model_in_the_making(out, folders[0], describe) as path:
        _write_weights(path, sources, blend, options.dtype, progress)


def write_changed(
    base_model: Path,
    changes: Iterator[tuple[str, Tensor]],
    out: Path,
    *,
    dtype: str | None = None,
    progress: Progress | None = None,
    describe: Callable[[Path], object] | None = None,
) -> None:
    """Write a model with something added to some of its weights, in the memory of one of them.

    Args:
        base_model: folder of the model.
        changes: names of weights in sorted order, each with what is added, of as many values.
        out: a folder that does not exist yet.
        dtype: of the weights that are written; None keeps each one's.
        progress: called with the tensors that are done and their number.
        describe: called with the folder while it is in the making, when the model in it is whole.

    Raises:
        ConflictError: `out` exists. IntegrityError: a weight that is changed is not there.
    """
    source = TensorSource(base_model)
    names = sorted(source.tensors)
    plan = {name: (_written(source, name, dtype), source.tensors[name].shape) for name in names}
    with _model_in_the_making(out, base_model, describe) as path, TensorWriter(path, plan) as writer:
        changed, change = next(changes, ("", None))
        for number, name in enumerate(names, start=1):
            if name != changed or change is None:
                for values in source.slices(name):
                    writer.write(name, values)
            else:
                (whole,) = source.whole(name)
                writer.write(name, whole.double().reshape(-1) + change.double().reshape(-1))
                changed, change = next(changes, ("", None))
            if progress:
                progress(number, len(names))
        if change is not None:
            raise IntegrityError(f"{base_model}: no weight {changed}; expected the adapters' base model")


@contextmanager
def _model_in_the_making(
    out: Path, settings: Path, describe: Callable[[Path], object] | None
) -> Iterator[Path]:
    """Yield the file for a model's weights; its folder appears when it is whole, settings and all."""
    if out.exists():
        raise ConflictError(f"{out}: already exists; choose another --out or remove it")
    try:
        with folder_in_the_making(out) as folder:
            _copy_settings(settings, folder)
            yield folder / WEIGHTS
            for path in folder.iterdir():
                path.chmod(0o644)
            if describe:
                describe(folder)
    except FileExistsError:
        raise ConflictError(f"{out}: appeared meanwhile; choose another --out") from None


def _write_weights(
    path: Path, sources: Sequence[TensorSource], blend: _Blend, dtype: str | None, progress: Progress | None
) -> None:
    """Write every tensor, combined slice by slice where the method allows it."""
    names = sorted(sources[0].tensors)
    plan = {name: (_written(sources[0], name, dtype), sources[0].tensors[name].shape) for name in names}
    with TensorWriter(path, plan) as writer:
        for number, name in enumerate(names, start=1):
            integers = sources[0].dtype(name) in INTEGERS
            pieces = [s.slices(name) if blend.elementwise or integers else s.whole(name) for s in sources]
            for values in zip(*pieces, strict=True):
                writer.write(name, torch.stack(values).amax(0) if integers else blend(values))
            if progress:
                progress(number, len(names))


class _Blend:
    """Combines the values of a tensor, or of a slice of it, of all models; the base model's are the last."""

    def __init__(
        self, method: AveragingMethod, weights: Tensor, parameters: MethodOptions, with_base_model: bool
    ) -> None:
        self.method, self.weights, self.parameters = method, weights, parameters
        self.with_base_model = with_base_model
        self.generator = torch.Generator().manual_seed(parameters.random_seed)

    @property
    def elementwise(self) -> bool:
        """Whether values of one place are combined without a look at the others."""
        return self.method.elementwise

    def __call__(self, values: Sequence[Tensor]) -> Tensor:
        dtype = torch.float64 if self.elementwise else torch.float32
        stacked = torch.stack([piece.to(dtype) for piece in values])
        weights = self.weights.to(dtype)
        if not self.with_base_model:
            return torch.tensordot(weights, stacked, 1)
        base, updates = stacked[-1], stacked[:-1] - stacked[-1]
        combine = self.method.combine
        if not self.elementwise and base.ndim != 2:  # vectors have no singular vectors
            combine = METHODS["mean"].combine
        return base + combine(updates, weights, self.parameters, base, self.generator)


def _written(source: TensorSource, name: str, dtype: str | None) -> str:
    own = source.dtype(name)
    return own if dtype is None or own in INTEGERS else dtype


def _copy_settings(source: Path, target: Path) -> None:
    """Copy what a model's folder holds beside weights: configuration, tokenizer, features."""
    for path in sorted(source.iterdir()):
        plain = path.is_file() and not path.is_symlink() and path.suffix in (".json", ".txt")
        if plain and not path.name.endswith((".index.json", "full_fine_tuning.json")):
            shutil.copyfile(path, target / path.name)


def differing_settings(first: Path, other: Path) -> list[str]:
    """Return in which of their settings two models differ: `config`, `tokenizer`, `features`, `generation`.

    Args:
        first: folder of a model.
        other: folder of a model.

    Raises:
        NotFoundError, InvalidInputError: a folder is not a sound model.
    """
    one, two = settings_record(first), settings_record(other)
    return [name for name in sorted(one.keys() | two.keys()) if one.get(name) != two.get(name)]


def _setting_problems(folders: Sequence[Path]) -> Iterator[str]:
    """Yield how models differ in what is not averaged: configuration, tokenizer, features, generation."""
    for folder in folders[1:]:
        for name in differing_settings(folders[0], folder):
            yield f"{folder} and {folders[0]} differ in their {name}"


def _tensor_problems(sources: Sequence[TensorSource]) -> Iterator[str]:
    """Yield how models differ in their tensors' names, shapes and dtypes."""
    first = sources[0]
    for source in sources[1:]:
        for name in sorted(first.tensors.keys() ^ source.tensors.keys()):
            owner = first.folder if name in first.tensors else source.folder
            yield f"{name} is in {owner} only"
        for name in sorted(first.tensors.keys() & source.tensors.keys()):
            mine, other = first.tensors[name], source.tensors[name]
            if mine.shape != other.shape:
                shapes = f"{list(mine.shape)} in {first.folder} and {list(other.shape)} in {source.folder}"
                yield f"{name} is {shapes}"
            elif (first.dtype(name) in INTEGERS) != (source.dtype(name) in INTEGERS):
                yield f"{name} is {mine.dtype} in {first.folder} and {other.dtype} in {source.folder}"
