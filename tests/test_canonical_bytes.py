"""Canonical bytes: the fast way and the reference implementation never differ."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
import rfc8785

from adapter_hub.errors import InvalidInputError
from adapter_hub.formats.canonical import canonical_bytes, read_json

STRINGS = [
    "",
    "a",
    "é",
    "ø",
    "zażółć",
    "零一二",
    "😀",
    "\u2028",
    "\x7f",
    "\x00",
    '"\\/',
    "\b\f\n\r\t",
    "\x1f",
]
NUMBERS = [
    0,
    -1,
    2**53 - 1,
    0.5,
    -0.0,
    1.0,
    1e-4,
    9.9e-5,
    1e-7,
    1e15,
    1e15 + 0.5,
    1e16,
    1e21,
    1e300,
    1 / 3,
    5e-324,
]


def anything(generator: random.Random, depth: int = 0, largest: int = 22) -> Any:
    kind = generator.choice(
        ["text", "number", "float", "constant", "list", "object"][: 4 if depth > 3 else 6]
    )
    if kind == "text":
        return generator.choice(STRINGS) + generator.choice(STRINGS)
    if kind == "number":
        return generator.choice([number for number in NUMBERS if number < 10**largest])
    if kind == "float":
        return generator.uniform(-1, 1) * 10.0 ** generator.randint(-12, largest)
    if kind == "constant":
        return generator.choice([True, False, None])
    items = [anything(generator, depth + 1, largest) for _ in range(generator.randint(0, 4))]
    return items if kind == "list" else {generator.choice(STRINGS) + str(i): v for i, v in enumerate(items)}


def test_the_bytes_are_those_of_the_reference_implementation() -> None:
    generator = random.Random(8785)
    for _ in range(20_000):
        value = anything(generator)
        assert canonical_bytes(value) == rfc8785.dumps(value)


@pytest.mark.parametrize("value", [*STRINGS, *NUMBERS], ids=repr)
def test_every_edge_case_alone_and_as_a_key(value: Any) -> None:
    for whole in (value, [value], {str(value): value, "b": 1, "A": 2}):
        assert canonical_bytes(whole) == rfc8785.dumps(whole)


def test_reading_and_writing_again_gives_the_same_bytes() -> None:
    generator = random.Random(1)
    for _ in range(2_000):
        raw = canonical_bytes(anything(generator, largest=14))  # from 2**53 a float reads as an integer
        assert canonical_bytes(read_json(raw, "here")) == raw


@pytest.mark.parametrize(
    "value", [2**53, -(2**53), float("nan"), float("inf"), "\ud800", {"\ud800": 1}], ids=repr
)
def test_what_has_no_canonical_form_is_refused(value: Any) -> None:
    with pytest.raises(InvalidInputError, match="no canonical JSON for this value"):
        canonical_bytes([value])


def test_an_integral_float_is_written_without_a_point_as_the_standard_asks() -> None:
    assert canonical_bytes({"scaling": 2.0}) == b'{"scaling":2}'
    assert json.dumps(2.0) == "2.0"
