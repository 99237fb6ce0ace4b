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
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from adapter_hub.base_model.digest import WEIGHTS
from adapter_hub.base_model.families import settings_record
from adapter_hub.errors import ConflictError, InvalidInputError, few
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


@dataclass(frozen=True)
class ModelComponent:
    """A model's folder and its weight in an average."""

    folder: Path
    weight: float


def average_models(
    components: Sequence[ModelComponent],
    *,
    out: Path,
    base_model: Path | None = None,
    method: str = "mean",
    parameters: MethodOptions | None = None,
    dtype: str | None = None,
    progress: Progress | None = None,
) -> None:
    """Write the average of models to a folder that transformers opens.

    Args:
        components: folders of models with the same settings, tokenizer and tensors.
        out: a folder that does not exist yet.
        base_model: the model that they were fine-tuned from; needed where the weights leave it a share, and
            by every method but `mean`.
        method: one of `adapter_hub.trainers.averaging.methods`.
        parameters: what that method can be told.
        dtype: of the weights that are written; None keeps each tensor's.
        progress: called with the tensors that are done and their number.

    Raises:
        InvalidInputError: nothing to average, weights that are no shares, or models that differ; every
            difference. ConflictError: `out` exists. NotFoundError: no model in a folder.
    """
    if out.exists():
        raise ConflictError(f"{out}: already exists; choose another --out or remove it")
    with folder_in_the_making(out) as folder:
        combine_models(folder, components, base_model, method, parameters, dtype, progress)


def combine_models(
    folder: Path,
    components: Sequence[ModelComponent],
    base_model: Path | None,
    method: str = "mean",
    parameters: MethodOptions | None = None,
    dtype: str | None = None,
    progress: Progress | None = None,
) -> None:
    """Write the average of models into an empty folder, see `average_models`.

    Args:
        folder: that is to hold the model.
        components: as in `average_models`, and so are the others.
        base_model: the model that they were fine-tuned from.
        method: how they are combined.
        parameters: of the method.
        dtype: of the weights that are written.
        progress: called with the tensors that are done and their number.

    Raises:
        InvalidInputError, NotFoundError: as `average_models`.
    """
    parameters = parameters or MethodOptions()
    parameters.check()
    chosen = method_named(method)
    if not components:
        raise InvalidInputError("average: no component; name at least one model")
    check_weights({str(component.folder): component.weight for component in components})
    rest = 1.0 - math.fsum(component.weight for component in components)
    if base_model is None and (rest > 1e-9 or method != "mean"):
        raise InvalidInputError("average: the base model is needed for its share; name it with --base-model")
    folders = [*(component.folder for component in components), *([base_model] if base_model else [])]
    sources = [TensorSource(folder) for folder in folders]
    if problems := [*_setting_problems(folders), *_tensor_problems(sources)]:
        raise InvalidInputError(f"average: {few(problems)}")
    weights = torch.tensor([component.weight for component in components], dtype=torch.float64)
    blend = _Blend(chosen, weights, parameters, base_model is not None)
    _copy_settings(folders[0], folder)
    names = sorted(sources[0].tensors)
    plan = {name: (_written(sources[0], name, dtype), sources[0].tensors[name].shape) for name in names}
    with TensorWriter(folder / WEIGHTS, plan) as writer:
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


def _setting_problems(folders: Sequence[Path]) -> Iterator[str]:
    """Yield how models differ in what is not averaged: configuration, tokenizer, features, generation."""
    first = settings_record(folders[0])
    for folder in folders[1:]:
        other = settings_record(folder)
        for name in sorted(first.keys() | other.keys()):
            if first.get(name) != other.get(name):
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
