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
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from adapter_hub.canonical import read_json
from adapter_hub.errors import IntegrityError, InvalidInputError, NotFoundError
from adapter_hub.manifest import LoraModule, LoraSection
from adapter_hub.reading import read_bounded
from adapter_hub.tensors import TensorEntry, any_nonzero, read_header, tensor_bytes

CONFIG_FILE = "adapter_config.json"
WEIGHTS_FILE = "adapter_model.safetensors"
MAXIMUM_CONFIG = 2**20  # bytes; a config that lists 1000 modules is 60 kB
DTYPES: dict[str, Literal["float32", "float16", "bfloat16"]] = {
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
}
_KEY = re.compile(r"base_model\.model\.(?P<path>[A-Za-z0-9_.]+)\.lora_(?P<half>[AB])\.weight")
_LITERAL = re.compile(r"[A-Za-z0-9_.]+")
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")
# fields without a say in what a loaded adapter computes
_NEUTRAL = frozenset(
    {
        "auto_mapping",
        "base_model_name_or_path",
        "ensure_weight_tying",
        "eva_config",
        "exclude_modules",  # which modules are adapted is read from the tensors
        "inference_mode",
        "layers_pattern",
        "layers_to_transform",
        "lora_dropout",
        "megatron_core",
        "peft_version",
        "qalora_group_size",
        "revision",
        "runtime_config",
    }
)
# initialisations that leave the base model's weights as they are; others (pissa, olora, …) change them
_INITIALISATIONS = (True, False, "gaussian", "orthogonal", "eva")


@dataclass(frozen=True)
class PeftAdapter:
    """A LoRA in PEFT's format.

    Attributes:
        config: `adapter_config.json` as it was read.
        dtype: of all tensors: float32, float16 or bfloat16.
        dropout: of training, 0 to 1.
        modules: every adapted linear, sorted by path.
        shapes: `{path: (out_features, in_features)}`.
    """

    config: Mapping[str, Any]
    dtype: Literal["float32", "float16", "bfloat16"]
    dropout: float
    modules: tuple[LoraModule, ...]
    shapes: Mapping[str, tuple[int, int]]

    @property
    def parameters(self) -> int:
        """The number of trained values."""
        return sum(module.rank * sum(self.shapes[module.path]) for module in self.modules)


def read_peft(folder: Path) -> PeftAdapter:
    """Read a LoRA in PEFT's format; values are not read, only the header.

    Raises:
        NotFoundError: a file is missing. InvalidInputError: the config is none that we run.
        IntegrityError: config and tensors disagree; every difference is listed.
    """
    config = read_peft_config(folder)
    if problems := config_problems(config):
        raise InvalidInputError(f"{folder / CONFIG_FILE}: {'; '.join(problems)}")
    path = folder / WEIGHTS_FILE
    if not path.is_file():
        pickles = sorted(item.name for item in folder.iterdir() if item.suffix in _PICKLES)
        instead = f" but {', '.join(pickles)}, and pickles are never read" if pickles else ""
        raise NotFoundError(f"{folder}: no {WEIGHTS_FILE}{instead}; save the adapter as safetensors")
    halves, differences = _halves(read_header(path))
    modules = []
    for name in sorted(halves):
        differences += _half_problems(name, halves[name])
        if len(halves[name]) == 2 and len(halves[name]["A"].shape) == 2:
            rank = halves[name]["A"].shape[0]
            differences += _config_differences(config, name, rank)
            modules.append((name, rank, scaling_of(config, name, rank)))
    dtypes = sorted({entry.dtype for pair in halves.values() for entry in pair.values()})
    if len(dtypes) != 1 or dtypes[0] not in DTYPES:
        differences.append(f"dtypes {', '.join(dtypes) or 'none'}, expected one of {', '.join(DTYPES)}")
    differences += _target_differences(config, list(halves))
    if differences:
        raise IntegrityError(str(path), differences, f"expected what {CONFIG_FILE} describes")
    return PeftAdapter(
        config=config,
        dtype=DTYPES[dtypes[0]],
        dropout=float(config.get("lora_dropout") or 0.0),
        modules=tuple(LoraModule(path=name, rank=rank, scaling=scale) for name, rank, scale in modules),
        shapes={name: (pair["B"].shape[0], pair["A"].shape[1]) for name, pair in halves.items()},
    )


def read_peft_config(folder: Path) -> dict[str, Any]:
    """Return `adapter_config.json` as plain data.

    Raises:
        NotFoundError: it is missing. InvalidInputError: too large, or no JSON object.
    """
    path = folder / CONFIG_FILE
    if not path.is_file():
        raise NotFoundError(f"{folder}: no {CONFIG_FILE}; expected a LoRA as PEFT saves it")
    config = read_json(read_bounded(path, MAXIMUM_CONFIG), str(path))
    if not isinstance(config, dict):
        raise InvalidInputError(f"{path}: expected a JSON object")
    return config


def config_problems(config: Mapping[str, Any]) -> list[str]:
    """Return why this is not a plain LoRA on linears; empty if it is."""
    checks: dict[str, Callable[[Any], bool]] = {
        "peft_type": lambda v: v == "LORA",
        "task_type": lambda v: v in (None, "SEQ_2_SEQ_LM"),
        "r": lambda v: isinstance(v, int) and not isinstance(v, bool) and v > 0,
        "lora_alpha": lambda v: isinstance(v, int | float) and not isinstance(v, bool) and v > 0,
        "bias": lambda v: v in (None, "none"),
        "target_modules": lambda v: isinstance(v, str) or _all_texts(v),
        "init_lora_weights": lambda v: v is None or v in _INITIALISATIONS,
        "rank_pattern": lambda v: v is None or _is_pattern(v),
        "alpha_pattern": lambda v: v is None or _is_pattern(v),
        "use_rslora": lambda v: v in (None, True, False),
    }
    expected = {
        "peft_type": "LORA",
        "task_type": "null or SEQ_2_SEQ_LM",
        "bias": "none (biases would replace the base model's)",
        "init_lora_weights": "one that leaves the base model's weights alone",
        "rank_pattern": "literal module paths with numbers",
        "alpha_pattern": "literal module paths with numbers",
        "target_modules": "a list of module names",
    }
    problems = [
        f"{name} is {config.get(name)!r}, expected {expected.get(name, 'a positive number')}"
        for name, sound in checks.items()
        if not sound(config.get(name))
    ]
    for name in sorted(set(config) - set(checks) - _NEUTRAL):
        if config[name]:  # null, false, 0, {} and [] leave a feature off
            problems.append(f"{name} is {config[name]!r}: only plain LoRA on linears is supported")
    return problems


def scaling_of(config: Mapping[str, Any], path: str, rank: int) -> float:
    """Return the factor of B·A at a module: alpha / rank, or alpha / √rank with rsLoRA."""
    alpha = _matching(config.get("alpha_pattern"), path, config["lora_alpha"])
    return float(alpha / math.sqrt(rank) if config.get("use_rslora") else alpha / rank)


def canonical_config(adapter: PeftAdapter, base_model_id: str, revision: str | None = None) -> dict[str, Any]:
    """Return the config that says the same of the same tensors in one spelling.

    Module names are written out, patterns hold what differs from the most frequent rank and alpha, and
    the task type is null: with SEQ_2_SEQ_LM PEFT's forward fails on Whisper.
    """
    ranks = {module.path: module.rank for module in adapter.modules}
    alphas = {module.path: _whole(module.scaling * module.rank) for module in adapter.modules}
    rank = max(sorted(set(ranks.values())), key=list(ranks.values()).count)
    alpha = max(sorted(set(alphas.values())), key=list(alphas.values()).count)
    return {
        "alpha_pattern": {path: value for path, value in alphas.items() if value != alpha},
        "base_model_name_or_path": base_model_id,
        "bias": "none",
        "inference_mode": True,
        "lora_alpha": alpha,
        "lora_dropout": adapter.dropout,
        "peft_type": "LORA",
        "r": rank,
        "rank_pattern": {path: value for path, value in ranks.items() if value != rank},
        "revision": revision,
        "target_modules": sorted(ranks),
        "task_type": None,
    }


def has_effect(weights: Path) -> bool:
    """Tell whether an update B·A of any module can differ from zero: both halves of it do."""
    nonzero: dict[str, set[str]] = {}
    for entry, data in tensor_bytes(weights):
        if (match := _KEY.fullmatch(entry.name)) and any_nonzero(entry, data):
            halves = nonzero.setdefault(match["path"], set())
            halves.add(match["half"])
            if len(halves) == 2:
                return True
    return False


def section_differences(adapter: PeftAdapter, section: LoraSection) -> list[str]:
    """Return how PEFT's files and the manifest's section on them disagree."""
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


def shape_differences(adapter: PeftAdapter, linears: Mapping[str, tuple[int, int]]) -> list[str]:
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
    """Return `{module path: {"A": …, "B": …}}` and the tensors that are no half of a LoRA."""
    halves: dict[str, dict[str, TensorEntry]] = {}
    strange = []
    for name in sorted(header):
        if match := _KEY.fullmatch(name):
            halves.setdefault(match["path"], {})[match["half"]] = header[name]
        else:
            strange.append(f"unknown tensor {name!r}")
    return halves, strange if halves else [*strange, "no LoRA tensors at all"]


def _half_problems(path: str, pair: Mapping[str, TensorEntry]) -> list[str]:
    if missing := {"A", "B"} - set(pair):
        return [f"{path}: no lora_{missing.pop()}"]
    a, b = pair["A"].shape, pair["B"].shape
    if len(a) != 2 or len(b) != 2 or a[0] != b[1] or 0 in (*a, *b):
        return [f"{path}: lora_A {a} and lora_B {b} are not two halves of a linear's update"]
    return []


def _config_differences(config: Mapping[str, Any], path: str, rank: int) -> list[str]:
    wanted = _matching(config.get("rank_pattern"), path, config["r"])
    return [] if wanted == rank else [f"{path}: rank {rank}, {CONFIG_FILE} says {wanted}"]


def _target_differences(config: Mapping[str, Any], paths: list[str]) -> list[str]:
    """Return names of target_modules without tensors and the reverse; a pattern is left to the tensors."""
    targets = config["target_modules"]
    if isinstance(targets, str):
        return []
    unused = [name for name in sorted(targets) if not any(_ends_with(path, name) for path in paths)]
    uncovered = [path for path in paths if not any(_ends_with(path, name) for name in targets)]
    return [
        *(f"target module {name!r} has no tensors" for name in unused),
        *(f"{path} is not among the target modules" for path in uncovered),
    ]


def _ends_with(path: str, name: str) -> bool:
    return path == name or path.endswith(f".{name}")


def _matching(pattern: Mapping[str, Any] | None, path: str, default: Any) -> Any:
    return next((value for name, value in (pattern or {}).items() if _ends_with(path, name)), default)


def _all_texts(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(item, str) for item in value)


def _is_pattern(value: Any) -> bool:
    return isinstance(value, dict) and all(
        _LITERAL.fullmatch(name) and isinstance(number, int | float) and number > 0
        for name, number in value.items()
    )


def _whole(value: float) -> float | int:
    return round(value) if math.isclose(value, round(value), rel_tol=1e-12) else value
