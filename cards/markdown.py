r"""Text of others in Markdown: no renderer finds a meaning in it.

>>> inline("Apache-2.0"), inline("[win](http://x.example)")
('Apache-2.0', '`[win](http://x.example)`')

What consists of letters, digits and a few harmless signs stands as it is. Anything else becomes a code
span, in which links, images, HTML, addresses and @names are plain letters to every renderer; escapes with
backslashes are not, to those that make a link of an address wherever they see one.
"""

from __future__ import annotations

import re

from adapter_hub.escaping import escaped_lines, shown

LONGEST = 1000  # characters of a value
_PLAIN = re.compile(r"[^\W_](?:[^\W_]|(?<=[^\W_])_(?=[^\W_])|[ ,.+/()%'-])*")  # `_` within a word is a letter
_ADDRESS_OR_LIST = re.compile(r"\.[^\W\d_]|^\d+[.)]|//")  # `evil.com` is a link to some; `1.` begins a list


def inline(value: object) -> str:
    """Return a value for a line or a table's cell: plain where nothing in it can be Markdown, else code.

    Args:
        value: anything; its text counts.
    """
    text = shown(value, LONGEST)
    return text if _PLAIN.fullmatch(text) and not _ADDRESS_OR_LIST.search(text) else code(value)


def code(value: object) -> str:
    """Return a value as a code span that it cannot end, in a table's cell, too.

    Args:
        value: anything; its text counts.
    """
    text = shown(value, LONGEST).replace("<!--", "\\x3c!--")  # a README's tables are between such marks
    text = text.replace("|", "\\|") or " "
    ticks = "`" * (_longest_run(text) + 1)
    padding = " " if text.startswith("`") or text.endswith("`") else ""
    return f"{ticks}{padding}{text}{padding}{ticks}"


def fenced(text: str, language: str) -> str:
    """Return a block of code with lines of its own, which nothing in it can end.

    Args:
        text: of any number of lines.
        language: of the block, like `toml`.
    """
    fence = "`" * max(3, _longest_run(text) + 1)
    lines = escaped_lines(text).rstrip("\n")
    return f"{fence}{language}\n{lines}\n{fence}"


def _longest_run(text: str) -> int:
    return max(map(len, re.findall(r"`+", text)), default=0)
