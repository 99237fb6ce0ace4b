"""SPDX licence expressions, and what a licence asks of that which is made from its work.

    lost_conditions("CC-BY-NC-4.0", "MIT")          # ('no commercial use',)
    lost_conditions("CC-BY-SA-4.0 OR MIT", "MIT")   # (): whoever took it under MIT may

This is no legal advice, and no verdict: what is certain enough to be pointed out, and nothing else. Whatever
is not in `FAMILIES` is unknown, and what is unknown neither loses a condition nor keeps one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression

NO_LICENCE = frozenset({"NONE", "NOASSERTION", "LicenseRef-unknown"})
MOST_TOKENS = 400  # of an expression: longer ones, and those with more alternatives, are unknown
MOST_ALTERNATIVES = 64
DEEPEST = 20  # parentheses within parentheses
_TOKEN = re.compile(r"\(|\)|[A-Za-z0-9][A-Za-z0-9.+-]*")

SHARE_ALIKE = "the same licence for what is made from it"
NON_COMMERCIAL = "no commercial use"
NO_DERIVATIVES = "no sharing of what is made from it"
USE_LIMITS = "its limits of use passed on"


@dataclass(frozen=True)
class Family:
    """Licences that ask for the same.

    Attributes:
        pattern: of their ids, in lower case.
        asks: the conditions that whatever is made from such a work has to keep.
        heirs: pattern of the ids under which what is made may be shared, if `asks` has `SHARE_ALIKE`.
    """

    pattern: str
    asks: tuple[str, ...] = ()
    heirs: str = ""


_GPL_3 = r"gpl-3\.0.*|agpl-3\.0.*"
# Sources: the licences' own texts; Creative Commons' list of compatible licences for the heirs of CC-BY-SA
# (creativecommons.org/compatiblelicenses); gnu.org/licenses/gpl-faq.html#AllCompatibility for the GNU family;
# section 3.3 of MPL-2.0; huggingface.co/blog/open_rail for OpenRAIL. A model trained on a database under ODbL
# or CDLA is a "produced work" or a "result", which those leave free. Where versions differ it is lenient.
FAMILIES = (
    Family(
        r"apache-[\d.]+|mit(-0)?|mit-modern-variant|bsd-.*|0bsd|isc|zlib|bsl-1\.0|ncsa|unlicense|wtfpl|upl-1\.0"
        r"|cc0-1\.0|cc-pddc|cc-by-\d.*|pddl-1\.0|odc-by-1\.0|odbl-1\.0|cdla-.*|afl-3\.0|ecl-2\.0|artistic-2\.0|ms-pl"
        r"|python-2\.0|psf-2\.0|postgresql|x11|mulanpsl-2\.0"
    ),
    Family(r"cc-by-sa-.*", (SHARE_ALIKE,), rf"cc-by-sa-.*|fal-1\.3|{_GPL_3}"),
    Family(r"cc-by-nc-\d.*", (NON_COMMERCIAL,)),
    Family(r"cc-by-nc-sa-.*", (NON_COMMERCIAL, SHARE_ALIKE), r"cc-by-nc-sa-.*"),
    Family(r"cc-by-nd-.*", (NO_DERIVATIVES,)),
    Family(r"cc-by-nc-nd-.*|cc-by-nd-nc-.*", (NON_COMMERCIAL, NO_DERIVATIVES)),
    Family(r"gpl-2\.0(-only)?", (SHARE_ALIKE,), r"gpl-2\.0.*"),
    Family(r"gpl-2\.0(-or-later|\+)", (SHARE_ALIKE,), rf"gpl-2\.0.*|{_GPL_3}"),
    Family(r"gpl-3\.0.*", (SHARE_ALIKE,), _GPL_3),
    Family(r"agpl-3\.0.*", (SHARE_ALIKE,), r"agpl-3\.0.*"),
    Family(r"lgpl-[\d.]+.*", (SHARE_ALIKE,), r"l?gpl-.*|agpl-.*"),
    Family(r"mpl-2\.0", (SHARE_ALIKE,), r"mpl-2\.0|l?gpl-.*|agpl-.*"),
    Family(r"fal-1\.3", (SHARE_ALIKE,), r"fal-1\.3|cc-by-sa-4\.0"),
    Family(r"(licenseref-)?([a-z0-9]+-)*openrail.*", (USE_LIMITS,)),
)


def alternatives(expression: str) -> tuple[frozenset[str], ...]:
    """Return the licences of an expression as a choice: each alternative is the ids that then apply together.

    >>> [sorted(ids) for ids in alternatives("(mit OR CC-BY-4.0) AND Apache-2.0")]
    [['apache-2.0', 'mit'], ['apache-2.0', 'cc-by-4.0']]

    Args:
        expression: of SPDX, in any case; ids that SPDX does not know are kept as they are.

    Returns:
        Ids in lower case, an exception as `id with exception`; nothing if it is no expression at all.
    """
    tokens = _TOKEN.findall(expression)
    if not 0 < len(tokens) <= MOST_TOKENS or _TOKEN.sub("", expression).strip():
        return ()
    try:
        found, rest = _either(tokens, 0, 0)
    except ValueError:
        return ()
    return tuple(dict.fromkeys(found)) if rest == len(tokens) else ()


def unknown_ids(expression: str) -> tuple[str, ...]:
    """Return what in an expression says nothing about what may be done; the whole if it is no expression.

    >>> unknown_ids("MIT"), unknown_ids("LicenseRef-mine OR MIT"), unknown_ids("ask me!")
    ((), ('licenseref-mine',), ('ask me!',))

    Args:
        expression: of SPDX, or whatever somebody wrote in its place.
    """
    choices = alternatives(expression)
    if not choices:
        return (expression,)
    return tuple(sorted({item for ids in choices for item in ids if _family(item) is None}))


def lost_conditions(source: str, result: str) -> tuple[str, ...]:
    """Return what a licence asks and that of a work made from it drops; nothing where that is unknown.

    Whoever makes something chooses among the source's alternatives, and whoever takes it among the
    result's: so one alternative of the source has to be kept by every one of the result.

    >>> lost_conditions("CC-BY-SA-4.0", "Apache-2.0"), lost_conditions("CC-BY-SA-4.0", "LicenseRef-mine")
    (('the same licence for what is made from it',), ())

    Args:
        source: the expression of what something was made from.
        result: the expression of what was made.
    """
    lost = [
        {condition for made in alternatives(result) for condition in _lost(taken, made)}
        for taken in alternatives(source)
    ]
    fewest = min(lost, key=len, default=set())
    return tuple(sorted(fewest))


def spdx_or_none(text: str) -> str | None:
    """Return an expression as SPDX writes it; None if it is not one.

    >>> spdx_or_none("cc-by-4.0"), spdx_or_none("OpenRAIL")
    ('CC-BY-4.0', None)

    Args:
        text: of any case.
    """
    if not alternatives(text):
        return None  # of any depth: only then is it parsed by others
    try:
        return canonicalize_license_expression(text)
    except InvalidLicenseExpression:
        return None


def _either(tokens: list[str], at: int, depth: int) -> tuple[list[frozenset[str]], int]:
    """Parse alternatives; AND binds tighter than OR, as in SPDX."""
    found, at = _together(tokens, at, depth)
    while _word(tokens, at) == "or":
        more, at = _together(tokens, at + 1, depth)
        found = _few([*found, *more])
    return found, at


def _together(tokens: list[str], at: int, depth: int) -> tuple[list[frozenset[str]], int]:
    found, at = _one(tokens, at, depth)
    while _word(tokens, at) == "and":
        more, at = _one(tokens, at + 1, depth)
        found = _few([left | right for left in found for right in more])
    return found, at


def _one(tokens: list[str], at: int, depth: int) -> tuple[list[frozenset[str]], int]:
    word = _word(tokens, at)
    if word == "(" and depth < DEEPEST:
        found, at = _either(tokens, at + 1, depth + 1)
        if _word(tokens, at) != ")":
            raise ValueError("a parenthesis is open")
        return found, at + 1
    if word in ("", "(", ")", "and", "or", "with"):
        raise ValueError("a licence is missing")
    if _word(tokens, at + 1) == "with" and _word(tokens, at + 2) not in ("", "(", ")", "and", "or", "with"):
        return [frozenset({f"{word} with {_word(tokens, at + 2)}"})], at + 3
    return [frozenset({word})], at + 1


def _word(tokens: list[str], at: int) -> str:
    return tokens[at].lower() if at < len(tokens) else ""


def _few(found: list[frozenset[str]]) -> list[frozenset[str]]:
    unique = list(dict.fromkeys(found))
    if len(unique) > MOST_ALTERNATIVES:
        raise ValueError("too many alternatives")
    return unique


@lru_cache(maxsize=1024)
def _family(licence: str) -> Family | None:
    """Return the family of an id in lower case; an exception only ever allows more than its licence does."""
    plain, _, exception = licence.partition(" with ")
    family = next((item for item in FAMILIES if re.fullmatch(item.pattern, plain)), None)
    return None if family is not None and exception and family.asks else family


def _lost(taken: frozenset[str], made: frozenset[str]) -> Iterator[str]:
    """Yield the conditions of licences that apply together and that others together do not keep."""
    kept = {condition for licence in made if (family := _family(licence)) for condition in family.asks}
    if any(_family(licence) is None for licence in made):
        return
    for licence in taken:
        family = _family(licence)
        for condition in family.asks if family else ():
            inherited = family is not None and any(re.fullmatch(family.heirs, item) for item in made)
            if not (inherited if condition == SHARE_ALIKE else condition in kept):
                yield condition
