"""PEFT's files read without PEFT: what an `adapter_config.json` and its weights really adapt.

    found = read_peft(folder)                    # adapter_config.json + adapter_model.safetensors
    found.modules                                # path, rank, scaling of every adapted linear

Why: PEFT loads an adapter with missing, unknown or misplaced keys and at most warns, and drops config
fields that it does not know. So the tensors decide which modules are adapted and with which rank, the
config must agree with them, and a field that changes the computation in a way that we do not run is
refused.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from adapter_hub.artifact.contents import PICKLES
from adapter_hub.artifact.effects import LORA_KEY
from adapter_hub.artifact.peft_config import CONFIG_FILE, LONGEST_PATH, PeftConfig, read_peft_config
from adapter_hub.artifact.safetensors_file import TensorEntry, read_header
from adapter_hub.errors import IntegrityError, NotFoundError
from adapter_hub.escaping import shown
from adapter_hub.formats.manifest import (
    MAXIMUM_MODULES,
    MAXIMUM_RANK,
    MAXIMUM_SCALING,
    LoraModule,
    LoraSection,
)

WEIGHTS_FILE = "adapter_model.safetensors"
PREFIX = "base_model.model."  # of the names that PEFT saves tensors by
DTYPES: dict[str, Literal["float32", "float16", "bfloat16"]] = {
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
}
Number = TypeVar("Number", int, float)


@dataclass(frozen=True)
class PeftAdapter:
    """A LoRA in PEFT's format.

    Attributes:
        config: what `adapter_config.json` says.
        dtype: of all tensors: float32, float16 or bfloat16.
        dropout: of training, 0 to 1.
        modules: every adapted linear, sorted by path.
        shapes: `{path: (out_features, in_features)}`; `(out_features, in_features, 1)` of a convolution over
            single positions.
    """

    config: PeftConfig
    dtype: Literal["float32", "float16", "bfloat16"]
    dropout: float
    modules: tuple[LoraModule, ...]
    shapes: Mapping[str, tuple[int, ...]]

    @property
    def parameters(self) -> int:
        """The number of trained values."""
        return sum(module.rank * sum(self.shapes[module.path][:2]) for module in self.modules)


def read_peft(folder: Path) -> PeftAdapter:
    """Read a LoRA in PEFT's format; values are not read, only the header.

    Args:
        folder: holds `adapter_config.json` and `adapter_model.safetensors`.

    Raises:
        NotFoundError: a file is missing. InvalidInputError: the config is not one that we can run.
        IntegrityError: config and tensors disagree; every difference is listed.
    """
    config = read_peft_config(folder)
    path = folder / WEIGHTS_FILE
    if not path.is_file():
        pickles = sorted(item.name for item in folder.iterdir() if item.suffix in PICKLES)
        instead = f" but {', '.join(pickles)}, and pickles are never read" if pickles else ""
        raise NotFoundError(f"{folder}: no {WEIGHTS_FILE}{instead}; save the adapter as safetensors")
    return assembled(config, read_header(path), path)


def assembled(
    config: PeftConfig,
    header: Mapping[str, TensorEntry],
    path: Path,
    dtype: Literal["float32", "float16", "bfloat16"] | None = None,
) -> PeftAdapter:
    """Return what config and tensors are together.

    Args:
        config: with literal names.
        header: the tensors by the names that PEFT gives them.
        path: of their file, for messages.
        dtype: that they will be written in; None where all have the same.

    Raises:
        IntegrityError: they disagree; every difference is listed.
    """
    halves, differences = _halves(header)
    modules = []
    for name in sorted(halves):
        differences += _half_problems(name, halves[name])
        if len(halves[name]) == 2 and halves[name]["A"].is_matrix:
            rank = halves[name]["A"].shape[0]
            differences += _module_differences(config, name, rank)
            modules.append((name, rank))
    dtypes = sorted({entry.dtype for pair in halves.values() for entry in pair.values()})
    if dtype is None and (len(dtypes) != 1 or dtypes[0] not in DTYPES):
        differences.append(f"dtypes {', '.join(dtypes) or 'none'}, expected one of {', '.join(DTYPES)}")
    if len(halves) > MAXIMUM_MODULES:
        differences.append(f"{len(halves)} modules, expected at most {MAXIMUM_MODULES}")
    differences += config.differences(sorted(halves))
    if differences:
        raise IntegrityError(str(path), differences, f"expected what {CONFIG_FILE} describes")
    return PeftAdapter(
        config=config,
        dtype=dtype or DTYPES[dtypes[0]],
        dropout=config.lora_dropout or 0.0,
        modules=tuple(
            LoraModule(path=name, rank=rank, scaling=config.scaling_at(name, rank)) for name, rank in modules
        ),
        shapes={name: (pair["B"].shape[0], *pair["A"].shape[1:]) for name, pair in halves.items()},
    )


def canonical_config(
    modules: Sequence[LoraModule], dropout: float, base_model_id: str, revision: str | None = None
) -> dict[str, Any]:
    """Return the config that says the same of the same tensors in one spelling.

    Module names are written out, patterns hold what differs from the most frequent rank and alpha, and
    the task type is null: with SEQ_2_SEQ_LM PEFT's forward fails on Whisper.

    Args:
        modules: every adapted linear.
        dropout: of training, 0 to 1.
        base_model_id: what plain PEFT loads it onto.
        revision: commit of the base model's repository.
    """
    ranks = {module.path: module.rank for module in modules}
    alphas = {module.path: _whole(module.scaling * module.rank) for module in modules}
    rank = _commonest(ranks.values())
    alpha = _commonest(alphas.values())
    return {
        "alpha_pattern": {path: value for path, value in alphas.items() if value != alpha},
        "base_model_name_or_path": base_model_id,
        "bias": "none",
        "inference_mode": True,
        "lora_alpha": alpha,
        "lora_dropout": dropout,
        "peft_type": "LORA",
        "r": rank,
        "rank_pattern": {path: value for path, value in ranks.items() if value != rank},
        "revision": revision,
        "target_modules": sorted(ranks),
        "task_type": None,
    }


def section_differences(adapter: PeftAdapter, section: LoraSection) -> list[str]:
    """Return how PEFT's files and the manifest's section on them disagree.

    Args:
        adapter: what the files say.
        section: what the manifest says.
    """
    differences = []
    theirs = {module.path: module for module in adapter.modules}
    ours = {module.path: module for module in section.modules}
    for path in sorted(theirs.keys() ^ ours.keys()):
        differences.append(f"{path} is in the {'weights' if path in theirs else 'manifest'} only")
    for path in sorted(theirs.keys() & ours.keys()):
        mine, other = ours[path], theirs[path]
        if mine.rank != other.rank:
            differences.append(f"{path}: rank {mine.rank} in the manifest, {other.rank} in the weights")
        elif mine.scaling != other.scaling:
            differences.append(
                f"{path}: scaling {mine.scaling} in the manifest, {other.scaling} in the config"
            )
    for name in ("dtype", "parameters"):
        if getattr(adapter, name) != getattr(section, name):
            differences.append(
                f"{name} {getattr(section, name)} in the manifest, {getattr(adapter, name)} in the weights"
            )
    return differences


def shape_differences(adapter: PeftAdapter, linears: Mapping[str, tuple[int, ...]]) -> list[str]:
    """Return which modules the base model lacks or has in another shape.

    Args:
        adapter: the LoRA.
        linears: `base_model.linear_shapes(folder)`.
    """
    differences = []
    for path, shape in sorted(adapter.shapes.items()):
        if path not in linears or path.rsplit(".", 1)[-1].startswith("embed_"):
            differences.append(f"{path}: the base model has no such linear")
        elif linears[path] != shape:
            differences.append(f"{path}: made for a linear of {shape}, the base model's is {linears[path]}")
    return differences


def _halves(header: Mapping[str, TensorEntry]) -> tuple[dict[str, dict[str, TensorEntry]], list[str]]:
    """Return `{module path: {"A": …, "B": …}}` and the tensors that are not half of a LoRA."""
    halves: dict[str, dict[str, TensorEntry]] = {}
    strange = []
    for name in sorted(header):
        match = LORA_KEY.fullmatch(name)
        if match and len(match["path"]) <= LONGEST_PATH:
            halves.setdefault(match["path"], {})[match["half"]] = header[name]
        else:
            strange.append(f"unknown tensor '{shown(name, 100)}'")
    return halves, strange if halves else [*strange, "no LoRA tensors at all"]


def _half_problems(path: str, pair: Mapping[str, TensorEntry]) -> list[str]:
    if missing := {"A", "B"} - set(pair):
        return [f"{path}: no lora_{missing.pop()}"]
    a, b = pair["A"].shape, pair["B"].shape
    if len(a) == 3 and a[2] > 1:
        return [
            f"{path}: a LoRA on a convolution over {a[2]} positions; on a depthwise one it takes many times "
            "the weights that it adapts and PEFT cannot merge it: adapt the pointwise convolutions instead"
        ]
    matrices = pair["A"].is_matrix and pair["B"].is_matrix and len(a) == len(b)
    if not matrices or a[0] != b[1] or 0 in (*a, *b):
        return [f"{path}: lora_A {a} and lora_B {b} are not two halves of a linear's update"]
    return []


def _module_differences(config: PeftConfig, path: str, rank: int) -> list[str]:
    """Return why a module of this rank cannot be loaded, or is not what the config says."""
    if rank > MAXIMUM_RANK:
        return [f"{path}: rank {rank}, at most {MAXIMUM_RANK} can be loaded"]
    wanted, scaling = config.rank_at(path), config.scaling_at(path, max(rank, 1))
    if wanted != rank:
        return [f"{path}: rank {rank}, {CONFIG_FILE} says {wanted}"]
    return (
        []
        if scaling < MAXIMUM_SCALING
        else [f"{path}: scaling {scaling:g}, below {MAXIMUM_SCALING:g} expected"]
    )


def _commonest(values: Iterable[Number]) -> Number:
    """Return the value that occurs most often, of several the smallest."""
    counts = Counter(values)
    return min(counts, key=lambda value: (-counts[value], value))


def _whole(value: float) -> float | int:
    return round(value) if math.isclose(value, round(value), rel_tol=1e-12) else value
