"""A new recipe, of what its author says and what the data show, checked as training would before it is there.

    text = draft("lora", Wishes(namespace="alice", data=Path("data/es")), Path("es.toml"))

What nobody says is a placeholder, which `train` refuses: it would be published for ever.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from adapter_hub.base_model.digest import EMBEDDED_ID
from adapter_hub.base_model.families import WHISPER, family_of, refuse_lacking
from adapter_hub.base_model.finding import find_base_model
from adapter_hub.base_model.naming import id_in, split_claim
from adapter_hub.base_model.settings import read_settings
from adapter_hub.cards.front_matter import licence_in_card
from adapter_hub.data.dataset import holds_rows, read_dataset, split_in
from adapter_hub.errors import InvalidInputError, NotFoundError, few
from adapter_hub.formats.licences import spdx_or_none
from adapter_hub.formats.reference import check_name, is_local
from adapter_hub.speech.languages import WHISPER_CODES, language_tag, nearest_languages, whisper_code
from adapter_hub.trainers.recipe import RecipeFile, parse_recipe
from adapter_hub.trainers.recipe_template import KnownKeys, new_recipe

DEV = ("dev", "validation", "valid")  # what people call it


@dataclass(frozen=True)
class Wishes:
    """What the author of a recipe says.

    Attributes:
        language: a BCP 47 tag or an English name; None for that of the data's rows.
        decode_language: whose token stands for it, where the base model has none.
        namespace: the first half of the adapter's name.
        base_model: the embedded model's id, a Hub id, a folder, or `ID=FOLDER`.
        cache: the cache's folder, where models of the Hub are; the user's by default.
        authors: of the adapter.
        license: of the adapter, SPDX.
        data: a folder with splits or rows, or a JSONL file; None for an example.
        data_license: of the data, SPDX; None for what the data's README.md says.
    """

    language: str | None = None
    decode_language: str | None = None
    namespace: str | None = None
    base_model: str = EMBEDDED_ID
    cache: Path | None = None
    authors: Sequence[str] = ()
    license: str | None = None
    data: Path | None = None
    data_license: str | None = None


@dataclass(frozen=True)
class _Shown:
    """What the data show."""

    train: Path
    dev: Path | None
    languages: Sequence[str]
    license: str | None


def draft(method: str, wishes: Wishes, file: Path) -> RecipeFile:
    """Return a recipe that `train` accepts but for what is still a placeholder.

    Args:
        method: how it is to be trained.
        wishes: what its author says.
        file: where it will be; its paths are relative to that.

    Raises:
        NotFoundError: no such data or base model. InvalidInputError: what training would refuse.
    """
    data = None if wishes.data is None else _shown_by(wishes.data)
    language = _language(wishes, data)
    if language is not None:
        _check_token(language, wishes)
    if wishes.namespace is not None:
        check_name(f"{wishes.namespace}/x")
    known: KnownKeys = {
        "language": language,
        "decode_language": None if wishes.decode_language is None else whisper_code(wishes.decode_language),
        "namespace": wishes.namespace,
        "base_model": _base_model(wishes.base_model, file),
        "authors": wishes.authors,
        "license": None if wishes.license is None else spdx(wishes.license),
        "data_license": None if wishes.data_license is None else spdx(wishes.data_license),
    }
    if data is not None:
        known["train"] = _relative(data.train, file)
        known["dev"] = None if data.dev is None else _relative(data.dev, file)
        known["data_license"] = known["data_license"] or data.license
    text = new_recipe(method, **known)
    made = parse_recipe(text, file)
    if (folder := _folder(wishes)) is not None:
        refuse_lacking(family_of(folder), made.recipe.asked())
    return made


def spdx(text: str) -> str:
    """Return an SPDX licence expression as the standard writes it.

    >>> spdx("cc-by-4.0")
    'CC-BY-4.0'

    Args:
        text: of any case.

    Raises:
        InvalidInputError: not one.
    """
    if (found := spdx_or_none(text)) is None:
        raise InvalidInputError(
            f"licence {text!r}: expected an SPDX expression, like CC-BY-4.0, Apache-2.0 or CC0-1.0; "
            "LicenseRef-NAME for one of your own"
        )
    return found


def _shown_by(place: Path) -> _Shown:
    """Return what a folder or list of data shows."""
    train = place
    if place.is_dir() and not holds_rows(place):
        train = split_in(place, "train") or place
        read_dataset(place, "train")  # says which splits there are
    beside = train.parent if train.stem == "train" else None
    dev = next((found for name in DEV if (found := split_in(beside, name))), None) if beside else None
    languages = read_dataset(train).languages
    cards = (train / "README.md", train.parent / "README.md")
    licenses = [licence_in_card(card) for card in cards]
    return _Shown(train, dev, languages, next(filter(None, licenses), None))


def _language(wishes: Wishes, data: _Shown | None) -> str | None:
    """Return the tag of the new adapter, which the data have to be in."""
    found = data.languages if data else ()
    if wishes.language is None:
        if len(found) > 1:
            raise InvalidInputError(
                f"{wishes.data}: its rows are in {few(found, separator=', ')}; name the adapter's --language"
            )
        return language_tag(found[0]) if found else None
    tag = language_tag(wishes.language)
    if found and whisper_code(tag) not in map(whisper_code, found):
        raise InvalidInputError(
            f"--language {tag}: the rows of {wishes.data} are in {few(found, separator=', ')}"
        )
    return tag


def _check_token(language: str, wishes: Wishes) -> None:
    """Refuse a language that the base model cannot be told, as far as its files are here."""
    decode_language, base_model, known = wishes.decode_language, wishes.base_model, _codes(wishes)
    code = whisper_code(decode_language or language)
    if known is None or code in known:
        return
    if decode_language is not None:
        what, then = f"--decode-language {decode_language}", "nearest"
    else:
        what, then = (
            f"--language {language}",
            "name one whose token it borrows with --decode-language; nearest",
        )
    raise InvalidInputError(
        f"{what}: {base_model} has no token for it; {then}: {nearest_languages(code, known)}"
    )


def _codes(wishes: Wishes) -> Sequence[str] | None:
    """Return the codes that a base model knows; None if it need not be told the language."""
    if (folder := _folder(wishes)) is None:
        return WHISPER_CODES  # it is fetched later
    if family_of(folder) != WHISPER:
        return None
    generation = read_settings(folder).generation
    if not generation.get("is_multilingual", True):
        return ("en",)
    return [token[2:-2] for token in generation.get("lang_to_id") or {}] or WHISPER_CODES


def _folder(wishes: Wishes) -> Path | None:
    """Return where a base model is; None for one of the Hub that is not here yet."""
    try:
        return find_base_model(wishes.base_model, cache=wishes.cache)[0]
    except NotFoundError:
        if id_in(wishes.base_model) != wishes.base_model:  # a folder
            raise
        return None


def _relative(path: Path, file: Path) -> str:
    """Return a path as a recipe in `file` names it."""
    return str(path) if path.is_absolute() else Path(os.path.relpath(path, file.parent)).as_posix()


def _base_model(words: str, file: Path) -> str:
    """Return a base model as a recipe names it."""
    claimed, place = split_claim(words)
    place = _place(place, file) if claimed or is_local(place) else place
    return f"{claimed}={place}" if claimed else place


def _place(text: str, file: Path) -> str:
    """Return a folder as a recipe names it: with a dot in front, or it would be an id of the Hub."""
    relative = _relative(Path(text), file)
    return relative if relative.startswith((".", "/")) else f"./{relative}"
