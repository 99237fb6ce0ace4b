"""Named, versioned text normalisers: what counts as the same word when errors are counted.

    normalise("basic/1", "L’été, c'est fini!", "fr")     # "l'été c'est fini"

An error rate means nothing without the name of its normaliser, so every report holds it. The rules under a
name never change; new rules get a new name. Combining marks are never dropped: Whisper's basic normaliser
(arXiv 2212.04356, appendix C) replaces them by spaces, which splits words of Hindi, Thai or Arabic and makes
different words equal.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path

from adapter_hub.errors import InvalidInputError
from adapter_hub.files.reading import read_bounded
from adapter_hub.speech.languages import has_word_spaces, primary_subtag

DEFAULT = "basic/1"
APOSTROPHES = "'\u2019\u2018\u02bc\u00b4`\u2032\uff07"
_DOTTED_I = {ord("I"): "ı", ord("İ"): "i"}  # Turkish and Azerbaijani: I is the capital of ı


def _none(text: str, language: str) -> str:
    return text


def _basic(text: str, language: str) -> str:
    text = unicodedata.normalize("NFC", text)
    if language.split("-")[0] in ("tr", "az"):
        text = text.translate(_DOTTED_I)
    text = unicodedata.normalize("NFC", text.casefold())
    text = "".join(_keep(character) for character in text)
    return " ".join(_unify_apostrophes(text).split())


def _keep(character: str) -> str:
    """Return the character, a space for punctuation and symbols, nothing for invisible ones."""
    if character in APOSTROPHES:
        return "'"
    category = unicodedata.category(character)
    if category == "Cf":  # soft hyphens, joiners, direction marks: they have no sound
        return ""
    return " " if category[0] in "PSZC" else character


def _unify_apostrophes(text: str) -> str:
    """Keep apostrophes between two letters (a letter may end in marks); drop all others."""
    out = []
    for i, character in enumerate(text):
        inside = (
            character == "'" and 0 < i < len(text) - 1 and _in_word(text[i - 1]) and _in_word(text[i + 1])
        )
        out.append(" " if character == "'" and not inside else character)
    return "".join(out)


def _in_word(character: str) -> bool:
    return unicodedata.category(character)[0] in "LMN"


def _whisper(text: str, language: str) -> str:
    """Return what transformers' copies of Whisper's normalisers make of a text."""
    return str(_whisper_normaliser(primary_subtag(language))(text)).strip()


@cache
def _whisper_normaliser(language: str) -> Callable[[str], str]:
    from transformers.models.whisper.english_normalizer import (  # noqa: PLC0415 - a second, for those who ask
        BasicTextNormalizer,
        EnglishTextNormalizer,
    )

    if language != "en":
        return BasicTextNormalizer(split_letters=not has_word_spaces(language))
    table = Path(__file__).with_name("english_spelling.json")  # MIT, see its LICENSE
    return EnglishTextNormalizer(json.loads(read_bounded(table, 2**20)))


# by name: the function, and what it does in one line
NORMALISERS: Mapping[str, tuple[Callable[[str, str], str], str]] = {
    "basic/1": (
        _basic,
        "NFC, case folded (Turkish and Azerbaijani by their dotted i), punctuation and symbols as spaces, "
        "apostrophes inside words unified, invisible characters dropped, spaces collapsed, marks kept",
    ),
    "none/1": (_none, "the text as it is"),
    "whisper/1": (
        _whisper,
        "that of Whisper's paper, for rates beside published ones: in English numbers, contractions, titles "
        "and British spellings are unified; elsewhere marks become spaces",
    ),
}


def check_normaliser(name: str) -> str:
    """Return `name` if there is such a normaliser.

    Raises:
        InvalidInputError: there is none; the message lists the choices.
    """
    if name not in NORMALISERS:
        raise InvalidInputError(f"normaliser {name!r}: expected one of {', '.join(NORMALISERS)}")
    return name


def normalise(name: str, text: str, language: str) -> str:
    """Return a text after normalisation.

    >>> normalise("basic/1", "L’été, c'est fini!", "fr")
    "l'été c'est fini"

    Args:
        name: a key of `NORMALISERS`.
        text: a reference or a transcript.
        language: BCP 47 tag of the text.

    Raises:
        InvalidInputError: no such normaliser.
    """
    return NORMALISERS[check_normaliser(name)][0](text, language)
