"""Small files of JSON that would keep a reader busy for hours, fill the memory, or mean two things."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from adapter_hub.artifact.peft import read_peft
from adapter_hub.artifact.safetensors_file import read_header
from adapter_hub.base_model.digest import weight_files
from adapter_hub.errors import AdapterHubError, IntegrityError, InvalidInputError
from adapter_hub.exchange.importing import base_model_pin
from adapter_hub.formats.canonical import MAXIMUM_NESTING, Count, Record, read_json
from adapter_hub.formats.claims import EvaluationReport
from adapter_hub.formats.lock_file import read_lock
from adapter_hub.formats.manifest import Manifest
from adapter_hub.formats.registry_file import parse_registry
from adapter_hub.stores.claim_files import parse_statuses

LINE = 12_000  # characters: what a message may have at most


@contextmanager
def within(seconds: float) -> Iterator[None]:
    started = time.perf_counter()
    yield
    taken = time.perf_counter() - started
    assert taken < seconds, f"took {taken:.1f} s"


def keys(count: int, *more: str) -> bytes:
    return ("{" + ",".join([f'"k{n}":0' for n in range(count)] + list(more)) + "}").encode()


NOT_ONE_MEANING = {
    "one duplicate among 60 000 keys": (keys(60_000, '"k77":1'), "duplicate key 'k77'"),
    "every key twice": (keys(30_000, *(f'"k{n}":1' for n in range(30_000))), "and 29997 more"),
    "a duplicate with a long name": (b'{"%s":0,"%s":1}' % ((b"a" * 10**6,) * 2), "duplicate key 'aaa"),
    "a duplicate with escapes in it": (b'{"a\\u001b[2J\\n":0,"a\\u001b[2J\\n":1}', r"a\\x1b\[2J\\n'"),
    "900 levels": (b"[" * 900 + b"]" * 900, "nested too deeply"),
    "100 000 levels": (b"[" * 100_000 + b"]" * 100_000, "nested too deeply"),
    "100 000 levels of objects": (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "nested too deeply"),
    "levels that never end": (b"[" * 10**6, "nested too deeply|Expecting value"),
    "levels that close and open": (b"]" * 10**6 + b"[" * 10**6, "Expecting value"),
    "one level too deep": (b"[" * (MAXIMUM_NESTING + 1) + b"]" * (MAXIMUM_NESTING + 1), "nested too deeply"),
    "1e400": (b"[1e400]", "1e400 overflows"),
    "-1e400": (b"[-1e400]", "-1e400 overflows"),
    "a million digits": (b"1" * 10**6, "digits"),
    "a million digits and an exponent": (b"1" * 10**6 + b"e9", "overflows"),
    "NaN": (b'{"a":NaN}', "NaN is not JSON"),
    "Infinity": (b"[-Infinity]", "-Infinity is not JSON"),
    "half a surrogate pair": (b'["\\ud800"]', "half a surrogate pair"),
    "half a surrogate pair as a key": (b'{"\\udfff":1}', "half a surrogate pair"),
    "a string that does not end": (b'["' + b'a\\"' * 10**6, "Unterminated|more than"),
    "no UTF-8": (b'["\xff\xfe"]', "utf-8"),
    "a byte order mark": (b"\xef\xbb\xbf{}", "BOM"),
    "nothing": (b"", "Expecting value"),
}


@pytest.mark.parametrize("case", NOT_ONE_MEANING)
def test_json_that_could_mean_two_things_is_refused_at_once_in_one_line(case: str) -> None:
    raw, message = NOT_ONE_MEANING[case]
    with within(3), pytest.raises(InvalidInputError, match=message) as caught:
        read_json(raw, "theirs.json")
    assert len(str(caught.value)) < 1000
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    "raw",
    [
        b"[" * MAXIMUM_NESTING + b"]" * MAXIMUM_NESTING,
        b'["' + b"[" * 10_000 + b'"]',
        b'["\\"' + b"]," * 10_000 + b'"]',
        b'{"pair": "\\ud83d\\ude00", "n": 1e-400, "whole": 9007199254740993, "minus": -0}',
    ],
    ids=["as deep as may be", "brackets in a text", "brackets after an escaped quote", "odd and sound"],
)
def test_odd_json_that_means_one_thing_is_read(raw: bytes) -> None:
    assert read_json(raw, "theirs.json") == json.loads(raw)


def as_registry(folder: Path, raw: bytes) -> None:
    parse_registry(raw, "registry.json")


def as_manifest(folder: Path, raw: bytes) -> None:
    Manifest.parse_canonical(raw, "adapter.json")


def as_report(folder: Path, raw: bytes) -> None:
    EvaluationReport.parse(raw, "a report")


def as_statuses(folder: Path, raw: bytes) -> None:
    parse_statuses(raw, "status.json")


def as_lock(folder: Path, raw: bytes) -> None:
    (folder / "adapters.lock").write_bytes(raw)
    read_lock(folder / "adapters.lock")


def as_peft_config(folder: Path, raw: bytes) -> None:
    (folder / "adapter_config.json").write_bytes(raw)
    read_peft(folder)


def as_header(folder: Path, raw: bytes) -> None:
    (folder / "x.safetensors").write_bytes(len(raw).to_bytes(8, "little") + raw)
    read_header(folder / "x.safetensors")


READERS: dict[str, Callable[[Path, bytes], None]] = {
    reader.__name__: reader
    for reader in (as_registry, as_manifest, as_report, as_statuses, as_lock, as_peft_config, as_header)
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize(
    "raw",
    [
        keys(60_000, '"k77":1'),
        keys(60_000),
        b"[" * 5000 + b"]" * 5000,
        b'{"adapters":' * 300 + b"1" + b"}" * 300,
        b"[" + b"{}," * 60_000 + b"{}]",
        b"[" + b"0," * 60_000 + b"0]",
        b'{"\x1b[2J":1e999}',
    ],
    ids=["duplicate", "unknown keys", "deep list", "deep objects", "empty objects", "numbers", "overflow"],
)
def test_every_reader_of_json_answers_a_hostile_file_at_once_with_one_line(
    tmp_path: Path, reader: str, raw: bytes
) -> None:
    with within(5), pytest.raises(AdapterHubError, match=".") as caught:
        READERS[reader](tmp_path, raw)
    assert len(str(caught.value)) < LINE
    assert "\n" not in str(caught.value)


def in_little_memory(code: str, megabytes: int) -> str:
    """Run Python with so much address space and return what it says."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (megabytes * 2**20, megabytes * 2**20))

    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        preexec_fn=limit,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-500:]
    return done.stdout


@pytest.mark.parametrize("item", ["[]", "{}", "0", '""', "[[]]"])
def test_forty_megabytes_of_nothing_are_refused_before_they_fill_the_memory(item: str) -> None:
    said = in_little_memory(
        f"""
        from adapter_hub.formats.canonical import read_json
        from adapter_hub.errors import InvalidInputError
        raw = b"[" + b'{item},' * (40 * 2**20 // {len(item) + 1}) + b"0]"
        try:
            read_json(raw, "registry.json")
        except InvalidInputError as error:
            print(error)
        """,
        700,
    )
    assert said == "registry.json: more than 2000000 values, which is the most that is read\n"


class Numbers(Record):
    values: tuple[Count, ...]


def test_of_thousands_of_complaints_ten_are_told_and_the_rest_is_counted() -> None:
    raw = json.dumps({"values": ["x"] * 5000}).encode()
    with pytest.raises(InvalidInputError, match=r"values\.9: .*; … and 4990 more$"):
        Numbers.parse(raw, "numbers.json")
    error = IntegrityError("here", [f"module {n}: wrong" for n in range(5000)], "get it again")
    assert str(error).endswith("module 9: wrong; … and 4990 more; get it again")
    assert len(error.differences) == 1000


def test_what_was_given_is_told_cut_and_escaped() -> None:
    for given in ('"' + "x" * 10**6 + '"', "1" * 4000, '"\\u001b]52;c;\\n"'):
        with pytest.raises(InvalidInputError, match=r"values\.0: ") as caught:
            Numbers.parse(b'{"values":[%s]}' % given.encode(), "numbers.json")
        assert len(str(caught.value)) < 300
        assert str(caught.value).isprintable()


BASE_MODELS = {
    "an index that is a list": ("model.safetensors.index.json", "[]", "expected a JSON object"),
    "an index without a map": ("model.safetensors.index.json", '{"weight_map":[1]}', "names no files"),
    "an index that leads out": (
        "model.safetensors.index.json",
        json.dumps({"weight_map": {str(n): f"../../x{n}\x1b[2J" for n in range(20_000)}}),
        r"names ../../x0\\x1b\[2J, .* and 19990 more, which is missing",
    ),
    "an index of numbers": (
        "model.safetensors.index.json",
        '{"weight_map":{"a":1}}',
        "names 1, which",
    ),
    "architectures that are an object": (
        "config.json",
        '{"architectures":{"a":1}}',
        "architectures is ",
    ),
    "architectures that are numbers": (
        "config.json",
        '{"architectures":[1]}',
        "architectures is .1.",
    ),
    "a config nested deep": ("config.json", "[" * 5000 + "]" * 5000, "nested too deeply"),
    "a config of 60 000 keys, one twice": (
        "config.json",
        keys(60_000, '"k1":1').decode(),
        "duplicate key 'k1'",
    ),
}


@pytest.mark.parametrize("what", BASE_MODELS)
def test_a_malformed_base_model_folder_is_refused_in_one_line(tmp_path: Path, what: str) -> None:
    name, text, message = BASE_MODELS[what]
    (tmp_path / "config.json").write_text('{"model_type":"whisper"}', encoding="utf-8")
    (tmp_path / name).write_text(text, encoding="utf-8")
    with within(3), pytest.raises(AdapterHubError, match=message) as caught:
        weight_files(tmp_path) if "index" in name else base_model_pin(tmp_path, "test/tiny")
    assert len(str(caught.value)) < 2000
    assert str(caught.value).isprintable()


def test_the_largest_report_that_is_read_takes_a_known_amount_of_memory(tmp_path: Path) -> None:
    counts = {"hits": 1, "substitutions": 0, "deletions": 0, "insertions": 0}
    row = {"id": "1", "audio_sha256": "0" * 64, "seconds": 1.0, "language": "da", "words": counts}
    row |= {"characters": counts, "reference": "a" * 200, "hypothesis": "a" * 200}
    raw = b"[" + b",".join([json.dumps(row, separators=(",", ":")).encode()] * 15_000) + b"]"
    (tmp_path / "rows.json").write_bytes(raw)
    said = in_little_memory(
        f"""
        from pydantic import TypeAdapter
        from adapter_hub.formats.canonical import check_json
        from adapter_hub.formats.claims import UtteranceRow
        raw = open({str(tmp_path / "rows.json")!r}, "rb").read()
        check_json(raw, "rows")
        print(len(TypeAdapter(tuple[UtteranceRow, ...]).validate_json(raw)))
        """,
        450,
    )
    assert said == "15000\n"


def test_no_message_is_longer_than_a_page() -> None:
    assert len(str(IntegrityError("x" * 10**6, ["y" * 10**6] * 100))) < LINE
    assert len(str(InvalidInputError("x" * 10**6))) < LINE
