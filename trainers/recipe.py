"""Recipes: the only input of training, a TOML file; its keys become part of the manifest.

    recipe = read_recipe(Path("recipes/mini/da.toml")).recipe

Unknown keys are refused with the key that was probably meant; paths are relative to the recipe.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from adapter_hub.base_model.naming import split_claim
from adapter_hub.errors import InvalidInputError, NotFoundError
from adapter_hub.escaping import shown
from adapter_hub.files.reading import read_bounded
from adapter_hub.formats.canonical import Record, explain
from adapter_hub.formats.reference import check_name, is_local
from adapter_hub.trainers.recipe_tables import TABLES, Recipe, SourceTable

RECIPE_BYTES = 2**20  # at most
SHOWN, SHOWN_CHARACTERS = 5, 60  # unknown keys in one error, and characters of each
KEY_PARTS = 32  # of a dotted key: reading one takes time quadratic in its parts
# strings and comments, which may hold dots without being a key
_NO_KEYS = re.compile(
    r'"""(?:[^"\\]|\\.|"(?!""))*"""|' + r"'''(?:[^']|'(?!''))*'''|"
    r'"(?:[^"\\\n]|\\.)*"|' + r"'[^'\n]*'|#[^\n]*",
    re.DOTALL,
)
_LONG_KEY = re.compile(rf"(?<![\w-])(?:[\w-]+[ \t]*\.[ \t]*){{{KEY_PARTS}}}")


@dataclass(frozen=True)
class RecipeFile:
    """A recipe that was read from a file.

    Attributes:
        recipe: what it says.
        text: the file's text.
        folder: the file's folder, which its paths are relative to.
    """

    recipe: Recipe
    text: str
    folder: Path

    def resolve(self, path: str) -> Path:
        """Return a path of the recipe relative to the recipe's folder.

        Args:
            path: as in the recipe; absolute ones and `~` are allowed.

        Raises:
            InvalidInputError: `~` of an unknown user, or a NUL character.
        """
        try:
            whole = self.folder / Path(path).expanduser()
        except RuntimeError:
            raise InvalidInputError(f"recipe: {shown(path)}: ~ names an unknown user") from None
        if "\0" in path:
            raise InvalidInputError(f"recipe: {shown(path)}: a NUL character in a path")
        return whole

    @property
    def base_model(self) -> str:
        """The base model as `load_base_model` takes it: an id, a folder, or `ID=FOLDER`."""
        table = self.recipe.base_model
        if table.path is not None:
            return f"{table.id}={self.resolve(table.path)}"
        claimed, place = split_claim(table.id)
        place = str(self.resolve(place)) if claimed or is_local(place, self.folder) else place
        return f"{claimed}={place}" if claimed else place


def read_recipe(path: Path) -> RecipeFile:
    """Read and check a recipe.

    Raises:
        NotFoundError: no such file.
        InvalidInputError: not TOML, an unknown key (with the one that was probably meant), a value out of
            range, keys that do not go together.
    """
    if not path.is_file():
        raise NotFoundError(f"{path}: no such recipe; `adapter-hub recipe new lora` writes one")
    try:
        raw = read_bounded(path, RECIPE_BYTES, where=f"{path} (a TOML recipe)")
        return parse_recipe(raw.decode("utf-8-sig"), path)  # editors of Windows begin with a mark
    except UnicodeDecodeError as error:
        raise InvalidInputError(f"{path}: not TOML: {shown(error)}") from None


def parse_recipe(text: str, path: Path) -> RecipeFile:
    """Check a recipe's text.

    Args:
        text: TOML.
        path: of its file, which its own paths are relative to.

    Raises:
        InvalidInputError: as `read_recipe`.
    """
    try:
        tables = _toml(text)
    except RecursionError:
        raise InvalidInputError(f"{path}: not TOML: nested too deeply") from None
    except ValueError as error:  # TOML's own errors, and numbers of thousands of digits
        raise InvalidInputError(f"{path}: not TOML: {shown(error)}") from None
    if unknown := list(islice(_unknown_keys(tables, Recipe, ""), SHOWN)):
        raise InvalidInputError(f"{path}: {'; '.join(unknown)}")
    try:
        recipe = Recipe.model_validate(_tuples(tables), strict=False)
    except ValidationError as error:
        raise InvalidInputError(f"{path}: {explain(error)}") from None
    try:
        check_name(recipe.adapter.name)
    except InvalidInputError as error:
        raise InvalidInputError(f"{path}: adapter.name: {error}") from None
    return RecipeFile(recipe, text, path.parent)


def _toml(text: str) -> dict[str, Any]:
    """Return the tables of a TOML text.

    Raises:
        TOMLDecodeError: not TOML, or a key of so many parts that reading it would take hours.
        ValueError, RecursionError: numbers or nesting that Python cannot read.
    """
    if _LONG_KEY.search(_NO_KEYS.sub("s", text)):
        raise tomllib.TOMLDecodeError(f"a dotted key of {KEY_PARTS} parts or more")
    return tomllib.loads(text)


def _unknown_keys(table: Mapping[str, Any], model: type[Record], place: str) -> Iterator[str]:
    known = model.model_fields
    for key, value in table.items():
        if key not in known:
            near = difflib.get_close_matches(key[:SHOWN_CHARACTERS], known, n=1)
            meant = f", did you mean {near[0]!r}?" if near else f", expected one of {', '.join(known)}"
            yield f"unknown key {shown(place + key, SHOWN_CHARACTERS)!r}{meant}"
        elif isinstance(value, dict) and key in TABLES:
            yield from _unknown_keys(value, TABLES[key], f"{key}.")
        elif isinstance(value, list) and model is TABLES["data"]:
            for number, source in enumerate(value, 1):
                if isinstance(source, dict):
                    yield from _unknown_keys(source, SourceTable, f"data.{key}[{number}].")


def _tuples(value: Any) -> Any:
    """Return TOML's arrays as tuples, which records hold."""
    if isinstance(value, dict):
        return {key: _tuples(item) for key, item in value.items()}
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
