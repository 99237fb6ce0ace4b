r"""Text that is not ours, made harmless for a terminal, a log or a message of one line.

>>> print(shown("da\x1b[2J\nerror: all is lost"))
da\x1b[2J\nerror: all is lost

Registries, cards, servers and file names may hold escape sequences that clear the screen or fill the
clipboard, newlines that forge a line of output, and marks that turn the direction of what follows.
"""

from __future__ import annotations

import unicodedata

LONGEST = 300  # characters of one value in a message
_JOINERS = "\u200c\u200d"  # invisible, and part of how Persian, Hindi and others are spelt
_NAMED = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}
_UNSAFE = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


def escaped(text: str) -> str:
    """Return `text` with every character escaped that is no visible one or a plain space.

    What is printable comes back as it is, so that doing it twice does nothing more.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(character if _is_visible(character) else _escape(character) for character in text)


def shown(value: object, limit: int = LONGEST) -> str:
    """Return a value as harmless text of one line, cut after `limit` characters."""
    text = str(value)
    cut = len(text) > limit
    return f"{escaped(text[:limit])}…" if cut else escaped(text)


def _is_visible(character: str) -> bool:
    return character in _JOINERS or unicodedata.category(character) not in _UNSAFE


def _escape(character: str) -> str:
    code = ord(character)
    if character in _NAMED:
        return _NAMED[character]
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
