"""Where training starts from: the methods of LoRA-Whisper (arXiv 2406.06619), by name.

    trainee = start(whisper, recipe, {"seed": artifact})

A method takes a base model and the parents' artifacts, and makes what the training loop trains.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from adapter_hub.artifact.folder import Artifact
from adapter_hub.trainers.methods.expert_pairs import pair_trainee
from adapter_hub.trainers.methods.injection import fill, inject
from adapter_hub.trainers.methods.trainee import Trainee, lora_trainee, whole_trainee
from adapter_hub.trainers.recipe import FULL_FINE_TUNING, GateTable, Recipe

Parents = Mapping[str, Artifact]  # by role: seed, expert
Start = Callable[[Any, Recipe, Parents], Trainee]


def from_scratch(whisper: Any, recipe: Recipe, parents: Parents) -> Trainee:
    """`lora` (section 3.2): PEFT's own start, A random and B zero, so ΔW is zero."""
    return lora_trainee(inject(whisper, recipe))


def warm_start(whisper: Any, recipe: Recipe, parents: Parents) -> Trainee:
    """`warm-start` (section 3.3): the LoRA of the most similar language."""
    model = inject(whisper, recipe)
    fill(model, parents["seed"])
    return lora_trainee(model)


def expert_pair(whisper: Any, recipe: Recipe, parents: Parents) -> Trainee:
    """`expert-pair` (section 3.3, LoRA MoE): the most similar language's LoRA, frozen, beside a new one.

    The paper says that two LoRAs take part in the forward pass and leaves the gate open; ours is a
    softmax, and starts with equal shares. The child starts from scratch, or from a seed: from the parent
    itself the model starts exactly where the parent stands.
    """
    model = inject(whisper, recipe)
    if "seed" in parents:
        fill(model, parents["seed"])
    return pair_trainee(model, parents["expert"], (recipe.gate or GateTable()).kind)


def full_fine_tuning(whisper: Any, recipe: Recipe, parents: Parents) -> Trainee:
    """`full-fine-tuning` (systems E2, E3, E5 and E6): every weight of the base model.

    Only the encoder's positions stay: they are computed sines, in Whisper as in transformers.
    """
    whisper.requires_grad_(requires_grad=True)
    whisper.get_encoder().embed_positions.requires_grad_(requires_grad=False)
    return whole_trainee(whisper)


@dataclass(frozen=True)
class Method:
    """A named start, with the paper's reference."""

    start: Start
    reference: str


METHODS: Mapping[str, Method] = {
    "lora": Method(from_scratch, "LoRA-Whisper, arXiv 2406.06619, section 3.2"),
    "warm-start": Method(warm_start, "LoRA-Whisper, arXiv 2406.06619, section 3.3"),
    "expert-pair": Method(expert_pair, "LoRA-Whisper, arXiv 2406.06619, section 3.3"),
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
