"""Checking one value of a base model's JSON files: what it has to be, in one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

from adapter_hub.errors import InvalidInputError
from adapter_hub.escaping import shown

MAXIMUM_SIZE = 2**24  # of any side of a model, and of any length
_EXPECTED = {bool: "true or false", str: "a text", list: "a list", dict: "an object"}
Kind = TypeVar("Kind")


def whole(value: Any, name: str, path: Path, least: int, below: int = MAXIMUM_SIZE) -> int:
    """Return a whole number, at least `least` and below `below`.

    Raises:
        InvalidInputError: something else.
    """
    if type(value) is not int or not least <= value < below:
        raise InvalidInputError(
            f"{path}: {name} is {shown(value, 60)}; expected a whole number from {least} to {below - 1}"
        )
    return value


def of_kind(kind: type[Kind], value: Any, name: str, path: Path) -> Kind:
    """Return a value of one JSON type: bool, str, list or dict.

    Raises:
        InvalidInputError: of another.
    """
    if not isinstance(value, kind):
        raise InvalidInputError(f"{path}: {name} is {shown(value, 60)}; expected {_EXPECTED[kind]}")
    return value
