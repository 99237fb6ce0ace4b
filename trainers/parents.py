"""The parents of an adapter: named by the recipe, or the most similar language's (equation 4)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from adapter_hub.artifact import Artifact
from adapter_hub.cache import Cache
from adapter_hub.errors import InvalidInputError, NotFoundError
from adapter_hub.exchange import pull
from adapter_hub.manifest import Similarity
from adapter_hub.reference import is_local
from adapter_hub.registry import Registry
from adapter_hub.runtime.base_model import BaseModel
from adapter_hub.speech.dataset import Dataset
from adapter_hub.trainers.recipe import RecipeFile
from adapter_hub.trainers.recipe_tables import NEAREST
from adapter_hub.trainers.similarity import candidates, measure_similarity, ranked

Tell = Callable[[str], None]


def find_parents(
    file: RecipeFile,
    base: BaseModel,
    dataset: Dataset,
    registries: Sequence[Registry],
    cache: Cache,
    tell: Tell,
) -> tuple[dict[str, Artifact], tuple[Similarity, ...]]:
    """Pull the seed of a warm start, and measure why it is the one."""
    seed = file.recipe.seed
    if seed is None:
        return {}, ()
    known = candidates(registries, base, leave_out=file.recipe.decode_language)
    among = seed.among or tuple(sorted(known))
    if seed.adapter == NEAREST and not among:
        raise NotFoundError(
            f"seed.adapter = {NEAREST!r}: no registry holds a lora adapter for this base model; "
            "name one, or train it first with method lora"
        )
    similarity: tuple[Similarity, ...] = ()
    if among:
        measured = measure_similarity(
            base, dataset, among=among, segments=seed.segments, random_seed=seed.random_seed
        )
        similarity = (measured,)
        tell("similarity: " + ", ".join(f"{k} {measured.scores[k]:.3f}" for k in ranked(measured)))
    if seed.adapter != NEAREST:
        ref = seed.adapter
        if is_local(ref):
            ref = str(file.resolve(ref).resolve())
    else:
        nearest = next((k for k in ranked(measured) if k in known), None)
        if nearest is None:
            raise NotFoundError(f"seed.among {list(among)}: no registry holds an adapter for any of them")
        ref = str(known[nearest])
    parent = pull(ref, registries=registries, cache=cache)
    if parent.manifest.base_model.digest != base.digest:
        raise InvalidInputError(
            f"seed {parent.ref}: made for base model {parent.manifest.base_model.id}, "
            f"digest {parent.manifest.base_model.digest}, not {base.digest}"
        )
    tell(f"seed: {parent.ref}")
    return {"seed": parent}, similarity
