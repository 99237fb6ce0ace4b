"""The training methods of LoRA-Whisper (arXiv 2406.06619), by name: what is trained, and from which start.

    trainable = make_trainable(whisper, recipe, {"seed": artifact})

A method is a short function that turns a base model and the parents' artifacts into a `TrainableModel`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from adapter_hub.artifact.folder import Artifact
from adapter_hub.trainers.methods.expert_pairs import trainable_pair
from adapter_hub.trainers.methods.freezing import freeze
from adapter_hub.trainers.methods.injection import inject_lora, load_seed
from adapter_hub.trainers.methods.trainable import (
    Teacher,
    TrainableModel,
    copied_whisper,
    trainable_lora,
    trainable_whisper,
    without_lora,
)
from adapter_hub.trainers.recipe_tables import FULL_FINE_TUNING, GateTable, Recipe

Parents = Mapping[str, Artifact]  # by role: seed, expert
# what every method is: a function of base model, recipe and parents, as in `make_trainable`
MakeTrainable = Callable[[Any, Recipe, Parents], TrainableModel]


def from_scratch(whisper: Any, recipe: Recipe, parents: Parents) -> TrainableModel:
    """`lora` (section 3.2): PEFT's own start, A random and B zero, so ΔW is zero."""
    return trainable_lora(inject_lora(whisper, recipe))


def warm_start(whisper: Any, recipe: Recipe, parents: Parents) -> TrainableModel:
    """`warm-start` (section 3.3): the LoRA of the most similar language."""
    model = inject_lora(whisper, recipe)
    load_seed(model, parents["seed"])
    return trainable_lora(model)


def expert_pair(whisper: Any, recipe: Recipe, parents: Parents) -> TrainableModel:
    """`expert-pair` (section 3.3, LoRA MoE): the most similar language's LoRA, frozen, beside a new one.

    The paper says that two LoRAs take part in the forward pass and does not define the gate; ours is a
    softmax that starts with equal shares. The child starts from scratch, or from a seed. With the parent as
    its seed, the model starts out computing exactly what the parent computes.
    """
    model = inject_lora(whisper, recipe)
    if "seed" in parents:
        load_seed(model, parents["seed"])
    return trainable_pair(model, parents["expert"], (recipe.gate or GateTable()).kind)


def full_fine_tuning(whisper: Any, recipe: Recipe, parents: Parents) -> TrainableModel:
    """`full-fine-tuning` (systems E2, E3, E5 and E6): every weight of the base model.

    Only the position embeddings of a Whisper's encoder stay frozen: they are computed sines, as in Whisper
    itself. The running statistics of a Parakeet's batch norms follow the data.
    """
    for name, weight in whisper.named_parameters():
        weight.requires_grad_(requires_grad=not name.endswith("encoder.embed_positions.weight"))
    return trainable_whisper(whisper)


@dataclass(frozen=True)
class Method:
    """A training method.

    Attributes:
        make: turns the base model into what is trained.
        reference: where the paper describes it.
    """

    make: MakeTrainable
    reference: str


METHODS: Mapping[str, Method] = {
    "lora": Method(from_scratch, "LoRA-Whisper, arXiv 2406.06619, section 3.2"),
    "warm-start": Method(warm_start, "LoRA-Whisper, arXiv 2406.06619, section 3.3"),
    "expert-pair": Method(expert_pair, "LoRA-Whisper, arXiv 2406.06619, section 3.3"),
    FULL_FINE_TUNING: Method(full_fine_tuning, "LoRA-Whisper, arXiv 2406.06619, section 4.2"),
}


def make_trainable(whisper: Any, recipe: Recipe, parents: Parents) -> TrainableModel:
    """Turn a base model into what the recipe's method trains.

    Args:
        whisper: a frozen `WhisperForConditionalGeneration` that nothing else uses; it is changed.
        recipe: names the method.
        parents: by role, as the method needs them.

    Raises:
        InvalidInputError: modules that the base model lacks, a parent that does not fit, or nothing to train.
    """
    full, target = recipe.adapter.method == FULL_FINE_TUNING, recipe.distillation
    base = copied_whisper(whisper) if full and target is not None else None
    trainable = METHODS[recipe.adapter.method].make(whisper, recipe, parents)
    if recipe.training.freeze:
        freeze(trainable.model, recipe.training.freeze)
    if target is None:
        return trainable
    teacher = Teacher(base or without_lora(trainable.model), target.weight, target.temperature)
    return replace(trainable, teacher=teacher)
