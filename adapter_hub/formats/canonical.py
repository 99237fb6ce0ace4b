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
from collections import Counter
from collections.abc import Callable
from typing import Annotated, Any, ClassVar, Self, get_args

import rfc8785
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from adapter_hub.errors import InvalidInputError, NewerFormatError, few
from adapter_hub.escaping import shown
from adapter_hub.files.reading import check_content
from adapter_hub.formats.reference import DIGEST_PATTERN
from adapter_hub.formats.times import TIME_PATTERN, check_time

_LARGEST = 2**53 - 1  # the largest integer that every reader of JSON keeps exact
MAXIMUM_VALUES = 2_000_000  # in a file of JSON: at worst some 250 MB of memory
MAXIMUM_KEYS = 10_000  # of one object in a record
MAXIMUM_NESTING = 64  # levels; our records have six, other people's files ten
MAXIMUM_TEXT = 4096  # characters of a field that is not a document
_STRING = re.compile(rb'"(?:[^"\\]++|\\.)*+"?', re.DOTALL)  # an unfinished one goes to the end
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
_AS_SQUARE = bytes.maketrans(b"{}", b"[]")
_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))

Digest = Annotated[str, StringConstraints(pattern=f"^{DIGEST_PATTERN}$")]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
UtcTime = Annotated[str, StringConstraints(pattern=f"^{TIME_PATTERN}$"), AfterValidator(check_time)]
Count = Annotated[int, Field(ge=0, lt=2**53)]
Text = Annotated[str, StringConstraints(min_length=1, max_length=MAXIMUM_TEXT)]


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

    Args:
        value: texts, numbers, true, false, None, and lists and mappings of these.

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


def read_json(raw: bytes, where: str, *, values: int = MAXIMUM_VALUES, half_pairs: bool = False) -> Any:
    """Parse JSON that can be understood in one way only, of bounded size in memory.

    Args:
        raw: the file's bytes.
        where: what messages call it.
        values: the most that it may hold, which bounds the memory that it takes: the bytes alone do not,
            as an empty list is two of them and 56 in memory.
        half_pairs: let half a surrogate pair through, for a reader that judges each entry by itself.

    Raises:
        InvalidInputError: broken JSON or UTF-8, a duplicate key, NaN, Infinity, an overflow, half a
            surrogate pair, too many values, nested too deeply.
    """
    return _parsed(raw, where, values, _unique, half_pairs)


def check_json(raw: bytes, where: str, *, values: int = MAXIMUM_VALUES, keys: int = MAXIMUM_KEYS) -> None:
    """Check that JSON can be understood in one way only, without keeping it; see `read_json`.

    Args:
        raw: the file's bytes.
        where: what messages call it.
        values: the most that it may hold.
        keys: the most that one object may hold.

    Raises:
        InvalidInputError: as `read_json`, or an object has too many keys.
    """

    def forget(items: list[tuple[str, Any]]) -> None:
        if len(items) > keys:
            raise ValueError(f"an object of {len(items)} keys, expected at most {keys}")
        _unique(items)

    _parsed(raw, where, values, forget)


def _parsed(
    raw: bytes,
    where: str,
    values: int,
    hook: Callable[[list[tuple[str, Any]]], Any],
    half_pairs: bool = False,
) -> Any:
    check_content(raw, where)
    if problem := _structure_problem(raw, values):
        raise InvalidInputError(f"{where}: {problem}")
    try:
        value = json.loads(
            raw.decode("utf-8"), object_pairs_hook=hook, parse_constant=_no_constant, parse_float=_finite
        )
        if not half_pairs and _SURROGATE.search(raw):
            json.dumps(value, ensure_ascii=False).encode("utf-8")
    except RecursionError:
        raise InvalidInputError(f"{where}: nested too deeply") from None
    except UnicodeEncodeError:
        raise InvalidInputError(f"{where}: holds half a surrogate pair, which is not text") from None
    except ValueError as error:
        raise InvalidInputError(f"{where}: {shown(error)}") from None
    return value


def _structure_problem(raw: bytes, values: int) -> str:
    """Return why this is too much to parse: values and nesting are counted before any is made."""
    opened = raw.count(b"[") + raw.count(b"{")
    if opened <= MAXIMUM_NESTING and opened + raw.count(b",") < values:
        return ""
    too_many = f"more than {values} values, which is the most that is read"
    if raw.count(b'"') > 4 * values:  # a name and a text for each
        return too_many
    bare = _STRING.sub(b"", raw)
    brackets = bare.translate(_AS_SQUARE, _NO_BRACKETS)
    if bare.count(b",") + len(brackets) // 2 >= values:
        return too_many
    for _ in range(MAXIMUM_NESTING):  # each round takes the innermost level away
        inner = brackets.replace(b"[]", b"")
        if len(inner) == len(brackets):
            return ""  # all are gone, or they do not match, which the parser says better
        brackets = inner
    return "nested too deeply" if b"[]" in brackets else ""


def _unique(items: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(items)
    if len(found) != len(items):
        counts = Counter(name for name, _ in items)
        twice = sorted(name for name, count in counts.items() if count > 1)
        names = few((f"'{shown(name, 60)}'" for name in twice), separator=", ", most=3)
        raise ValueError(f"duplicate key {names}")
    return found


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{shown(text, 40)} overflows")
    return value


def check_schema(found: object, expected: str, where: str) -> None:
    """Refuse a file of another schema than the `expected` one, like `registry/1`.

    Args:
        found: what the file has as its `schema`.
        expected: what this program reads, like `registry/1`.
        where: what messages call the file.

    Raises:
        NewerFormatError: written by a later program. InvalidInputError: something else.
    """
    if found == expected:
        return
    refuse_newer(found, expected, where)
    raise InvalidInputError(f"{where}: schema {shown(found, 40)!r}, expected {expected!r}")


def refuse_newer(found: object, expected: str, where: str) -> None:
    """Refuse a file of a later schema of the same kind; anything else is let through.

    Args:
        found: what the file has as its `schema`.
        expected: what this program reads, like `registry/1`.
        where: what messages call the file.

    Raises:
        NewerFormatError: with how to upgrade.
    """
    later = re.escape(expected.partition("/")[0]) + r"/[1-9]\d{0,9}"
    if found != expected and isinstance(found, str) and re.fullmatch(later, found):
        raise NewerFormatError(
            f"{where}: its schema {found} is newer than this program, which reads {expected}; "
            "update the project's checkout and run `pip install .` in it"
        )


def explain(error: ValidationError) -> str:
    """Return pydantic's complaints as one line: the field, what is wrong, what was given.

    Args:
        error: of validating a record.
    """
    return few(map(_complaint, error.errors(include_url=False, include_context=False)))


def _complaint(item: Any) -> str:
    place = shown(".".join(str(step) for step in item["loc"]) or "record", 120)
    if item["type"] == "extra_forbidden":
        return f"unknown field '{place}'"
    if item["type"] == "missing":
        return f"missing field '{place}'"
    given = item.get("input")
    got = "" if isinstance(given, dict | list | tuple) else f" (got '{shown(_cut(given), 60)}')"
    return f"{place}: {item['msg'].removeprefix('Value error, ')}{got}"


def _cut(value: object) -> str:
    """Return the text of a value; an integer may have more digits than Python will write."""
    return (
        f"an integer of {value.bit_length()} bits"
        if type(value) is int and abs(value) > 10**60
        else str(value)
    )


class Record(BaseModel):
    """A frozen, strict record: unknown fields refused, absent fields omitted, never null."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", allow_inf_nan=False)
    values_read: ClassVar[int] = 200_000  # the most that a file of this kind may hold
    keys_read: ClassVar[int] = MAXIMUM_KEYS  # the most that an object in it may have

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON data with absent fields left out."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)

    def to_bytes(self) -> bytes:
        """Return the canonical bytes; `parse(to_bytes())` is this record."""
        return canonical_bytes(self.to_json())

    @classmethod
    def parse(cls, raw: bytes, where: str) -> Self:
        """Read a record from JSON bytes, canonical or not.

        Args:
            raw: the file's bytes.
            where: what messages call it.

        Raises:
            NewerFormatError: a later program wrote it.
            InvalidInputError: not JSON, or not this record; every complaint in one line.
        """
        check_json(raw, where, values=cls.values_read, keys=cls.keys_read)
        try:
            return cls.model_validate_json(raw)
        except ValidationError as error:
            if (field := cls.model_fields.get("schema_")) is not None:
                tree = json.loads(raw)
                found = tree.get("schema") if isinstance(tree, dict) else None
                refuse_newer(found, get_args(field.annotation)[0], where)
            raise InvalidInputError(f"{where}: {explain(error)}") from None

    @classmethod
    def parse_canonical(cls, raw: bytes, where: str) -> Self:
        """Read a record whose bytes are its identity.

        Args:
            raw: the file's bytes.
            where: what messages call it.

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
