"""Lists of audio, parquet files, cards and recipes that somebody else wrote: a bad row is its own fault."""

from __future__ import annotations

import io
import time
from pathlib import Path
from typing import Any

import pytest
from hub_speech import parquet, rows_of_speech
from small_whisper import write_speech

from adapter_hub.cards.front_matter import read_front_matter
from adapter_hub.data.dataset import read_dataset
from adapter_hub.data.hub_layout import find_shards
from adapter_hub.data.parquet_shard import read_rows, unpack
from adapter_hub.errors import AdapterHubError, InvalidInputError
from adapter_hub.trainers.recipe import RecipeFile, read_recipe

ROWS: dict[str, tuple[bytes, str]] = {
    "an absolute path": (
        b'{"file_name":"/etc/passwd","text":"a"}',
        "line 1: file_name '/etc/passwd' is outside",
    ),
    "a path upwards": (b'{"file_name":"x/../../y","text":"a"}', "is outside the folder"),
    "a NUL": (b'{"file_name":"a\\u0000.wav","text":"a"}', "a NUL character in its name"),
    "an escape": (b'{"file_name":"\\u001b[2J","text":"a"}', r"line 1: \\x1b\[2J: no such audio file"),
    "a line of 3 MB": (b'{"file_name":"' + b"a" * 3_000_000 + b'"}', "line 1: longer than 1048576 bytes"),
    "deep nesting": (b"[" * 100_000, "line 1: not JSON .nested too deeply"),
    "a deep speaker": (
        b'{"file_name":"a.wav","text":"a","speaker":' + b"[" * 500 + b"]" * 500 + b"}",
        "line 1: a.wav: speaker is neither text nor a number",
    ),
    "5000 digits": (b'{"file_name":"a.wav","text":"a","speaker":' + b"1" * 5000 + b"}", "line 1: not JSON"),
    "a number as text": (b'{"file_name":"a.wav","text":1}', "line 1: a.wav: no text"),
    "a list as language": (b'{"file_name":"a.wav","text":"a","language":[1]}', "language is not text"),
    "a folder": (b'{"file_name":".","text":"a"}', "a folder, pipe or device, not an audio file"),
}


@pytest.mark.parametrize("sentence", ROWS)
def test_a_bad_row_is_told_with_its_line_and_the_lines_after_it_are_read(
    sentence: str, tmp_path: Path
) -> None:
    row, message = ROWS[sentence]
    write_speech(tmp_path / "a.wav", 0.5)
    (tmp_path / "metadata.jsonl").write_bytes(row + b'\n{"file_name":"none.wav","text":"a"}\n')
    with pytest.raises(InvalidInputError, match=message) as caught:
        read_dataset(tmp_path)
    assert "line 2: none.wav: no such audio file" in str(caught.value)
    assert len(str(caught.value)) < 1000


def unpacked(content: bytes, folder: Path) -> list[dict[str, Any]]:
    (folder / "x.parquet").write_bytes(content)
    (folder / "out").mkdir()
    unpack(folder / "x.parquet", folder / "out", "audio", "x.parquet")
    return read_rows(folder / "out")[1]


def table(kind: Any, rows: list[Any]) -> bytes:
    pyarrow = pytest.importorskip("pyarrow", reason="needs the extra [data]")
    from pyarrow import parquet as writer

    data = io.BytesIO()
    columns = {"audio": pyarrow.array(rows, type=kind), "transcription": ["a"] * len(rows)}
    writer.write_table(pyarrow.table(columns), data, compression="zstd")
    return data.getvalue()


def audio_struct(path: str) -> Any:
    pyarrow = pytest.importorskip("pyarrow", reason="needs the extra [data]")
    return pyarrow.struct([("bytes", pyarrow.binary()), ("path", getattr(pyarrow, path)())])


@pytest.mark.parametrize(("size", "count"), [(2**20, 768), (100 * 2**20, 2)])
def test_a_thousand_bytes_do_not_become_a_gigabyte(size: int, count: int, tmp_path: Path) -> None:
    content = table(audio_struct("string"), [{"bytes": bytes(size), "path": "a"}] * count)
    assert len(content) < 10_000
    with pytest.raises(InvalidInputError, match="unpack to more than 67108864|expected up to 67108864"):
        unpacked(content, tmp_path)
    assert (tmp_path / "out" / "audio").stat().st_size <= 2**26


@pytest.mark.parametrize("kind", ["binary", "int32", "bool_", "large_string", "null"])
def test_a_name_of_another_type_is_no_name(kind: str, tmp_path: Path) -> None:
    (row,) = unpacked(table(audio_struct(kind), [{"bytes": b"x", "path": None}]), tmp_path)
    assert (row["path"], row["size"], row["columns"]) == ("", 1, {"transcription": "a"})


def test_damaged_parquet_is_one_line_and_never_ends_the_process(tmp_path: Path) -> None:
    import random

    whole, drawn = parquet(rows_of_speech(3)), random.Random(1)
    told = []
    for number in range(40):
        damaged = bytearray(whole)
        for _ in range(3):
            damaged[drawn.randrange(len(damaged) - 1500, len(damaged))] = drawn.randrange(256)
        folder = tmp_path / str(number)
        folder.mkdir()
        try:
            unpacked(bytes(damaged), folder)
        except AdapterHubError as error:
            told.append(str(error))
    assert told
    assert all(line.startswith("x.parquet: ") and "\n" not in line for line in told)


@pytest.mark.parametrize(
    "matter", ["a: " + "[" * 200_000, "a: 2024-99-99", "? {a: b}\n: c", "a: " + "1" * 5000, "- &a b\n" * 9000]
)
def test_a_hostile_card_is_no_card(matter: str) -> None:
    assert read_front_matter(f"---\n{matter}\n---\n") == {}


def test_patterns_of_a_card_stay_quick() -> None:
    paths = [f"d/train-{i:05d}-of-99999.parquet" for i in range(200)]
    began = time.monotonic()
    for pattern in ("*" * 50 + "*b" * 40, "**/" * 50 + "[a-" * 20):
        find_shards("x", paths, {"configs": [{"data_files": pattern}]}, None, "train")
    assert time.monotonic() - began < 20
    for odd in ({"configs": {"a": 1}}, {"configs": [1, {"data_files": [1, {"split": [], "path": [[1]]}]}]}):
        assert find_shards("x", paths, odd, None, "train")[1] == paths


RECIPES = {
    "a key of 100 000 dots": "a" + ".a" * 100_000 + " = 1",
    "quoted keys": '"a b"' + '."a b"' * 50_000 + " = 1",
    "a heading of dots": "[a" + ".a" * 100_000 + "]",
    "deep lists": "a = " + "[" * 100_000,
    "deep tables": "a = " + "{a=" * 100_000,
    "5000 digits": "a = " + "1" * 5000,
    "50 000 keys": "".join(f"k{i} = 1\n" for i in range(50_000)),
    "a long key": "k" * 500_000 + " = 1",
    "no UTF-8": b"\xff\xfe",
    "too large": "#" * 2_000_000,
}


@pytest.mark.parametrize("sentence", RECIPES)
def test_a_hostile_recipe_is_one_line_at_once(sentence: str, tmp_path: Path) -> None:
    text, path = RECIPES[sentence], tmp_path / "r.toml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    began = time.monotonic()
    with pytest.raises(InvalidInputError, match=r"r\.toml") as caught:
        read_recipe(path)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 1000
    assert time.monotonic() - began < 15


@pytest.mark.parametrize(("path", "message"), [("~nosuchuser/a", "~ names an unknown user"), ("a\0b", "NUL")])
def test_a_path_that_cannot_be_is_one_line(path: str, message: str, tmp_path: Path) -> None:
    file = RecipeFile(None, "", tmp_path)  # type: ignore[arg-type]
    with pytest.raises(InvalidInputError, match=message):
        file.resolve(path)
