"""Recipes: the only input of training, a TOML file that is embedded verbatim in the manifest.

    recipe = Recipe.read(Path("recipes/mini/da.toml"))

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

from adapter_hub.base_model import EMBEDDED_ID
from adapter_hub.canonical import Record, explain
from adapter_hub.errors import AdapterHubError, InvalidInputError, NotFoundError
from adapter_hub.escaping import shown
from adapter_hub.reading import read_bounded
from adapter_hub.reference import check_name
from adapter_hub.trainers.recipe_tables import FULL_FINE_TUNING, TABLES, Recipe, SourceTable

MAXIMUM_RECIPE = 2**20  # bytes
SHOWN, SHOWN_CHARACTERS = 5, 60  # unknown keys in one error, and of each
KEY_PARTS = 32  # of a dotted key, whose reading takes the square of their number
# what may hold dots without being a key: strings and comments
_NO_KEYS = re.compile(
    r'"""(?:[^"\\]|\\.|"(?!""))*"""|' + r"'''(?:[^']|'(?!''))*'''|"
    r'"(?:[^"\\\n]|\\.)*"|' + r"'[^'\n]*'|#[^\n]*",
    re.DOTALL,
)
_LONG_KEY = re.compile(rf"(?<![\w-])(?:[\w-]+[ \t]*\.[ \t]*){{{KEY_PARTS}}}")


@dataclass(frozen=True)
class RecipeFile:
    """A recipe with its text and the folder that its paths are relative to."""

    recipe: Recipe
    text: str
    folder: Path

    def resolve(self, path: str) -> Path:
        """Return a path of the recipe as one that can be opened.

        Raises:
            InvalidInputError: `~` of no user here, or a NUL in it.
        """
        try:
            whole = self.folder / Path(path).expanduser()
        except RuntimeError:
            raise InvalidInputError(f"recipe: {shown(path)}: ~ is the home of no user here") from None
        if "\0" in path:
            raise InvalidInputError(f"recipe: {shown(path)}: a NUL character in a path")
        return whole


def read_recipe(path: Path) -> RecipeFile:
    """Read and check a recipe.

    Raises:
        NotFoundError: no such file. InvalidInputError: not TOML, an unknown key (with the one that
            was probably meant), a value out of range, an impossible combination.
    """
    if not path.is_file():
        raise NotFoundError(f"{path}: no such recipe; `adapter-hub recipe new lora` writes one")
    try:
        text = read_bounded(path, MAXIMUM_RECIPE, where=f"{path} (a TOML recipe)").decode("utf-8")
        tables = _toml(text)
    except AdapterHubError:
        raise
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
        TOMLDecodeError: not TOML; a key of so many parts that reading it would take hours.
        ValueError, RecursionError: more than Python can hold.
    """
    if _LONG_KEY.search(_NO_KEYS.sub("s", text)):
        raise tomllib.TOMLDecodeError(f"a key of {KEY_PARTS} parts or more, which no recipe needs")
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
    """TOML has arrays only; records hold tuples."""
    if isinstance(value, dict):
        return {key: _tuples(item) for key, item in value.items()}
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


TEMPLATE = """\
# A recipe of adapter-hub: everything that decides how the adapter is trained. Paths are relative to it.

[adapter]
name = "{namespace}/{language}{suffix}"
version = "1.0.0"
method = "{method}"
language = "{language}"        # BCP 47; if Whisper has no token for it, add decode_language = "…"
license = "CC-BY-4.0"          # of what is trained (an SPDX expression); check your data's
authors = ["Your Name"]

[base_model]
id = "{base_model}"
{parents}
[data]
train = "data/{language}/train"  # a folder with metadata.jsonl (file_name, text) and audio
dev = "data/{language}/dev"
license = "CC-BY-4.0"

{lora}[training]
epochs = 10
batch_size = 16
peak_learning_rate = {rate}
audio_length = "{audio_length}"
spec_augment = {augment}
random_seed = 1
"""

_PARENTS = {
    "warm-start": """
[seed]
adapter = "nearest"            # or a reference like "mini/pl@1.0.0"
""",
    "expert-pair": """
[expert]                       # the frozen parent
adapter = "nearest"            # or a reference like "mini/pl@1.0.0"

[seed]                         # what the child starts from; without it, from scratch
adapter = "expert"             # the parent itself, "nearest" or a reference

[gate]
kind = "token"                 # or "static", which `adapter-hub fold` turns into one ordinary LoRA
""",
}
_LORA = """\
[lora]
rank = {rank}
dtype = "float16"              # of the published weights; training is in float32

"""


def new_recipe(method: str, *, language: str, namespace: str, base_model: str) -> str:
    """Return the text of a recipe to start from.

    Args:
        method: one of `adapter_hub.trainers.methods.METHODS`.
        language: BCP 47 tag of the new adapter.
        namespace: the first half of its name.
        base_model: the embedded model's id, a Hub id or a folder.
    """
    mini, full = base_model == EMBEDDED_ID, method == FULL_FINE_TUNING
    return TEMPLATE.format(
        method=method,
        language=language,
        namespace=namespace,
        suffix={"expert-pair": "-pair", FULL_FINE_TUNING: "-full"}.get(method, ""),
        base_model=base_model,
        parents=_PARENTS.get(method, ""),
        lora="" if full else _LORA.format(rank=8 if mini else 32),
        rate=("1e-3" if mini else "1e-5") if full else ("2e-3" if mini else "1e-4"),
        audio_length="batch" if mini else "chunk",
        augment="true" if mini else "false",
    )
