"""PEFT's `adapter_config.json`, read through a record: every field that matters typed and bounded.

    config = read_peft_config(folder)
    config.rank_at("model.encoder.layers.0.fc1"), config.scaling_at("model.encoder.layers.0.fc1", 32)

PEFT adds fields with every release. One that does not change what a loaded adapter computes is let pass,
one that is off is, too, and everything else is refused: we would run another computation than PEFT.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from adapter_hub.errors import InvalidInputError, NotFoundError, few
from adapter_hub.escaping import shown
from adapter_hub.files.reading import read_bounded
from adapter_hub.formats.canonical import MAXIMUM_TEXT, check_json
from adapter_hub.formats.manifest import MAXIMUM_MODULES, MAXIMUM_RANK

CONFIG_FILE = "adapter_config.json"
MAXIMUM_CONFIG = 2**20  # bytes; a config that lists 1000 modules is 60 kB
MAXIMUM_VALUES = 50_000  # in it
LONGEST_PATH = 256  # characters of a module's path
_DOUBTFUL = 100  # patterns that are compared with every module, one by one
# fields without a say in what a loaded adapter computes
NEUTRAL = frozenset(
    {
        "auto_mapping",
        "ensure_weight_tying",
        "eva_config",
        "exclude_modules",  # which modules are adapted is read from the tensors
        "inference_mode",
        "layers_pattern",
        "layers_to_transform",
        "megatron_core",
        "peft_version",
        "qalora_group_size",
        "runtime_config",
    }
)
_EXPECTED = {
    "alpha_pattern": "literal module paths with numbers",
    "base_model_name_or_path": "a text or null",
    "bias": "none (biases would replace the base model's)",
    "exclude_modules": "a list of module names",
    "init_lora_weights": "one that leaves the base model's weights alone",
    "layers_pattern": "plain names of modules",
    "layers_to_transform": "numbers of layers",
    "lora_alpha": "a positive number below 1e9",
    "lora_dropout": "a number from 0 to 1",
    "modules_to_save": "a list of module names",
    "peft_type": "LORA",
    "r": f"a whole number from 1 to {MAXIMUM_RANK}",
    "rank_pattern": f"literal module paths with whole numbers from 1 to {MAXIMUM_RANK}",
    "revision": "a text or null",
    "target_modules": "a list of module names",
    "task_type": "null or SEQ_2_SEQ_LM",
    "use_rslora": "true or false",
}

ModuleName = Annotated[str, StringConstraints(min_length=1, max_length=LONGEST_PATH)]
Literally = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.]+$", max_length=LONGEST_PATH)]
Rank = Annotated[int, Field(ge=1, le=MAXIMUM_RANK)]
Alpha = Annotated[float, Field(gt=0.0, lt=1e9)]
ShortText = Annotated[str, StringConstraints(max_length=MAXIMUM_TEXT)]
Value = TypeVar("Value")
Validated = TypeVar("Validated", bound=BaseModel)


class PeftConfig(BaseModel):
    """What a plain LoRA's config says; fields that are not listed are kept, see `unknown_features`.

    `init_lora_weights` is one that leaves the base model's weights alone; others (pissa, olora, …) do not.
    """

    model_config = ConfigDict(frozen=True, strict=True, extra="allow", allow_inf_nan=False)

    peft_type: Literal["LORA"]
    task_type: Literal["SEQ_2_SEQ_LM"] | None = None
    r: Rank
    lora_alpha: Alpha
    lora_dropout: Annotated[float, Field(ge=0.0, le=1.0)] | None = None
    bias: Literal["none"] | None = None
    target_modules: (
        ModuleName | Annotated[list[ModuleName], Field(min_length=1, max_length=4 * MAXIMUM_MODULES)]
    )
    init_lora_weights: bool | Literal["gaussian", "orthogonal", "eva"] | None = None
    rank_pattern: dict[Literally, Rank] | None = None
    alpha_pattern: dict[Literally, Alpha] | None = None
    use_rslora: bool | None = None
    base_model_name_or_path: ShortText | None = None
    revision: ShortText | None = None

    @property
    def unknown_features(self) -> dict[str, Any]:
        """The fields that are on and that this program does not know: not null, false, 0, {} or []."""
        extra = self.model_extra or {}
        return {name: extra[name] for name in sorted(extra) if extra[name] and name not in NEUTRAL}

    @property
    def is_pattern(self) -> bool:
        """Whether target_modules is a pattern, whose meaning depends on the reader."""
        return isinstance(self.target_modules, str)

    @cached_property
    def _ranks(self) -> Mapping[str, tuple[int, int]]:
        return _numbered(self.rank_pattern)

    @cached_property
    def _alphas(self) -> Mapping[str, tuple[int, float]]:
        return _numbered(self.alpha_pattern)

    def rank_at(self, path: str) -> int:
        """Return the rank of a module by its full path."""
        return _first(self._ranks, path, self.r)

    def scaling_at(self, path: str, rank: int) -> float:
        """Return the factor of B·A at a module: alpha / rank, or alpha / √rank with rsLoRA.

        Args:
            path: full path of the module.
            rank: of the module.
        """
        alpha = _first(self._alphas, path, self.lora_alpha)
        return alpha / math.sqrt(rank) if self.use_rslora else alpha / rank

    def differences(self, paths: Iterable[str]) -> list[str]:
        """Return how target_modules and the patterns do not fit the modules that have tensors.

        A pattern as target_modules is left to the tensors.

        Args:
            paths: of the modules that have tensors.
        """
        known = list(paths)
        return [*self._target_differences(known), *self._pattern_differences(known)]

    def _target_differences(self, paths: list[str]) -> list[str]:
        if isinstance(self.target_modules, str):
            return []
        targets = set(self.target_modules)
        endings = {ending for path in paths for ending in endings_of(path)}
        return [
            *(f"target module '{shown(name, 100)}' has no tensors" for name in sorted(targets - endings)),
            *(
                f"{path} is not among the target modules"
                for path in paths
                if targets.isdisjoint(endings_of(path))
            ),
        ]

    def _pattern_differences(self, paths: list[str]) -> Iterator[str]:
        """For PEFT a pattern's dot is any character: `q.proj` is q_proj, which we would not take it for."""
        segments = {segment for path in paths for segment in path.split(".")}
        for field in ("rank_pattern", "alpha_pattern"):
            names = [name for name in getattr(self, field) or {} if not segments.issuperset(name.split("."))]
            doubtful = [name for name in names if "." in name]
            if len(doubtful) > _DOUBTFUL:
                yield f"{field}: {len(doubtful)} paths of modules without tensors"
                continue
            for name in doubtful:
                expression = re.compile(rf"(.*\.)?({name})$")
                if any(expression.match(path) for path in paths):
                    yield f"{field}: {name!r} means any character by its dots; expected literal module paths"


def read_peft_config(folder: Path) -> PeftConfig:
    """Read `adapter_config.json`.

    Args:
        folder: holds `adapter_config.json`.

    Raises:
        NotFoundError: it is missing. InvalidInputError: too large, no JSON object, a field out of range, or
            not a plain LoRA on linears.
    """
    path = folder / CONFIG_FILE
    try:
        raw = read_bounded(path, MAXIMUM_CONFIG)
    except (FileNotFoundError, NotADirectoryError):
        raise NotFoundError(f"{folder}: no {CONFIG_FILE}; expected a LoRA as PEFT saves it") from None
    check_json(raw, str(path), values=MAXIMUM_VALUES)
    config = validated(PeftConfig, raw, str(path))
    if unknown := config.unknown_features:
        problems = (
            f"{shown(name, 60)} is {shown(repr(value), 100)}: only plain LoRA on linears is supported"
            for name, value in unknown.items()
        )
        raise InvalidInputError(f"{path}: {few(problems)}")
    return config


def validated(record: type[Validated], raw: bytes, where: str) -> Validated:
    """Return a record of the fields in `raw`.

    Args:
        record: its class.
        raw: JSON.
        where: what messages call it.

    Raises:
        InvalidInputError: every field that is not what it should be.
    """
    try:
        return record.model_validate_json(raw)
    except ValidationError as error:
        raise InvalidInputError(f"{where}: {few(_complaints(error))}") from None


def endings_of(path: str) -> Iterator[str]:
    """Yield what PEFT lets stand for a module: its path, and every end of it that follows a dot.

    >>> list(endings_of("layers.0.fc1"))
    ['layers.0.fc1', '0.fc1', 'fc1']
    """
    while path:
        yield path
        path = path.partition(".")[2]


def _numbered(pattern: Mapping[str, Value] | None) -> dict[str, tuple[int, Value]]:
    return {name: (number, value) for number, (name, value) in enumerate((pattern or {}).items())}


def _first(pattern: Mapping[str, tuple[int, Value]], path: str, default: Value) -> Value:
    """Return the value of the first name in the config's order that is an ending of the path."""
    found = [pattern[ending] for ending in endings_of(path) if ending in pattern]
    return min(found, key=lambda item: item[0])[1] if found else default


def _complaints(error: ValidationError) -> Iterator[str]:
    seen = set()
    for item in error.errors(include_url=False, include_context=False):
        if not item["loc"]:
            yield "expected a JSON object"
            continue
        name = str(item["loc"][0])
        if name in seen:
            continue
        seen.add(name)
        expected = _EXPECTED.get(name, "something else")
        if item["type"] == "missing":
            yield f"{name} is missing, expected {expected}"
        else:
            inside = name.endswith("_pattern") and len(item["loc"]) > 1
            place = f"{name} at '{shown(item['loc'][1], 60)}'" if inside else name
            given = item["input"]
            long = type(given) is int and abs(given) > 10**60
            yield f"{place} is {'too large' if long else shown(repr(given), 100)}, expected {expected}"
