"""LoRA layers in a base model: PEFT adds them, and a seed's weights may be loaded into them.

model = inject_lora(whisper, recipe)
load_seed(model, seed)
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from peft import LoraConfig, get_peft_model, set_peft_model_state_dict
from safetensors.torch import load_file
from torch import nn

from adapter_hub.artifact.folder import Artifact
from adapter_hub.artifact.peft import PREFIX, WEIGHTS_FILE
from adapter_hub.base_model.families import PARAKEET, WHISPER, family_of_architecture
from adapter_hub.errors import InvalidInputError
from adapter_hub.formats.manifest import BaseModelPin, LoraSection
from adapter_hub.model.base_model import is_positionwise
from adapter_hub.trainers.methods.freezing import frozen_modules
from adapter_hub.trainers.methods.trainable import State, lora_state
from adapter_hub.trainers.recipe_tables import PAPER_MODULES, PARAKEET_MODULES, Recipe

# what a LoRA adapts where the recipe does not say
MODULES: Mapping[str, Sequence[str]] = {WHISPER: PAPER_MODULES, PARAKEET: PARAKEET_MODULES}


def inject_lora(whisper: Any, recipe: Recipe) -> Any:
    """Return a PEFT model on `whisper` with trainable LoRA layers: A random, B zero, so ΔW is zero.

    `task_type` stays None: with SEQ_2_SEQ_LM PEFT calls Whisper with text inputs.

    Args:
        whisper: a frozen `WhisperForConditionalGeneration`; it is changed.
        recipe: its `[lora]` names modules, rank, alpha and dropout.

    Raises:
        InvalidInputError: modules or rank patterns that match nothing in the base model, or modules that
            are not linears.
    """
    config = LoraConfig(
        r=recipe.lora.rank,
        lora_alpha=recipe.alpha,
        lora_dropout=recipe.lora.dropout,
        target_modules=list(lora_modules(recipe, whisper.config.model_type)),
        rank_pattern=dict(recipe.lora.rank_pattern),
        task_type=None,
        exclude_modules=_excluded(recipe),
    )
    _check_patterns(recipe)
    try:
        with warnings.catch_warnings():
            # raised by transformers about PEFT's own use of it
            warnings.filterwarnings("ignore", message="`is_gradient_checkpointing`", category=FutureWarning)
            warnings.filterwarnings("ignore", message="The following rank_pattern keys did not match")
            # a tied layer is the embedding, which is refused below
            warnings.filterwarnings("ignore", message="Model (has|with) `tie_word_embeddings=True`")
            model = get_peft_model(whisper, config)
    except ValueError as error:
        if config.exclude_modules and "No modules were targeted" in str(error):
            parts = list(recipe.training.freeze)
            raise InvalidInputError(
                f"training.freeze {parts}: leaves no module of lora.modules; name fewer parts"
            ) from None
        reason = str(error).splitlines()[0]
        raise InvalidInputError(f"lora.modules {list(config.target_modules)}: {reason}") from None
    _check_matched(model, recipe, lora_modules(recipe, whisper.config.model_type))
    return model


def lora_modules(recipe: Recipe, family: str) -> Sequence[str]:
    """Return the names of the linears that get a LoRA: the recipe's, else those of the base model's family.

    Args:
        recipe: may name them.
        family: of the base model.
    """
    return recipe.lora.modules if "modules" in recipe.lora.model_fields_set else MODULES[family]


def load_seed(model: Any, seed: Artifact) -> None:
    """Set a LoRA's weights to those of an artifact.

    A seed of a lower rank fills the first rows of A and columns of B; the rest starts as from scratch,
    so the model starts out computing exactly what the seed computes.

    Args:
        model: from `inject_lora`; it is changed.
        seed: an ordinary LoRA of the same base model.

    Raises:
        InvalidInputError: the seed adapts other modules, has a higher rank, or no weights of its own.
    """
    sections = {module.path: module for module in own_section(seed, "seed").modules}
    stored = load_file(seed.path / WEIGHTS_FILE)
    state = {name: tensor.clone() for name, tensor in lora_state(model).items()}
    if missing := sorted(set(stored) ^ set(state)):
        raise InvalidInputError(
            f"seed {seed.ref}: adapts other modules than the recipe, first {missing[0]}; use its lora.modules"
        )
    scaling = {path: layer.scaling["default"] for path, layer in lora_layers(model).items()}
    for name, tensor in state.items():
        path = module_path(name)
        rank = sections[path].rank
        room = tensor.shape[0] if ".lora_A." in name else tensor.shape[1]
        if rank > room:
            raise InvalidInputError(
                f"seed {seed.ref}: rank {rank} at {path}, above the recipe's; raise lora.rank"
            )
        here = stored[name].to(torch.float32)
        if ".lora_A." in name:
            tensor[:rank] = here
        else:
            tensor.zero_()
            tensor[:, :rank] = here * (sections[path].scaling / scaling[path])
    set_peft_model_state_dict(model, state)


def own_section(artifact: Artifact, role: str) -> LoraSection:
    """Return the manifest's section about the LoRA of an ordinary adapter.

    Args:
        artifact: any adapter.
        role: what the adapter was to be, `seed` or `expert`; for the error.

    Raises:
        InvalidInputError: it is an expert pair, which has no LoRA of its own.
    """
    for section in artifact.manifest.lora:
        if section.role == "self":
            return section
    raise InvalidInputError(
        f"{role} {artifact.ref}: an expert pair has no LoRA of its own; name one of its parents"
    )


def lora_layers(model: Any) -> dict[str, Any]:
    """Return PEFT's LoRA layers by the path of their linear in the base model."""
    return {
        name.removeprefix(PREFIX): module
        for name, module in model.named_modules()
        if hasattr(module, "lora_A")
    }


def module_path(tensor: str) -> str:
    """Return the path of the linear that a tensor of a LoRA belongs to.

    >>> module_path("base_model.model.model.encoder.layers.0.fc1.lora_A.weight")
    'model.encoder.layers.0.fc1'
    """
    return tensor.removeprefix(PREFIX).rsplit(".lora_", 1)[0]


def export_config(recipe: Recipe, state: State, base_model: BaseModelPin) -> dict[str, Any]:
    """Return the content of `adapter_config.json`, from which PEFT loads the weights `state`.

    Args:
        recipe: of the training.
        state: the trained tensors under PEFT's names.
        base_model: its id and revision.
    """
    alpha = recipe.alpha
    ranks = {module_path(name): tensor.shape[0] for name, tensor in state.items() if ".lora_A." in name}
    excluded = _excluded(recipe)
    return ({"exclude_modules": excluded} if excluded else {}) | {
        "alpha_pattern": {},
        "base_model_name_or_path": base_model.id,
        "bias": "none",
        "inference_mode": True,
        "lora_alpha": int(alpha) if alpha == int(alpha) else alpha,
        "lora_dropout": recipe.lora.dropout,
        "peft_type": "LORA",
        "r": recipe.lora.rank,
        "rank_pattern": {path: rank for path, rank in ranks.items() if rank != recipe.lora.rank},
        "revision": base_model.revision,
        "target_modules": sorted(lora_modules(recipe, family_of_architecture(base_model.architecture))),
        "task_type": None,
    }


def _excluded(recipe: Recipe) -> str | None:
    """Return the pattern of linears that get no LoRA; one that starts from a seed has all of the seed's."""
    parts = recipe.training.freeze
    return frozen_modules(parts) if parts and recipe.seed is None else None


def _check_patterns(recipe: Recipe) -> None:
    for pattern in recipe.lora.rank_pattern:
        try:
            re.compile(pattern)
        except re.error as error:
            raise InvalidInputError(f"lora.rank_pattern: {pattern!r} is not a pattern ({error})") from None


def _check_matched(model: Any, recipe: Recipe, modules: Sequence[str]) -> None:
    """Refuse names that match nothing, which PEFT ignores as long as others match.

    PEFT also adapts other layers than linears, which the decoder here cannot compute.
    """
    layers = lora_layers(model)
    paths = list(layers)
    for name in modules:
        if not any(path == name or path.endswith(f".{name}") for path in paths):
            raise InvalidInputError(f"lora.modules: the base model has no linear named {name!r}")
    for path, layer in layers.items():
        kind = type(layer.base_layer)
        if kind is not nn.Linear and not is_positionwise(layer.base_layer):
            usual = MODULES[model.get_base_model().config.model_type]
            raise InvalidInputError(
                f"lora.modules: {path.rpartition('.')[2]!r} is a {kind.__name__}, not a linear ({path}); "
                f"expected some of {', '.join(usual)}"
            )
    for pattern in recipe.lora.rank_pattern:
        if not any(re.match(rf"(.*\.)?({pattern})$", path) for path in paths):  # as PEFT matches
            raise InvalidInputError(
                f"lora.rank_pattern: {pattern!r} matches no adapted linear; expected a name like fc1, or the "
                f"end of a path like {paths[0]}"
            )
