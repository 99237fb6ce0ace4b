"""What a server may be told: by the command line's options, or by variables of the same names.

ServingOptions(models=("mini/da",), aliases={"whisper-1": "auto"})
ServingOptions.from_environment()           # ADAPTER_HUB_SERVE_ALIASES="whisper-1=auto", …

A variable is named after its field; lists are separated by commas or spaces.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from adapter_hub.errors import InvalidInputError
from adapter_hub.escaping import shown
from adapter_hub.formats.reference import AUTO, BASE_MODEL, expanded

PREFIX = "ADAPTER_HUB_SERVE_"
MEGABYTE = 10**6


@dataclass(frozen=True)
class ServingOptions:
    """How to serve.

    Attributes:
        models: references that are loaded at the start; others are loaded when they are first asked for.
        aliases: further names, each with the reference that it stands for.
        only: whether nothing else than those models and aliases is served.
        base_model: id or folder; None is the one that the first model names.
        registry: as `adapter_hub.load` takes it.
        cache: as `adapter_hub.load` takes it.
        device: torch's name.
        dtype: float32, float16 or bfloat16.
        batch_size: windows decoded together.
        max_wait: milliseconds that a window may wait for others to fill its batch.
        max_queue: requests that are being received or wait, at most.
        max_per_key: of them those of one key, or of one address where there are no keys.
        refresh: seconds between two looks at the registries.
        resident: megabytes of adapters in memory.
        max_upload: megabytes of a request.
        max_seconds: of audio in a request.
        timeout: seconds that a client may take to send or read the next piece.
        stop_timeout: seconds that requests have to finish once the server is asked to stop.
        api_key_file: file with the keys that are let in; None lets everybody in.
        allow_origins: web pages of other servers that may ask, like `https://example.org`; `*` is all.
    """

    models: tuple[str, ...] = ()
    aliases: Mapping[str, str] = field(default_factory=dict)
    only: bool = False
    base_model: str | None = None
    registry: str | None = None
    cache: str | None = None
    device: str | None = None
    dtype: str | None = None
    batch_size: int = 8
    max_wait: float = 20.0
    max_queue: int = 128
    max_per_key: int = 64
    refresh: float = 60.0
    resident: float = 8192.0
    max_upload: float = 512.0
    max_seconds: float = 4 * 3600.0
    timeout: float = 30.0
    stop_timeout: float = 300.0
    api_key_file: Path | None = None
    allow_origins: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("batch_size", "max_queue", "max_per_key"):
            if getattr(self, name) < 1:
                raise InvalidInputError(f"{name} {getattr(self, name)}: expected 1 or more")
        for name in ("refresh", "resident", "max_upload", "max_seconds", "timeout"):
            if not getattr(self, name) > 0:
                raise InvalidInputError(f"{name} {getattr(self, name)}: expected more than 0")

    @property
    def upload_bytes(self) -> int:
        """The bytes of a request, at most."""
        return int(self.max_upload * MEGABYTE)

    @classmethod
    def from_environment(cls) -> ServingOptions:
        """Return what the variables say; those of the program's global options count, too.

        Raises:
            InvalidInputError: a variable that cannot be understood.
        """
        found: dict[str, Any] = {}
        for item in fields(cls):
            variable = PREFIX + item.name.upper()
            if text := os.environ.get(variable):
                try:
                    found[item.name] = _READERS[str(item.type)](text)
                except (KeyError, ValueError) as error:
                    reason = (
                        error if isinstance(error, InvalidInputError) else f"expected {_words(item.type)}"
                    )
                    raise InvalidInputError(f"{variable}={shown(text, 100)}: {reason}") from None
        for name in ("device", "dtype"):
            found.setdefault(name, os.environ.get(f"ADAPTER_HUB_{name.upper()}") or None)
        return cls(**found)


def parse_alias(text: str) -> tuple[str, str]:
    """Return the name and the reference of `NAME=REF`.

    >>> parse_alias("whisper-1=auto")
    ('whisper-1', 'auto')

    Args:
        text: as the user wrote it.

    Raises:
        InvalidInputError: something else, or a name that means something already.
    """
    name, sign, ref = (part.strip() for part in text.partition("="))
    if not (sign and ref and re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_./:-]{0,95}", name)):
        raise InvalidInputError(f"alias {shown(text, 100)!r}: expected NAME=REF, like whisper-1=auto")
    if name in (AUTO, BASE_MODEL):
        raise InvalidInputError(f"alias {name!r}: that name means something already; choose another")
    return name, ref


def parse_aliases(texts: list[str] | tuple[str, ...]) -> dict[str, str]:
    """Return the references of several aliases by name.

    Args:
        texts: each `NAME=REF`.

    Raises:
        InvalidInputError: as `parse_alias`, or a name that stands for two.
    """
    found: dict[str, str] = {}
    for name, ref in map(parse_alias, texts):
        if found.setdefault(name, ref) != ref:
            raise InvalidInputError(f"alias {name!r}: stands for {found[name]} and for {ref}; choose one")
    return found


def _listed(text: str) -> tuple[str, ...]:
    return tuple(text.replace(",", " ").split())


def _number(text: str) -> float:
    number = float(text)
    if not (math.isfinite(number) and number >= 0):
        raise ValueError(text)
    return number


_READERS: dict[str, Callable[[str], Any]] = {
    "tuple[str, ...]": _listed,
    "Mapping[str, str]": lambda text: parse_aliases(_listed(text)),
    "bool": {"1": True, "true": True, "0": False, "false": False}.__getitem__,
    "str | None": str,
    "int": int,
    "float": _number,
    "Path | None": expanded,
}


def _words(kind: object) -> str:
    return {"bool": "1 or 0", "int": "a whole number", "float": "a number from 0 on"}.get(str(kind), "text")
