"""Canonical JSON (RFC 8785), strict reading, and the records built on both.

Identity is the sha256 of bytes, so one content must have one spelling: records are written as
RFC 8785 bytes, and a reader refuses whatever another reader could understand differently
(duplicate keys, NaN, numbers that overflow, an explicit null).
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from typing import Annotated, Any, Self

import rfc8785
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from adapter_hub.clock import TIME_PATTERN, check_time
from adapter_hub.errors import InvalidInputError

DIGEST_PATTERN = r"sha256:[0-9a-f]{64}"
_LARGEST = 2**53 - 1  # the largest integer that every reader of JSON keeps exact

Digest = Annotated[str, StringConstraints(pattern=f"^{DIGEST_PATTERN}$")]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
UtcTime = Annotated[str, StringConstraints(pattern=f"^{TIME_PATTERN}$"), AfterValidator(check_time)]
Count = Annotated[int, Field(ge=0, lt=2**53)]
Text = Annotated[str, StringConstraints(min_length=1)]


def sha256_hex(data: bytes | memoryview) -> str:
    """Return the sha256 of `data` as 64 hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def digest_of(data: bytes) -> str:
    """Return `sha256:<hex>`, the form in which identities are written."""
    return f"sha256:{sha256_hex(data)}"


def hex_of(digest: str) -> str:
    """Return the bare hexadecimal digits of `sha256:<hex>` (file names cannot hold the colon)."""
    return digest.removeprefix("sha256:")


class _UnusualError(Exception):
    """A value that `json.dumps` and RFC 8785 spell differently."""


def canonical_bytes(value: Any) -> bytes:
    """Return the RFC 8785 bytes of plain JSON data.

    Raises:
        InvalidInputError: a value has no canonical form (NaN, an integer from 2**53, a surrogate).
    """
    try:  # the standard library's writer is several times faster, and agrees on what is usual
        text = json.dumps(_usual(value), ensure_ascii=False, sort_keys=True, separators=(",", ":"))
        return text.encode("utf-8")
    except (_UnusualError, UnicodeEncodeError):
        pass
    try:
        return rfc8785.dumps(value)
    except ValueError as error:
        raise InvalidInputError(f"no canonical JSON for this value: {error}") from None


def _usual(value: Any) -> Any:
    """Return `value` for `json.dumps`: integral floats as integers; odd numbers and keys are refused."""
    kind = type(value)
    if kind is str or kind is bool or value is None:
        return value
    if kind is dict:
        if not all(type(key) is str and key.isascii() for key in value):
            raise _UnusualError  # RFC 8785 sorts by UTF-16 code units
        return {key: _usual(item) for key, item in value.items()}
    if kind is list or kind is tuple:
        return [_usual(item) for item in value]
    if kind is int and -_LARGEST <= value <= _LARGEST:
        return value
    if kind is float and value.is_integer() and -_LARGEST <= value <= _LARGEST:
        return int(value)
    if kind is float and 1e-4 <= abs(value) < 1e15:  # outside, the two write exponents differently
        return value
    raise _UnusualError


def read_json(raw: bytes, where: str) -> Any:
    """Parse JSON that can be understood in one way only.

    Raises:
        InvalidInputError: broken JSON or UTF-8, a duplicate key, NaN, Infinity, an overflow.
    """

    def unique(items: list[tuple[str, Any]]) -> dict[str, Any]:
        out = dict(items)
        if len(out) != len(items):
            names = [name for name, _ in items]
            twice = sorted({name for name in names if names.count(name) > 1})
            raise ValueError(f"duplicate key {', '.join(map(repr, twice))}")
        return out

    def constant(name: str) -> None:
        raise ValueError(f"{name} is not JSON")

    def finite(text: str) -> float:
        value = float(text)
        if not math.isfinite(value):
            raise ValueError(f"{text} overflows")
        return value

    try:
        return json.loads(
            raw.decode("utf-8"), object_pairs_hook=unique, parse_constant=constant, parse_float=finite
        )
    except RecursionError:
        raise InvalidInputError(f"{where}: nested too deeply") from None
    except ValueError as error:
        raise InvalidInputError(f"{where}: {error}") from None


def check_schema(found: object, expected: str, where: str) -> None:
    """Refuse a file of another schema than the `expected` one, like `registry/1`.

    Raises:
        InvalidInputError: written by a later program, or something else.
    """
    if found == expected:
        return
    kind = expected.partition("/")[0]
    if isinstance(found, str) and re.fullmatch(rf"{kind}/[1-9]\d*", found):
        raise InvalidInputError(
            f"{where}: its schema {found} is newer than this program, which reads {expected}; "
            "update the project's checkout and run `pip install .` in it"
        )
    raise InvalidInputError(f"{where}: schema {str(found)[:40]!r}, expected {expected!r}")


def explain(error: ValidationError) -> str:
    """Return pydantic's complaints as one line: the field, what is wrong, what was given."""
    parts = []
    for item in error.errors(include_url=False, include_context=False):
        place = ".".join(str(step) for step in item["loc"]) or "record"
        given = item.get("input")
        shown = "" if isinstance(given, dict | list) else f" (got {str(given)[:60]!r})"
        if item["type"] == "extra_forbidden":
            parts.append(f"unknown field {place!r}")
        elif item["type"] == "missing":
            parts.append(f"missing field {place!r}")
        else:
            parts.append(f"{place}: {re.sub(r'^Value error, ', '', item['msg'])}{shown}")
    return "; ".join(parts)


class Record(BaseModel):
    """A frozen, strict record: unknown fields refused, absent fields omitted, never null."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", allow_inf_nan=False)

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON data with absent fields left out."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)

    def to_bytes(self) -> bytes:
        """Return the canonical bytes; `parse(to_bytes())` is this record."""
        return canonical_bytes(self.to_json())

    @classmethod
    def parse(cls, raw: bytes, where: str) -> Self:
        """Read a record from JSON bytes, canonical or not.

        Raises:
            InvalidInputError: not JSON, or not this record; every complaint in one line.
        """
        read_json(raw, where)
        try:
            return cls.model_validate_json(raw)
        except ValidationError as error:
            raise InvalidInputError(f"{where}: {explain(error)}") from None

    @classmethod
    def parse_canonical(cls, raw: bytes, where: str) -> Self:
        """Read a record whose bytes are its identity.

        Raises:
            InvalidInputError: as `parse`, or the bytes are not the canonical ones.
        """
        record = cls.parse(raw, where)
        if record.to_bytes() != raw:
            raise InvalidInputError(
                f"{where}: not canonical JSON (RFC 8785, absent fields omitted); "
                "the file was edited by hand or by another program"
            )
        return record
