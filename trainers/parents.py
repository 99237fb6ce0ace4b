"""The parents of an adapter: named by the recipe, or that of the most similar language.

Similarity is LoRA-Whisper's equation 4, see `adapter_hub.trainers.similarity`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from adapter_hub.artifact.folder import Artifact
from adapter_hub.data.dataset import Dataset
from adapter_hub.errors import InvalidInputError, NotFoundError
from adapter_hub.exchange import Places, pull
from adapter_hub.formats.manifest import Similarity
from adapter_hub.formats.reference import is_local
from adapter_hub.formats.times import utc_now
from adapter_hub.model.base_model import BaseModel
from adapter_hub.registry.contract import Registry
from adapter_hub.reporting import Tell
from adapter_hub.stores.cache import Cache
from adapter_hub.trainers.recipe import EXPERT, NEAREST, ParentTable, RecipeFile
from adapter_hub.trainers.similarity import candidates, measure_similarity, ranked

EXPERT_METHODS = ("lora", "warm-start")


def find_parents(
    file: RecipeFile,
    base: BaseModel,
    dataset: Dataset,
    registries: Sequence[Registry],
    cache: Cache,
    tell: Tell,
) -> tuple[dict[str, Artifact], tuple[Similarity, ...]]:
    """Pull the parents that a recipe names, and measure similarity where it asks for the nearest.

    Args:
        file: the recipe.
        base: its base model.
        dataset: speech of the new language.
        registries: searched in order.
        cache: where parents are pulled to.
        tell: receives lines of progress.

    Returns:
        The parents by role (`seed`, `expert`), and the similarities that were measured.

    Raises:
        NotFoundError: no such adapter, or none that could be the nearest.
        InvalidInputError: a parent for another base model, or an expert that is not an ordinary LoRA.
    """
    search = _Search(file, base, dataset, registries, cache, tell)
    recipe, parents = file.recipe, {}
    if recipe.expert is not None:
        parents["expert"] = search.find("expert", recipe.expert)
        _check_expert(parents["expert"])
    if recipe.seed is not None:
        same = recipe.seed.adapter == EXPERT and "expert" in parents
        parents["seed"] = parents["expert"] if same else search.find("seed", recipe.seed)
    return parents, tuple(search.measured.values())


@dataclass
class _Search:
    """Where parents are searched, and what was measured for it."""

    file: RecipeFile
    base: BaseModel
    dataset: Dataset
    registries: Sequence[Registry]
    cache: Cache
    tell: Tell
    measured: dict[tuple[object, ...], Similarity] = field(default_factory=dict)

    def find(self, role: str, table: ParentTable) -> Artifact:
        """Return the parent of a role.

        Args:
            role: `seed` or `expert`.
            table: the recipe's.
        """
        parent = pull(self._ref(role, table), Places(self.registries, cache=self.cache))
        pin = parent.manifest.base_model
        if pin.digest != self.base.digest:
            raise InvalidInputError(
                f"{role} {parent.ref}: made for base model {pin.id}, digest {pin.digest}, "
                f"not {self.base.digest}"
            )
        if parent.manifest.created > (now := utc_now()):  # sealing would refuse it after the training
            raise InvalidInputError(
                f"{role} {parent.ref}: created {parent.manifest.created}, this machine's clock says {now}; "
                "a parent must be older than its child: set the clock, or train later"
            )
        self.tell(f"{role}: {parent.ref}")
        return parent

    def _ref(self, role: str, table: ParentTable) -> str:
        known = candidates(self.registries, self.base, leave_out=self.file.recipe.decode_language or "")
        among = table.among or tuple(sorted(known))
        if table.adapter == NEAREST and not among:
            raise NotFoundError(
                f"{role}.adapter = {NEAREST!r}: no registry holds a lora adapter for this base model; "
                "name one, or train it first with method lora"
            )
        order = self._ranked(table, among) if among else []
        if table.adapter != NEAREST:
            local = is_local(table.adapter)
            return str(self.file.resolve(table.adapter).resolve()) if local else table.adapter
        nearest = next((k for k in order if k in known), None)
        if nearest is None:
            raise NotFoundError(f"{role}.among {list(among)}: no registry holds an adapter for any of them")
        return str(known[nearest])

    def _ranked(self, table: ParentTable, among: Sequence[str]) -> list[str]:
        key = (*among, table.segments, table.random_seed)
        if key not in self.measured:
            self.measured[key] = measure_similarity(
                self.base, self.dataset, among=among, segments=table.segments, random_seed=table.random_seed
            )
            scores = self.measured[key].scores
            self.tell("similarity: " + ", ".join(f"{k} {scores[k]:.3f}" for k in ranked(self.measured[key])))
        return ranked(self.measured[key])


def _check_expert(expert: Artifact) -> None:
    method = expert.manifest.method
    if method not in EXPERT_METHODS:
        raise InvalidInputError(
            f"expert {expert.ref}: its method is {method}; the parent of a pair is a "
            f"{' or '.join(EXPERT_METHODS)}"
        )
