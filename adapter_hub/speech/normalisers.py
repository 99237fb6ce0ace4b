"""Named, versioned text normalisers: what counts as the same word when errors are counted.

    normalise("basic/2", "L’été, c'est fini!", "fr")     # "l'été c'est fini"

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
from adapter_hub.speech.languages import CHINESE, has_word_spaces, primary_subtag

DEFAULT = "basic/2"
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


# what stands for an apostrophe or a letter like the okina: whoever types has what the keyboard has
_APOSTROPHES_2 = APOSTROPHES + "\u201b\u02bb\u02bd\u02be\u02bf\u055a\u05f3\ua78b\ua78c"
# where it is a letter, or a word's first sound, at the beginning of words; and after which letters at the end
_AT_THE_BEGINNING = frozenset({"af", "fud", "ha", "haw", "nv", "rap", "rar", "sm", "to", "ty", "wls"})
_AT_THE_END = {"uz": "og"}


def _basic_2(text: str, language: str) -> str:
    text = unicodedata.normalize("NFC", "".join(map(_usual_width, text)))
    language = primary_subtag(language)
    if language in ("tr", "az"):
        text = text.translate(_DOTTED_I)
    text = unicodedata.normalize("NFC", text.casefold())
    text = "".join("'" if character in _APOSTROPHES_2 else _keep(character) for character in text)
    out = []
    for before, character, after in zip(f" {text}", text, f"{text[1:]} ", strict=False):
        if character == "'":
            begins = _in_word(before) or language in _AT_THE_BEGINNING
            ends = _in_word(after) or before in _AT_THE_END.get(language, "")
            kept = begins and ends and (_in_word(before) or _in_word(after))
            character = "'" if kept else " "
        out.append(character)
    return " ".join("".join(out).split())


def _usual_width(character: str) -> str:
    """Return a full-width or half-width character as it is elsewhere, like ５ and ｶ."""
    kind, _, codes = unicodedata.decomposition(character).partition(" ")
    if kind not in ("<wide>", "<narrow>"):
        return character
    return "".join(chr(int(code, 16)) for code in codes.split())


def _basic_2_simplified(text: str, language: str) -> str:
    if primary_subtag(language) in CHINESE:
        text = text.translate(_simplified())
    return _basic_2(text, language)


@cache
def _simplified() -> dict[int, str]:
    """Return the simplified character of every traditional one."""
    table = read_bounded(Path(__file__).with_name("simplified.txt"), 2**20).decode()
    pairs = "".join(line for line in table.splitlines() if not line.startswith("#"))
    return {ord(pairs[i]): pairs[i + 1] for i in range(0, len(pairs), 2)}


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
    "basic/2": (
        _basic_2,
        "as basic/1, with full-width and half-width characters in their usual width, everything that stands "
        "for an apostrophe unified, and kept at the edges of words where the language has it there",
    ),
    "basic/2+simplified": (
        _basic_2_simplified,
        "as basic/2, with traditional Chinese characters replaced by simplified ones",
    ),
    "none/1": (_none, "the text as it is"),
    "whisper/1": (
        _whisper,
        "that of Whisper's paper, for rates beside published ones: in English numbers, contractions, titles "
        "and British spellings are unified; elsewhere marks become spaces",
    ),
}
# those under which languages that were not known to lack word spaces then are counted as if they had them
_FIRST = ("basic/1", "none/1")
_FIRST_WITHOUT_WORD_SPACES = frozenset({"zh", "cmn", "yue", "ja", "th", "lo", "my", "km", "bo"})


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

    >>> normalise("basic/2", "L’été, c'est fini!", "fr")
    "l'été c'est fini"

    Args:
        name: a key of `NORMALISERS`.
        text: a reference or a transcript.
        language: BCP 47 tag of the text.

    Raises:
        InvalidInputError: no such normaliser.
    """
    return NORMALISERS[check_normaliser(name)][0](text, language)


def counts_spaces(name: str, language: str) -> bool:
    """Tell whether spaces count as characters under a normaliser: where they separate words.

    >>> counts_spaces("basic/1", "wuu"), counts_spaces("basic/2", "wuu")
    (True, False)

    Args:
        name: a key of `NORMALISERS`.
        language: BCP 47 tag of the text.
    """
    if name in _FIRST:
        return primary_subtag(language) not in _FIRST_WITHOUT_WORD_SPACES
    return has_word_spaces(language)
