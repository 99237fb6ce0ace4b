"""Where training starts from: the methods of LoRA-Whisper (arXiv 2406.06619), by name.

    trainee = start(whisper, recipe, {"seed": artifact})

A method takes a base model and the parents' artifacts, and makes what the training loop trains.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from peft import LoraConfig, get_peft_model, set_peft_model_state_dict
from safetensors.torch import load_file

from adapter_hub.artifact import Artifact
from adapter_hub.errors import InvalidInputError
from adapter_hub.peft_format import WEIGHTS_FILE
from adapter_hub.trainers.recipe_tables import FULL_FINE_TUNING, Recipe
from adapter_hub.trainers.trainee import Trainee, lora_state, lora_trainee, whole_trainee

Parents = Mapping[str, Artifact]  # by role: seed, expert
Start = Callable[[Any, Recipe, Parents], Trainee]


def from_scratch(whisper: Any, recipe: Recipe, parents: Parents) -> Trainee:
    """`lora` (section 3.2): PEFT's own start, A random and B zero, so ΔW is zero."""
    return lora_trainee(_inject(whisper, recipe))


def warm_start(whisper: Any, recipe: Recipe, parents: Parents) -> Trainee:
    """`warm-start` (section 3.3): the LoRA of the most similar language."""
    model = _inject(whisper, recipe)
    _start_from(model, parents["seed"])
    return lora_trainee(model)


def full_fine_tuning(whisper: Any, recipe: Recipe, parents: Parents) -> Trainee:
    """`full-fine-tuning` (systems E2, E3, E5 and E6): every weight of the base model.

    Only the encoder's positions stay: they are computed sines, in Whisper as in transformers.
    """
    whisper.requires_grad_(True)
    whisper.get_encoder().embed_positions.requires_grad_(False)
    return whole_trainee(whisper)


@dataclass(frozen=True)
class Method:
    """A named start, with the paper's reference."""

    start: Start
    reference: str


METHODS: Mapping[str, Method] = {
    "lora": Method(from_scratch, "LoRA-Whisper, arXiv 2406.06619, section 3.2"),
    "warm-start": Method(warm_start, "LoRA-Whisper, arXiv 2406.06619, section 3.3"),
    FULL_FINE_TUNING: Method(full_fine_tuning, "LoRA-Whisper, arXiv 2406.06619, section 4.2"),
}


def start(whisper: Any, recipe: Recipe, parents: Parents) -> Trainee:
    """Make what the recipe's method trains out of a base model.

    Args:
        whisper: a frozen `WhisperForConditionalGeneration` that nothing else uses; it is changed.
        recipe: names the method.
        parents: by role, as the method needs them.

    Raises:
        InvalidInputError: modules that the base model lacks, or a parent that does not fit.
    """
    return METHODS[recipe.adapter.method].start(whisper, recipe, parents)


def _inject(whisper: Any, recipe: Recipe) -> Any:
    """Return a PEFT model on `whisper` with trainable LoRA layers.

    `task_type` stays None: with SEQ_2_SEQ_LM PEFT calls Whisper with text inputs.
    """
    config = LoraConfig(
        r=recipe.lora.rank,
        lora_alpha=recipe.alpha,
        lora_dropout=recipe.lora.dropout,
        target_modules=list(recipe.lora.modules),
        task_type=None,
    )
    try:
        with warnings.catch_warnings():
            # raised by transformers about PEFT's own use of it
            warnings.filterwarnings("ignore", message="`is_gradient_checkpointing`", category=FutureWarning)
            model = get_peft_model(whisper, config)
    except ValueError as error:
        raise InvalidInputError(f"lora.modules {list(recipe.lora.modules)}: {_first_line(error)}") from None
    _check_matched(model, recipe)
    return model


def _start_from(model: Any, seed: Artifact) -> None:
    """Set a LoRA's weights to those of an artifact.

    A seed of a lower rank fills the first rows of A and columns of B; the rest starts as from scratch,
    so the model starts exactly where the seed stands.

    Raises:
        InvalidInputError: the seed adapts other modules or has a higher rank.
    """
    sections = {module.path: module for module in seed.manifest.lora[0].modules}
    theirs = load_file(seed.path / WEIGHTS_FILE)
    state = _lora_weights(model)
    if missing := sorted(set(theirs) ^ set(state)):
        raise InvalidInputError(
            f"seed {seed.ref}: its modules are not the recipe's, first {missing[0]}; set lora.modules alike"
        )
    scaling = _scaling(model)
    for name, tensor in state.items():
        path = name.removeprefix("base_model.model.").rsplit(".lora_", 1)[0]
        rank = sections[path].rank
        room = tensor.shape[0] if ".lora_A." in name else tensor.shape[1]
        if rank > room:
            raise InvalidInputError(
                f"seed {seed.ref}: rank {rank} at {path}, above the recipe's; raise lora.rank"
            )
        theirs_here = theirs[name].to(torch.float32)
        if ".lora_A." in name:
            tensor[:rank] = theirs_here
        else:
            tensor.zero_()
            tensor[:, :rank] = theirs_here * (sections[path].scaling / scaling[path])
    set_peft_model_state_dict(model, state)


def export_config(recipe: Recipe) -> dict[str, Any]:
    """Return what PEFT needs to know to load the weights, in one spelling."""
    alpha = recipe.alpha
    return {
        "alpha_pattern": {},
        "base_model_name_or_path": recipe.base_model.id,
        "bias": "none",
        "inference_mode": True,
        "lora_alpha": int(alpha) if alpha == int(alpha) else alpha,
        "lora_dropout": recipe.lora.dropout,
        "peft_type": "LORA",
        "r": recipe.lora.rank,
        "rank_pattern": {},
        "revision": recipe.base_model.revision,
        "target_modules": sorted(recipe.lora.modules),
        "task_type": None,
    }


def _check_matched(model: Any, recipe: Recipe) -> None:
    """PEFT ignores a name that matches nothing while others match; a recipe may not be half applied."""
    paths = {name.rsplit(".lora_", 1)[0] for name in _lora_weights(model)}
    for name in recipe.lora.modules:
        if not any(path == name or path.endswith(f".{name}") for path in paths):
            raise InvalidInputError(f"lora.modules: the base model has no linear named {name!r}")


def _lora_weights(model: Any) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in lora_state(model).items()}


def _scaling(model: Any) -> dict[str, float]:
    return {
        name.removeprefix("base_model.model."): module.scaling["default"]
        for name, module in model.named_modules()
        if hasattr(module, "lora_A")
    }


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0]
