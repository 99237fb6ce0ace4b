"""Numbers from 0 to 9999 spelled as transcripts of ten languages write them.

Lower case, no commas, no hyphens. num2words spells five of them well; the other five have a table of their
own here, because num2words has none (Chinese, Greek), gives kanji that espeak-ng reads as letter names
(Japanese), counts by twenties (Welsh), or puts an "og" where Danish has none.
"""

from __future__ import annotations

import functools
import unicodedata
from collections.abc import Callable
from typing import Any

from adapter_hub.errors import InvalidInputError
from adapter_hub.trainers.makers.corpus.synthesis import demo_module

LARGEST = 9999


def spell(number: int, language: str) -> str:
    """The transcript of a number.

    Args:
        number: 0 to 9999.
        language: one of `LANGUAGES`.
    """
    if not 0 <= number <= LARGEST:
        raise InvalidInputError(f"{number} is out of range: numbers from 0 to {LARGEST} can be spelled")
    speller = SPELLERS.get(language)
    if speller is None:
        raise InvalidInputError(
            f"no numbers in language {language!r}: choose one of {', '.join(sorted(SPELLERS))}"
        )
    return unicodedata.normalize("NFC", speller(number))


def _words(table: str) -> list[str]:
    """The entries of a table in one line; a dot is a space inside an entry."""
    return [entry.replace(".", " ") for entry in table.split()]


def _num2words(number: int, locale: str) -> str:
    words: Any = demo_module("num2words").num2words
    return " ".join(str(words(number, lang=locale)).replace(",", " ").replace("-", " ").split())


def _polish(number: int) -> str:
    return _num2words(number, "pl")


def _portuguese(number: int) -> str:
    return _num2words(number, "pt_BR")


def _spanish(number: int) -> str:
    return _num2words(number, "es")


def _english(number: int) -> str:
    return _num2words(number, "en")


def _italian(number: int) -> str:
    text = _num2words(number, "it")
    # num2words forgets the accent of some compounds of "tre"
    return text[:-1] + "é" if number > 3 and text.endswith("tre") else text


_DANISH_SMALL = _words(
    "nul et to tre fire fem seks syv otte ni ti "
    "elleve tolv tretten fjorten femten seksten sytten atten nitten"
)
_DANISH_TENS = _words("- - tyve tredive fyrre halvtreds tres halvfjerds firs halvfems")


def _danish(number: int) -> str:
    thousands, hundreds, rest = number // 1000, number // 100 % 10, number % 100
    words = []
    if thousands:
        words.append(_DANISH_SMALL[thousands] + "tusind")
    if hundreds:
        words.append(_DANISH_SMALL[hundreds] + "hundrede")
    if rest or not words:
        if words:
            words.append("og")  # only once, before what is below a hundred
        unit = rest % 10
        if rest < 20:
            words.append(_DANISH_SMALL[rest])
        else:
            one = "en" if unit == 1 else _DANISH_SMALL[unit]
            words.append((one + "og" if unit else "") + _DANISH_TENS[rest // 10])
    return " ".join(words)


_WELSH_UNITS = _words("dim un dau tri pedwar pump chwech saith wyth naw")
_WELSH_TENS = _words("- deg dau.ddeg tri.deg pedwar.deg pum.deg chwe.deg saith.deg wyth.deg naw.deg")
_WELSH_HUNDREDS = _words(
    "- cant dau.gant tri.chant pedwar.cant pum.cant chwe.chant saith.cant wyth.cant naw.cant"
)
_WELSH_THOUSANDS = _words("- mil dwy.fil tair.mil pedair.mil pum.mil chwe.mil saith.mil wyth.mil naw.mil")
_WELSH_AND = _words("- ac.un a.dau a.thri a.phedwar a.phump a.chwech a.saith ac.wyth a.naw a.deg")


def _welsh(number: int) -> str:
    """The decimal numbers of schools and sums.

    "a" (and) stands only before a last part of at most ten, and mutates it.
    """
    thousands, hundreds, rest = number // 1000, number // 100 % 10, number % 100
    words = [_WELSH_THOUSANDS[thousands]] if thousands else []
    words += [_WELSH_HUNDREDS[hundreds]] if hundreds else []
    if words and 1 <= rest <= 10:
        words.append(_WELSH_AND[rest])
    elif rest == 10:
        words.append("deg")
    elif 10 < rest < 20:
        words.append("un deg " + _WELSH_UNITS[rest - 10])
    elif rest >= 20:
        words.append(_WELSH_TENS[rest // 10])
        if rest % 10:
            words.append(_WELSH_UNITS[rest % 10])
    elif rest or not words:
        words.append(_WELSH_UNITS[rest])
    return " ".join(words)


_GREEK_UNITS = _words(
    "μηδέν ένα δύο τρία τέσσερα πέντε έξι επτά οκτώ εννέα δέκα έντεκα δώδεκα "
    "δεκατρία δεκατέσσερα δεκαπέντε δεκαέξι δεκαεπτά δεκαοκτώ δεκαεννέα"
)
_GREEK_TENS = _words("- - είκοσι τριάντα σαράντα πενήντα εξήντα εβδομήντα ογδόντα ενενήντα")
_GREEK_HUNDREDS = _words(
    "- εκατόν διακόσια τριακόσια τετρακόσια πεντακόσια εξακόσια επτακόσια οκτακόσια εννιακόσια"
)
_GREEK_FEMININE = {3: "τρεις", 4: "τέσσερις"}


def _greek(number: int) -> str:
    thousands, hundreds, rest = number // 1000, number // 100 % 10, number % 100
    words = []
    if thousands == 1:
        words.append("χίλια")
    elif thousands:
        # χιλιάδες is feminine
        words += [_GREEK_FEMININE.get(thousands, _GREEK_UNITS[thousands]), "χιλιάδες"]
    if hundreds:
        words.append("εκατό" if hundreds == 1 and not rest else _GREEK_HUNDREDS[hundreds])
    if rest >= 20:
        words.append(_GREEK_TENS[rest // 10])
        rest %= 10
    if rest or not words:
        words.append(_GREEK_UNITS[rest])
    return " ".join(words)


_CHINESE = "零一二三四五六七八九"


def _chinese(number: int) -> str:
    """Zeros inside are read as one 零; two thousand is 两千, ten to nineteen have no 一 before 十."""
    if number < 10:
        return _CHINESE[number]
    if number < 20:
        return "十" + (_CHINESE[number - 10] if number > 10 else "")
    text, gap = "", False
    for unit, power in (("千", 1000), ("百", 100), ("十", 10), ("", 1)):
        digit = number // power % 10
        if not digit:
            gap = bool(text)
            continue
        text += ("零" if gap else "") + ("两" if power == 1000 and digit == 2 else _CHINESE[digit]) + unit
        gap = False
    return text


_JAPANESE_UNITS = _words("れい いち に さん よん ご ろく なな はち きゅう")
_JAPANESE_HUNDREDS = _words(
    "- ひゃく にひゃく さんびゃく よんひゃく ごひゃく ろっぴゃく ななひゃく はっぴゃく きゅうひゃく"
)
_JAPANESE_THOUSANDS = _words("- せん にせん さんぜん よんせん ごせん ろくせん ななせん はっせん きゅうせん")


def _japanese(number: int) -> str:
    thousands, hundreds, tens, units = number // 1000, number // 100 % 10, number // 10 % 10, number % 10
    text = _JAPANESE_THOUSANDS[thousands] if thousands else ""
    text += _JAPANESE_HUNDREDS[hundreds] if hundreds else ""
    text += (_JAPANESE_UNITS[tens] if tens > 1 else "") + "じゅう" if tens else ""
    return text + _JAPANESE_UNITS[units] if units or not text else text


SPELLERS: dict[str, Callable[[int], str]] = {
    "cy": _welsh,
    "da": _danish,
    "el": _greek,
    "en": _english,
    "es": _spanish,
    "it": _italian,
    "ja": _japanese,
    "pl": _polish,
    "pt": _portuguese,
    "zh": _chinese,
}

LANGUAGES = tuple(SPELLERS)


@functools.cache
def spellings(language: str) -> dict[str, int]:
    """The number of every spelling of a language, without spaces, which are not audible."""
    numbers = {spell(number, language).replace(" ", ""): number for number in range(LARGEST + 1)}
    if len(numbers) != LARGEST + 1:
        raise ValueError(f"two numbers have the same spelling in {language}")
    return numbers


def is_unambiguous(numbers: tuple[int, ...], language: str) -> bool:
    """Whether the spoken transcript can be understood as these numbers only.

    "twenty" and "three" said one after the other are also 23, which may belong to another split. So no other
    sequence of at most as many numbers may sound the same.

    Args:
        numbers: in the order in which they are spoken.
        language: one of `LANGUAGES`.
    """
    if len(numbers) == 1:
        return True
    known = spellings(language)
    longest = _longest_spelling(language)
    text = "".join(spell(number, language) for number in numbers).replace(" ", "")
    # ways[end][parts]: how many sequences of that many numbers sound like text[:end]
    ways = [[0] * (len(numbers) + 1) for _ in range(len(text) + 1)]
    ways[0][0] = 1
    for start in range(len(text)):
        if not any(ways[start]):
            continue
        for end in range(start + 1, min(len(text), start + longest) + 1):
            if text[start:end] in known:
                for parts in range(len(numbers)):
                    ways[end][parts + 1] += ways[start][parts]
    return sum(ways[len(text)]) == 1


@functools.cache
def _longest_spelling(language: str) -> int:
    return max(map(len, spellings(language)))
