"""An `adapter_config.json` as anyone's PEFT wrote it: the reason why it cannot be imported, or what it means.

    config = read_foreign_config(folder, modules)     # refuses whatever is not a plain LoRA, reason first
    config.targeted(paths, where), config.plain(paths, where)    # what PEFT adapts; the same in one spelling

Our own artifacts have one spelling (`peft_config`). This is for what others publish: names that match nothing
in this model, regular expressions, fields of every release. PEFT's meaning counts, also where it is odd.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from adapter_hub.artifact.patterns import Pattern, matching
from adapter_hub.artifact.peft_config import (
    CONFIG_FILE,
    MAXIMUM_CONFIG,
    MAXIMUM_VALUES,
    NEUTRAL,
    Alpha,
    PeftConfig,
    Rank,
    endings_of,
    validated,
)
from adapter_hub.errors import InvalidInputError, NotFoundError, few
from adapter_hub.escaping import shown
from adapter_hub.files.reading import read_bounded
from adapter_hub.formats.canonical import read_json
from adapter_hub.formats.manifest import MAXIMUM_MODULES

OUT_OF_THE_WHOLE = (
    "save the whole model (`merge_and_unload()`, `save_pretrained()`) and take a LoRA out of it with "
    "`adapter-hub extract`"
)
_TRAIN = "train a LoRA for the same data"
# what others call their kind: what it is, and what to do
KINDS = {
    "ADALORA": ("AdaLoRA, whose ranks are weighed by a third matrix (lora_E)", OUT_OF_THE_WHOLE),
    "IA3": ("(IA)³, which scales activations and has no matrices A and B", _TRAIN),
    **dict.fromkeys(
        ("PREFIX_TUNING", "PROMPT_TUNING", "P_TUNING", "MULTITASK_PROMPT_TUNING", "CPT", "CARTRIDGE"),
        ("prompt learning, which puts vectors before the input and adapts no linear", _TRAIN),
    ),
    "ADAPTION_PROMPT": ("LLaMA-Adapter, which puts vectors before the input and adapts no linear", _TRAIN),
    "XLORA": ("X-LoRA, which mixes several LoRAs by a network of its own", "import one of its LoRAs"),
    "POLY": ("Poly, which mixes several LoRAs by task", _TRAIN),
    "LN_TUNING": ("layer-norm tuning, which replaces the base model's own weights", _TRAIN),
    "TRAINABLE_TOKENS": ("trained embeddings of tokens, which adapt no linear", _TRAIN),
}
INITS = re.compile(r"(pissa|olora|corda|lora_ga)\b.*|pissa_niter_\d+|mica|loftq")
_CONVERSION = (
    "convert it with PEFT's save_pretrained(folder, path_initial_model_for_weight_conversion=INITIAL), "
    "INITIAL the folder of the adapter as it was before the first step"
)
# fields without a say in what a loaded LoRA on linears computes, beside those of `peft_config`
_NEUTRAL = NEUTRAL | {
    "base_model_name_or_path",
    "corda_config",  # settings of a kind of initialisation: init_lora_weights says which one counts
    "enable_lora",  # of PEFT's first releases
    "fan_in_fan_out",  # PEFT turns it off for torch.nn.Linear
    "init_lora_weights",
    "loftq_config",
    "lora_ga_config",
    "merge_weights",  # of PEFT's first releases
    "modules_to_save",  # looked at together with the tensors
    "peft_type",
    "revision",
    "task_type",  # chooses the class around the model, not what its linears do
    "velora_config",  # how activations are kept for training
}

Name = Annotated[str, StringConstraints(max_length=8192)]
Plain = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.]*$", max_length=256)]
Names = Annotated[list[Name], Field(max_length=4 * MAXIMUM_MODULES)]
Value = TypeVar("Value")


class ForeignConfig(BaseModel):
    """A LoRA's config with PEFT's meaning; where a field is missing, PEFT's default stands."""

    model_config = ConfigDict(frozen=True, strict=True, extra="allow", allow_inf_nan=False)

    r: Rank = 8
    lora_alpha: Alpha = 8
    lora_dropout: Annotated[float, Field(ge=0.0, le=1.0)] | None = None
    use_rslora: bool | None = None
    target_modules: Name | Annotated[Names, Field(min_length=1)]
    exclude_modules: Name | Names | None = None
    modules_to_save: Names | None = None
    layers_to_transform: int | list[int] | None = None
    layers_pattern: Plain | list[Plain] | None = None
    rank_pattern: dict[Name, Rank] | None = None
    alpha_pattern: dict[Name, Alpha] | None = None

    def targeted(self, paths: Collection[str], where: str) -> frozenset[str]:
        """Return the modules that PEFT adapts, of those that have tensors.

        Args:
            paths: of these.
            where: what messages call the file.
        """
        if isinstance(self.target_modules, str) and self.target_modules.lower() == "all-linear":
            found = frozenset(paths) - {"proj_out"}  # the head is left out
        else:
            found = _named(self.target_modules, paths, where)
            if isinstance(self.target_modules, list):
                whole = set(self.target_modules)
                found = frozenset(path for path in found if path in whole or self._in_layers(path))
        if self.exclude_modules:
            found -= _named(self.exclude_modules, paths, where)
        saved = [Pattern("match", rf"(^|.*\.){name}($|\..*)") for name in self.modules_to_save or ()]
        return found.difference(*matching(saved, [*paths], where))

    def plain(self, paths: Sequence[str], where: str) -> PeftConfig:
        """Return the config that says the same of these modules with all names written out.

        Args:
            paths: of the modules that have tensors.
            where: what messages call the file.
        """
        values = {
            "peft_type": "LORA",
            "r": self.r,
            "lora_alpha": self.lora_alpha,
            "lora_dropout": self.lora_dropout,
            "use_rslora": self.use_rslora,
            "target_modules": sorted(paths),
            "rank_pattern": _by_path(self.rank_pattern, paths, where),
            "alpha_pattern": _by_path(self.alpha_pattern, paths, where),
        }
        return validated(PeftConfig, json.dumps(values).encode("ascii"), where)

    def _in_layers(self, path: str) -> bool:
        """Tell whether PEFT adapts a named module's layer: its first number, or that after a given name."""
        if self.layers_to_transform is None or self.layers_to_transform == []:
            return True
        names = [self.layers_pattern] if isinstance(self.layers_pattern, str) else self.layers_pattern
        if names:
            tries = (re.match(rf"(?:^|.*?\.){name}\.(\d+)\.", path) for name in names)
            number = next((match for match in tries if match), None)
        else:
            number = re.match(r".*?\.[^.]*\.(\d+)\.", path)
        layers = self.layers_to_transform
        return number is not None and int(number[1]) in ([layers] if isinstance(layers, int) else layers)


def read_fields(folder: Path) -> dict[str, Any]:
    """Return the fields of `adapter_config.json` as they are.

    Args:
        folder: holds the file.

    Raises:
        NotFoundError: it is missing. InvalidInputError: too large, a Git LFS pointer, or no JSON object.
    """
    path = folder / CONFIG_FILE
    try:
        raw = read_bounded(path, MAXIMUM_CONFIG)
    except (FileNotFoundError, NotADirectoryError):
        raise NotFoundError(f"{folder}: no {CONFIG_FILE}; expected a LoRA as PEFT saves it") from None
    fields = read_json(raw, str(path), values=MAXIMUM_VALUES)
    if not isinstance(fields, dict):
        raise InvalidInputError(f"{path}: expected a JSON object")
    return fields


def read_foreign_config(folder: Path, modules: Collection[str]) -> ForeignConfig:
    """Read the config of somebody's LoRA.

    Args:
        folder: holds `adapter_config.json`.
        modules: paths of all modules of the base model.

    Raises:
        NotFoundError: it is missing.
        InvalidInputError: not a plain LoRA, with the reason and nothing else; or a field out of range.
    """
    path, fields = str(folder / CONFIG_FILE), read_fields(folder)
    if reason := _kind_problem(fields):
        raise InvalidInputError(f"{path}: {reason}")
    config = validated(ForeignConfig, json.dumps(fields).encode("ascii"), path)
    if problems := [*_features(fields), *_saved_modules(config, modules)]:
        raise InvalidInputError(
            f"{path}: {few(problems)}: only plain LoRA on linears is supported; {OUT_OF_THE_WHOLE}"
        )
    return config


def _kind_problem(fields: Mapping[str, Any]) -> str:
    """Return why this is no LoRA on an unchanged base model; empty if it is."""
    kind = fields.get("peft_type")
    if kind is None and "config" in fields:
        return f"an adapter of AdapterHub's library, not of PEFT; {_TRAIN}"
    if kind != "LORA":
        known = KINDS.get(kind) if isinstance(kind, str) else None
        what, then = known or ("another kind than LoRA", OUT_OF_THE_WHOLE)
        return f"peft_type is {shown(repr(kind), 60)}, expected LORA: {what}; {then}"
    init = fields.get("init_lora_weights")
    if isinstance(init, str) and INITS.fullmatch(init.lower()):
        start = f"init_lora_weights is {shown(repr(init), 60)}: trained on base weights that PEFT changed"
        return f"{start} first; {OUT_OF_THE_WHOLE if init.lower() in ('loftq', 'mica') else _CONVERSION}"
    if not (init is None or isinstance(init, bool) or init in ("gaussian", "orthogonal", "eva")):
        return (
            f"init_lora_weights is {shown(repr(init), 100)}, expected one that leaves the base model's "
            "weights alone"
        )
    return ""


def _features(fields: Mapping[str, Any]) -> Iterator[str]:
    """Yield what is switched on beside a plain LoRA."""
    for name in sorted(fields):
        value = fields[name]
        known = name in ForeignConfig.model_fields or name in _NEUTRAL or name.endswith("_version")
        if name == "bias" and value not in (None, "none"):
            yield f"bias is {shown(repr(value), 60)}, expected none (biases would replace the base model's)"
        elif value and not known and name != "bias":
            yield f"{shown(name, 60)} is {shown(repr(value), 100)}"


def _saved_modules(config: ForeignConfig, modules: Collection[str]) -> Iterator[str]:
    """Yield which modules of the base model PEFT would replace; names that match none do nothing."""
    for name in config.modules_to_save or ():
        if any(path.endswith(name) for path in modules):
            yield f"modules_to_save has {shown(name, 60)!r}, trained as a whole in the base model's place"


def _named(names: str | Sequence[str], paths: Collection[str], where: str) -> frozenset[str]:
    """Return the paths that a pattern matches as a whole, or that one of several names ends."""
    if isinstance(names, str):
        return matching([Pattern("fullmatch", names)], [*paths], where)[0]
    targets = set(names)
    return frozenset(path for path in paths if not targets.isdisjoint(endings_of(path)))


def _by_path(patterns: Mapping[str, Value] | None, paths: Sequence[str], where: str) -> dict[str, Value]:
    """Return the value of the first pattern that matches a path or an end of it that follows a dot."""
    names = patterns or {}
    asked = [Pattern("match", rf"(.*\.)?({name})$") for name in names]
    found: dict[str, Value] = {}
    for value, matched in zip(names.values(), matching(asked, paths, where), strict=True):
        for path in matched:
            found.setdefault(path, value)
    return found
