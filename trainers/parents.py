"""The parents of an adapter: named by the recipe, or that of the most similar language.

Similarity is LoRA-Whisper's equation 4, see `adapter_hub.trainers.similarity`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
from adapter_hub.speech.languages import whisper_code
from adapter_hub.stores.cache import Cache
from adapter_hub.trainers.recipe import RecipeFile
from adapter_hub.trainers.recipe_tables import EXPERT, NEAREST, ParentTable
from adapter_hub.trainers.similarity import base_languages, candidates, measure_similarity, ranked

EXPERT_METHODS = ("lora", "warm-start")


def named_parents(file: RecipeFile, registries: Sequence[Registry], cache: Cache) -> dict[str, Artifact]:
    """Pull the parents that a recipe names, before any of the work that needs them.

    Args:
        file: the recipe.
        registries: searched in order.
        cache: where parents are pulled to.

    Returns:
        By role, `seed` and `expert`; those that are searched by similarity are not among them.

    Raises:
        NotFoundError: no such adapter.
    """
    tables = {"expert": file.recipe.expert, "seed": file.recipe.seed}
    found = {}
    for role, table in tables.items():
        if table is not None and table.adapter not in (NEAREST, EXPERT):
            local = is_local(table.adapter, file.folder)
            ref = str(file.resolve(table.adapter).resolve()) if local else table.adapter
            found[role] = pull(ref, Places(registries, cache=cache))
    return found


def find_parents(
    file: RecipeFile,
    base: BaseModel,
    dataset: Dataset,
    registries: Sequence[Registry],
    cache: Cache,
    named: Mapping[str, Artifact],
    tell: Tell,
) -> tuple[dict[str, Artifact], tuple[Similarity, ...]]:
    """Return the parents of a recipe; similarity is measured where it asks for the nearest of several.

    Args:
        file: the recipe.
        base: its base model.
        dataset: speech of the new language.
        registries: searched in order.
        cache: where parents are pulled to.
        named: what `named_parents` found.
        tell: receives lines of progress.

    Returns:
        The parents by role (`seed`, `expert`), and the similarities that were measured.

    Raises:
        NotFoundError: no adapter that could be the nearest.
        InvalidInputError: a parent for another base model, or an expert that is not an ordinary LoRA.
    """
    search = _Search(file, base, dataset, registries, cache, named, tell)
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
    named: Mapping[str, Artifact]
    tell: Tell
    measured: dict[tuple[object, ...], Similarity] = field(default_factory=dict)

    def find(self, role: str, table: ParentTable) -> Artifact:
        """Return the parent of a role.

        Args:
            role: `seed` or `expert`.
            table: the recipe's.
        """
        parent = self.named.get(role) or self._nearest(role, table)
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

    def _nearest(self, role: str, table: ParentTable) -> Artifact:
        own = whisper_code(self.file.recipe.decode_language or "")
        known = candidates(self.registries, self.base, leave_out=own)
        among = base_languages(table.among or sorted(known))
        choices = [language for language in among if language in known]
        if not among:
            raise NotFoundError(
                f"{role}.adapter = {NEAREST!r}: no registry holds a lora adapter for this base model; "
                "name one, or train it first with method lora"
            )
        if not choices:
            raise NotFoundError(f"{role}.among {list(among)}: no registry holds an adapter for any of them")
        if len(choices) == 1:
            self.tell(f"similarity: not measured, {choices[0]} is the only language with an adapter")
        else:
            choices = [language for language in self._ranked(table, among) if language in known]
        return pull(known[choices[0]], Places(self.registries, cache=self.cache))

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
