"""Regular expressions of others, tried in a process of their own that may not take long.

    matching([Pattern("fullmatch", r".*decoder.*(q|v)_proj")], paths, "adapter_config.json")

PEFT reads module names and patterns as regular expressions of Python's `re`, and one of twenty characters can
keep `re` busy for years. Only the time can be limited without changing what a pattern means.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from typing import Literal, NamedTuple

from adapter_hub.errors import InvalidInputError
from adapter_hub.escaping import shown

SECONDS = 5.0  # hundreds of patterns on the thousand modules of a large model take a tenth of one
_PROGRAM = """
import json, re, sys
asked = json.load(sys.stdin)
found = []
for way, text in asked["patterns"]:
    try:
        found.append([place for place, path in enumerate(asked["texts"]) if getattr(re, way)(text, path)])
    except Exception as error:
        found.append(str(error))
json.dump(found, sys.stdout)
"""


class Pattern(NamedTuple):
    """A regular expression and how it is tried: on the whole text, or from its beginning on."""

    way: Literal["fullmatch", "match"]
    text: str


def matching(patterns: Sequence[Pattern], texts: Sequence[str], where: str) -> list[frozenset[str]]:
    """Return the texts that each pattern matches.

    Args:
        patterns: of somebody's file.
        texts: paths of modules.
        where: what messages call the file.

    Raises:
        InvalidInputError: one is not a regular expression, or they take too long.
    """
    if not patterns:
        return []
    try:
        done = subprocess.run(
            [sys.executable, "-I", "-S", "-c", _PROGRAM],
            input=json.dumps({"patterns": patterns, "texts": list(texts)}).encode("ascii"),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=SECONDS,
            check=True,
        )
    except (subprocess.TimeoutExpired, subprocess.CalledProcessError):
        longest = max((pattern.text for pattern in patterns), key=len)
        raise InvalidInputError(
            f"{where}: its patterns take more than {SECONDS:g} seconds (like {shown(longest, 100)!r}); "
            "put the names of the modules in their place"
        ) from None
    answers = json.loads(done.stdout)
    for pattern, answer in zip(patterns, answers, strict=True):
        if isinstance(answer, str):
            raise InvalidInputError(
                f"{where}: {shown(pattern.text, 100)!r} is not a regular expression ({shown(answer, 60)})"
            )
    return [frozenset(texts[place] for place in answer) for answer in answers]
