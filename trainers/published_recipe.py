"""A recipe as the manifest holds it: without comments and without paths of this machine.

    published_recipe(read_recipe(Path("es.toml")))     # TOML that `train` reads again

Comments are for the author, and may hold secrets such as tokens. A path is replaced by a name: the folder of
a data set by the data set's name, the folder of a base model or an adapter by its public name.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import tomli_w

from adapter_hub.artifact.folder import Artifact
from adapter_hub.artifact.privacy import plain_name
from adapter_hub.base_model.finding import public_base_model
from adapter_hub.base_model.naming import id_in, split_claim
from adapter_hub.data.dataset import SPLITS
from adapter_hub.errors import AdapterHubError
from adapter_hub.formats.reference import is_local
from adapter_hub.trainers.recipe import RecipeFile
from adapter_hub.trainers.recipe_tables import TABLES


def published_recipe(file: RecipeFile, cache: Path | None = None) -> str:
    """Return normalised TOML: the keys that the recipe gives, tables and keys in one order.

    Two recipes that differ in comments, order, notation or the location of their folders give the same text.

    Args:
        file: the recipe, with the folder that its paths are relative to.
        cache: the cache's folder, which knows base models of the Hub; the user's by default.
    """
    given = file.recipe.model_dump(mode="json", by_alias=True, exclude_unset=True, exclude_none=True)
    tables = {name: dict(sorted(given[name].items())) for name in TABLES if name in given}
    for split in ("train", "dev"):
        if split in tables["data"]:
            tables["data"][split] = _data(file, tables["data"][split])
    tables.get("base_model", {}).pop("path", None)
    if "id" in tables.get("base_model", {}):
        tables["base_model"]["id"] = _base_model(file, cache)
    for role in ("seed", "expert"):
        if role in tables:
            tables[role]["adapter"] = _adapter(file, tables[role]["adapter"])
    return tomli_w.dumps(tables)


def _data(file: RecipeFile, sources: str | list[dict[str, Any]]) -> str | list[dict[str, Any]]:
    if isinstance(sources, str):
        return _data_name(file, sources)
    return [
        {
            key: _data_name(file, value) if key in ("folder", "manifest") else value
            for key, value in sorted(source.items())
        }
        for source in sources
    ]


def _data_name(file: RecipeFile, path: str) -> str:
    """Return `name/split` of a data set's folder, or the last name of any other place."""
    place = file.resolve(path).resolve()
    parts = place.parts[-2:] if place.name in SPLITS else place.parts[-1:]
    return "/".join(plain_name(part, "data") for part in parts if part != place.anchor) or "data"


def _base_model(file: RecipeFile, cache: Path | None) -> str:
    words = file.base_model
    claimed, place = split_claim(words)
    return claimed or id_in(words) or public_base_model(words, Path(place), cache=cache)[0]


def _adapter(file: RecipeFile, text: str) -> str:
    """Return a reference to the version that a folder holds."""
    if not is_local(text, file.folder):
        return text
    folder = file.resolve(text)
    try:
        artifact = Artifact.open(folder)
    except AdapterHubError:
        return plain_name(folder.resolve().name, "adapter")
    return f"{artifact.ref}#{artifact.digest}"
