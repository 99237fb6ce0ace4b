r"""Text that is not ours, made harmless for a terminal, a log or a message of one line.

>>> print(shown("da\x1b[2J\nerror: all is lost"))
da\x1b[2J\nerror: all is lost

Registries, cards, servers and file names may hold escape sequences that clear the screen or fill the
clipboard, newlines that forge a line of output, and marks that turn the direction of what follows.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable

LONGEST = 300  # characters of one value in a message
REMEMBERED = 20_000  # spellings of characters: more than a language has, less than fill the memory
_JOINERS = "\u200c\u200d"  # invisible, and part of how Persian, Hindi and others are spelt
_NAMED = {0x0A: "\\n", 0x0D: "\\r", 0x09: "\\t"}
_UNSAFE = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


def escaped(text: str) -> str:
    """Return `text` with every character escaped that is neither visible nor a plain space.

    What is printable comes back as it is, so that doing it twice does nothing more.
    """
    return text if text.isascii() and text.isprintable() else text.translate(_FOR_MESSAGES)


def shown(value: object, limit: int = LONGEST) -> str:
    """Return a value as harmless text of one line, cut after `limit` characters.

    Args:
        value: anything; its `str` counts.
        limit: characters.
    """
    text = str(value)
    cut = len(text) > limit
    return f"{escaped(text[:limit])}…" if cut else escaped(text)


def escaped_lines(text: str) -> str:
    """Return a document whose line breaks and tabs are its own, with everything else escaped."""
    return text if text.isascii() and text.isprintable() else text.translate(_FOR_DOCUMENTS)


def without_controls(text: str) -> str:
    """Return `text` in one line, letter for letter but for control characters and line breaks.

    For what is kept in files: Arabic and Hebrew text may hold marks of direction, which stay.
    """
    return text if text.isascii() and text.isprintable() else text.translate(_WITHOUT_CONTROLS)


def escaped_json(text: str) -> str:
    """Return JSON that says the same, with what is not visible escaped too; newlines are its layout."""
    return text if text.isascii() and "\x7f" not in text else text.translate(_FOR_JSON)


class _Spellings(dict[int, str]):
    """How a character is written, found when it is first met; others stay as they are.

    Args:
        spell: writes a character that must not stand as it is.
        categories: Unicode's, of those that must not.
        kept: which stay anyway.
    """

    def __init__(self, spell: Callable[[int], str], categories: frozenset[str], kept: str) -> None:
        super().__init__()
        self._spell, self._categories, self._kept = spell, categories, kept

    def __missing__(self, code: int) -> str:
        character = chr(code)
        safe = character in self._kept or unicodedata.category(character) not in self._categories
        spelling = character if safe else self._spell(code)
        if len(self) < REMEMBERED:
            self[code] = spelling
        return spelling


def _visibly(code: int) -> str:
    if named := _NAMED.get(code):
        return named
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _as_json(code: int) -> str:
    if code < 0x10000:
        return f"\\u{code:04x}"
    high, low = divmod(code - 0x10000, 0x400)
    return f"\\u{0xD800 + high:04x}\\u{0xDC00 + low:04x}"


_FOR_MESSAGES = _Spellings(_visibly, _UNSAFE, _JOINERS)
_FOR_DOCUMENTS = _Spellings(_visibly, _UNSAFE, f"{_JOINERS}\n\t")
_FOR_JSON = _Spellings(_as_json, _UNSAFE, f"{_JOINERS}\n")
_WITHOUT_CONTROLS = _Spellings(_visibly, _UNSAFE - {"Cf", "Co", "Cn"}, "")
