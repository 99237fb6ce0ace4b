"""Data sets as folders: both forms of metadata, splits, the digest, and errors with line numbers."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from small_whisper import write_speech

from adapter_hub.data.dataset import data_sha256, read_dataset
from adapter_hub.errors import AdapterHubError


def write_jsonl(folder: Path, rows: list[Any]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for i, name in enumerate(("a.wav", "b.wav")):
        write_speech(folder / name, seed=i)
    lines = [row if isinstance(row, str) else json.dumps(row, ensure_ascii=False) for row in rows]
    (folder / "metadata.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


GOOD = [
    {"file_name": "a.wav", "text": "én", "speaker": "anna", "other": 1},
    {"file_name": "b.wav", "text": "to", "language": "da"},
]


def test_rows_come_with_their_columns_and_other_columns_are_left_alone(tmp_path: Path) -> None:
    dataset = read_dataset(write_jsonl(tmp_path / "numbers", GOOD))
    first, second = dataset.rows
    assert (first.id, first.text, first.speaker, first.language, first.line) == (
        "a.wav",
        "én",
        "anna",
        None,
        1,
    )
    assert (second.text, second.speaker, second.language) == ("to", None, "da")
    assert (dataset.name, dataset.split, dataset.languages) == ("numbers", "all", ("da",))


def test_csv_and_jsonl_of_one_content_have_one_digest(tmp_path: Path) -> None:
    jsonl = write_jsonl(tmp_path / "jsonl", GOOD)
    table = write_jsonl(tmp_path / "csv", GOOD)
    (table / "metadata.jsonl").unlink()
    (table / "metadata.csv").write_text("file_name,text\nb.wav,to\na.wav,e\u0301n\n", encoding="utf-8-sig")
    assert data_sha256(read_dataset(table)) == data_sha256(read_dataset(jsonl))


def test_the_digest_is_of_the_sorted_lines_of_audio_hash_and_nfc_text(tmp_path: Path) -> None:
    folder = write_jsonl(tmp_path, GOOD)
    hashes = [hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in ("a.wav", "b.wav")]
    lines = sorted(f"{hash_}\t{text}\n" for hash_, text in zip(hashes, ("én", "to"), strict=True))
    assert data_sha256(read_dataset(folder)) == hashlib.sha256("".join(lines).encode()).hexdigest()


def test_splits_are_sub_folders_and_can_be_named_either_way(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "numbers" / "test", GOOD)
    by_name = read_dataset(tmp_path / "numbers", "test")
    by_path = read_dataset(tmp_path / "numbers" / "test")
    assert (by_name.name, by_name.split) == (by_path.name, by_path.split) == ("numbers", "test")
    with pytest.raises(AdapterHubError, match=r"dev: no metadata\.jsonl or metadata\.csv; splits here: test"):
        read_dataset(tmp_path / "numbers", "dev")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"text": "to"}, "line 2: no file_name"),
        ({"file_name": "b.wav"}, r"line 2: b\.wav: no text"),
        ({"file_name": "b.wav", "text": "  "}, r"line 2: b\.wav: an empty reference"),
        ({"file_name": "b.wav", "text": "to\ntre"}, r"line 2: b\.wav: a line break"),
        ({"file_name": "c.wav", "text": "to"}, r"line 2: c\.wav: no such audio file"),
        ({"file_name": "../b.wav", "text": "to"}, r"line 2: file_name '\.\./b\.wav' is outside the folder"),
        ({"file_name": "/etc/passwd", "text": "to"}, "line 2: file_name '/etc/passwd' is outside the folder"),
        ({"file_name": "a.wav", "text": "to"}, r"line 2: a\.wav is listed twice \(first in line 1\)"),
        ("{broken", r"line 2: not JSON \("),
        ("[1]", "line 2: not a JSON object"),
        ("[" * 200_000, r"line 2: not JSON \(nested too deeply\)"),
        (
            r'{"file_name": "b.wav", "text": "t\ud800o"}',
            r"line 2: b\.wav: a lone surrogate \('\\ud800', character 2\) in the text",
        ),
        (
            r'{"file_name": "b.wav", "text": "to", "speaker": "\udc80"}',
            r"b\.wav: a lone surrogate .* in speaker",
        ),
        (r'{"file_name": "b.wav", "text": "to", "language": "\udc80"}', "a lone surrogate .* in language"),
        ({"file_name": "b.wav", "text": "to", "domain": ["a"]}, "domain is neither text nor a number"),
        ({"file_name": "b.wav", "text": "to", "domain": "a" * 1001}, "domain of more than 1000 characters"),
        (r'{"file_name": "\udc80.wav", "text": "to"}', r"line 2: a lone surrogate .* in file_name"),
        ({"file_name": "b.wav\nc.wav", "text": "to"}, "line 2: a line break in file_name"),
        ({"file_name": "b" * 300, "text": "to"}, "line 2: b+: (cannot be accessed|no such audio file)"),
    ],
)
def test_a_bad_row_is_refused_with_its_line(tmp_path: Path, row: Any, message: str) -> None:
    folder = write_jsonl(tmp_path, [GOOD[0], row])
    with pytest.raises(AdapterHubError, match=message):
        read_dataset(folder)


def test_all_bad_rows_are_told_at_once_and_the_many_as_a_number(tmp_path: Path) -> None:
    folder = write_jsonl(tmp_path, [{"file_name": f"{i}.wav", "text": "to"} for i in range(8)])
    with pytest.raises(AdapterHubError, match=r"line 1: 0\.wav.*line 5: 4\.wav.*; and 3 more"):
        read_dataset(folder)


@pytest.mark.parametrize(
    ("prepare", "message"),
    [
        (lambda folder: None, r"no metadata\.jsonl or metadata\.csv; expected columns file_name and text"),
        (lambda folder: (folder / "metadata.jsonl").write_text(""), "no rows; expected one per audio file"),
        (lambda folder: (folder / "metadata.jsonl").write_bytes(b"\xff\xfe"), "not UTF-8"),
        (
            lambda folder: [(folder / f"metadata.{kind}").write_text("") for kind in ("jsonl", "csv")],
            "both metadata.jsonl and metadata.csv",
        ),
        (
            lambda folder: (folder / "metadata.csv").write_text("path,transcript\na.wav,to\n"),
            "line 2: no file_name",
        ),
        (
            lambda folder: (folder / "metadata.csv").write_text(
                'file_name,text\na.wav,"to\n' + "b.wav,tre\n" * 20_000
            ),
            r"metadata\.csv: .*line 2: not CSV \(field larger .*\); is a quote left open\?",
        ),
    ],
)
def test_bad_metadata_is_refused(tmp_path: Path, prepare: Any, message: str) -> None:
    prepare(tmp_path)
    with pytest.raises(AdapterHubError, match=message):
        read_dataset(tmp_path)


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AdapterHubError, match=r"absent: no such folder; expected a data set"):
        read_dataset(tmp_path / "absent")
