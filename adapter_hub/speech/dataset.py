"""Data sets as folders: audio files beside `metadata.jsonl` or `metadata.csv`.

    dataset = read_dataset(Path("english-digits"), split="test")
    dataset.rows[0].text, data_sha256(dataset)

Columns: `file_name` and `text`, optionally `language` (BCP 47) and `speaker`; others are left alone, so
that a Hub "audio folder" works as it is. A folder may hold its splits as sub-folders (train, dev, test).
"""

from __future__ import annotations

import csv
import io
import json
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from adapter_hub.canonical import sha256_hex
from adapter_hub.errors import InvalidInputError, NotFoundError
from adapter_hub.speech.clips import Clip, FileClip

METADATA = ("metadata.jsonl", "metadata.csv")
SPLITS = ("train", "dev", "validation", "test")
SHOWN = 5  # problems listed in one error


@dataclass(frozen=True)
class Utterance:
    """One row: an audio file and what is said in it.

    Attributes:
        id: `file_name` of the row, a relative POSIX path; unique in the data set.
        clip: its audio.
        text: the reference, never blank.
        language: BCP 47 tag, or None.
        speaker: any name, or None.
        line: where the row stands in the metadata file, from 1.
    """

    id: str
    clip: Clip
    text: str
    language: str | None = None
    speaker: str | None = None
    line: int = 0

    @property
    def path(self) -> Path:
        """The file that holds the audio."""
        return self.clip.path


@dataclass(frozen=True)
class Dataset:
    """The rows of one split; `name` is the folder's name, without the path."""

    name: str
    split: str
    folder: Path
    rows: tuple[Utterance, ...]

    @property
    def languages(self) -> tuple[str, ...]:
        """The tags that rows carry, sorted."""
        return tuple(sorted({row.language for row in self.rows if row.language}))


def read_dataset(folder: Path, split: str | None = None) -> Dataset:
    """Read a data set's metadata; audio files are checked to exist, not opened.

    Args:
        folder: the data set, or one split of it.
        split: the sub-folder to read; None if `folder` holds the metadata itself.

    Raises:
        NotFoundError: no such folder, split or metadata; the message lists the splits that exist.
        InvalidInputError: rows that cannot be used, with their line numbers.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise NotFoundError(f"{folder}: no such folder; expected a data set with {' or '.join(METADATA)}")
    place = folder if split is None else folder / split
    found = [place / name for name in METADATA if (place / name).is_file()]
    if not found:
        raise NotFoundError(f"{place}: no {' or '.join(METADATA)}; {_splits_of(folder)}")
    if len(found) > 1:
        raise InvalidInputError(f"{place}: both {' and '.join(METADATA)}; keep the one that is right")
    rows = _read_rows(place, found[0])
    here = place.resolve()
    if split is None and here.name in SPLITS:
        return Dataset(here.parent.name, here.name, place, rows)
    return Dataset(folder.resolve().name, split or "all", place, rows)


def _splits_of(folder: Path) -> str:
    inside = [p.name for p in sorted(folder.iterdir()) if any((p / name).is_file() for name in METADATA)]
    return f"splits here: {', '.join(inside)}" if inside else "expected columns file_name and text"


def _read_rows(place: Path, metadata: Path) -> tuple[Utterance, ...]:
    problems: list[str] = []
    rows: list[Utterance] = []
    seen: dict[str, int] = {}
    for line, record in _records(metadata):
        row = record if isinstance(record, str) else _utterance(place, line, record)
        if isinstance(row, str):
            problems.append(f"line {line}: {row}")
        elif row.id in seen:
            problems.append(f"line {line}: {row.id} again (first in line {seen[row.id]})")
        else:
            seen[row.id] = line
            rows.append(row)
    if problems:
        raise InvalidInputError(f"{metadata}: {listed(problems)}")
    if not rows:
        raise InvalidInputError(f"{metadata}: no rows; expected one per audio file")
    return tuple(rows)


def listed(problems: list[str]) -> str:
    """Return problems as one line, the first few in full and the rest as a number."""
    more = f"; and {len(problems) - SHOWN} more" if len(problems) > SHOWN else ""
    return "; ".join(problems[:SHOWN]) + more


def _records(metadata: Path) -> Iterator[tuple[int, Mapping[str, Any] | str]]:
    """Yield the line number and the record, or a complaint in its place."""
    try:
        text = metadata.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidInputError(f"{metadata}: not UTF-8 (byte {error.start})") from None
    if metadata.suffix == ".csv":
        reader = csv.DictReader(io.StringIO(text, newline=""))
        for record in reader:
            yield reader.line_num, record
        return
    for line, raw in enumerate(text.split("\n"), 1):
        if not raw.strip():
            continue
        try:
            value = json.loads(raw)
        except ValueError as error:
            yield line, f"no JSON ({error})"
            continue
        yield line, value if isinstance(value, dict) else "no JSON object"


def _utterance(place: Path, line: int, record: Mapping[str, Any]) -> Utterance | str:
    """Return the row, or what is wrong with it."""
    name, text = record.get("file_name"), record.get("text")
    if not isinstance(name, str) or not name:
        return "no file_name"
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts:
        return f"file_name {name!r} leaves the folder"
    if not isinstance(text, str):
        return f"{name}: no text"
    if not text.strip():
        return f"{name}: an empty reference; remove the row or transcribe it"
    if "\n" in text or "\r" in text:
        return f"{name}: a line break in the text"
    if not (place / path).is_file():
        return f"{name}: no such audio file"
    language, speaker = record.get("language") or None, record.get("speaker") or None
    if language is not None and not isinstance(language, str):
        return f"{name}: language is no text"
    speaker = None if speaker is None else str(speaker)
    return Utterance(str(path), FileClip(place / path), text, language, speaker, line)


def data_sha256(dataset: Dataset) -> str:
    """Return what binds a claim to the content of a data set; reads every audio file's bytes."""
    return content_sha256((row.clip.sha256(), row.text) for row in dataset.rows)


def content_sha256(rows: Iterable[tuple[str, str]]) -> str:
    """Return the sha256 of the sorted lines "sha256 of the audio's bytes, tab, NFC text, newline".

    Names, order and the metadata's format do not take part.

    Args:
        rows: for every utterance the audio file's sha256 (64 hexadecimal digits) and the text.
    """
    lines = sorted(f"{audio}\t{unicodedata.normalize('NFC', text)}\n".encode() for audio, text in rows)
    return sha256_hex(b"".join(lines))
