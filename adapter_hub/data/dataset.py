"""Data sets: folders of audio beside `metadata.jsonl` or `metadata.csv`, and JSONL files that name audio.

    dataset = read_dataset(Path("english-digits"), split="test")
    dataset = read_dataset(Path("lists/train.jsonl"))
    dataset.rows[0].text, data_sha256(dataset)

Columns of a folder: `file_name` and `text` or `transcription`, optionally `language` (BCP 47), `speaker` and
`domain` (a kind of speech, like `noisy`); others are ignored, so that a Hub "audio folder" can be used
unchanged. A folder may hold its splits as sub-folders (train, dev, test), or as Common Voice does: train.tsv,
dev.tsv and test.tsv (`path`, `sentence`, `client_id`, `locale`) beside the folder `clips`. A JSONL file is
what NeMo and others call a manifest: `audio_filepath` (absolute, or relative to the file), `text` and
`duration` in seconds, optionally `offset` for a part of a long recording, `language` or `lang`, `speaker` and
`domain`.
"""

from __future__ import annotations

import math
import os
import stat
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from adapter_hub.artifact.privacy import plain_name
from adapter_hub.data.clips import Clip, FileClip, SegmentClip
from adapter_hub.data.metadata import MOST_ROWS, records
from adapter_hub.errors import InvalidInputError, NotFoundError, few
from adapter_hub.escaping import shown
from adapter_hub.formats.canonical import sha256_hex
from adapter_hub.speech.limits import RECORDING_BYTES

METADATA = ("metadata.jsonl", "metadata.csv")
SPLITS = ("train", "dev", "validation", "test")
TABLE_SUFFIXES = (".tsv", ".csv")  # of tables that name audio files
TEXTS = ("text", "transcription")  # columns with the reference; the first that is there counts
COMMON_VOICE = {"path": "file_name", "sentence": "text", "client_id": "speaker", "locale": "language"}
LIST_SUFFIXES = (".jsonl", ".json", ".ndjson")  # of files that list audio files
LONGEST_LABEL = 1_000  # characters of a language or speaker
MOST_BAD = 10_000  # rows; after so many the rest is not read
SHOWN = 5  # problems listed in one error
STATED = 0.1, 0.01  # seconds, and share of the duration, by which a stated duration may be wrong


@dataclass(frozen=True)
class Utterance:
    """One row: an audio file and what is said in it.

    Attributes:
        id: unique in the data set; of a folder's row its `file_name`, a relative POSIX path.
        clip: its audio.
        text: the reference, never blank.
        language: BCP 47 tag, or None.
        speaker: any name, or None.
        domain: the kind of speech, any name, or None.
        line: of the metadata file, from 1.
        stated_seconds: the duration that the row states, or None.
    """

    id: str
    clip: Clip
    text: str
    language: str | None = None
    speaker: str | None = None
    line: int = 0
    stated_seconds: float | None = None
    domain: str | None = None

    def check_stated(self, seconds: float) -> None:
        """Compare the duration of the audio with the stated one.

        Args:
            seconds: of the audio.

        Raises:
            InvalidInputError: they differ by more than 0.1 s and 1 %.
        """
        stated = self.stated_seconds
        if stated is not None and abs(seconds - stated) > STATED[0] + STATED[1] * stated:
            raise InvalidInputError(
                f"{self.id}: duration {stated:g} s is stated, but the file holds {seconds:.2f} s; "
                "correct it, or add an offset if a part is meant"
            )

    @property
    def path(self) -> Path:
        """The file that holds the audio."""
        return self.clip.path


@dataclass(frozen=True)
class Dataset:
    """The rows of one split.

    Attributes:
        name: the folder's name, without the path.
        split: `train`, `test`, …, or `all`.
        folder: the folder, or the JSONL file; for messages.
        rows: in order.
        unusable: rows of a data set on the Hub without audio or text: id, and what is missing.
    """

    name: str
    split: str
    folder: Path
    rows: tuple[Utterance, ...]
    unusable: tuple[tuple[str, str], ...] = ()

    @property
    def languages(self) -> tuple[str, ...]:
        """The tags that rows carry, sorted."""
        return tuple(sorted({row.language for row in self.rows if row.language}))


def read_dataset(folder: Path, split: str | None = None) -> Dataset:
    """Read a data set's metadata; audio files are checked to exist, not opened.

    Args:
        folder: the data set, or one split of it, or a JSONL file.
        split: the sub-folder to read; None if `folder` holds the metadata itself.

    Raises:
        NotFoundError: no such folder, file, split or metadata; the message lists the splits that exist.
        InvalidInputError: rows that cannot be used, with their line numbers.
    """
    folder = Path(folder)
    if folder.is_file():
        return _read_list(folder, split)
    if split is not None and (table := split_in(folder, split)) is not None and table.is_file():
        return _read_list(table, None)
    if not folder.is_dir() and folder.suffix in LIST_SUFFIXES:
        raise NotFoundError(f"{folder}: no such file; expected JSONL with audio_filepath, duration and text")
    if not folder.is_dir():
        raise NotFoundError(f"{folder}: no such folder; expected a data set with {' or '.join(METADATA)}")
    place = folder if split is None else folder / split
    found = [place / name for name in METADATA if (place / name).is_file()]
    if not found:
        raise NotFoundError(f"{place}: no {' or '.join(METADATA)}; {_splits_of(folder)}")
    if len(found) > 1:
        raise InvalidInputError(f"{place}: both {' and '.join(METADATA)} exist; remove one of them")
    rows = _read_rows(found[0], _utterance)
    here = place.resolve()
    if split is None and here.name in SPLITS:
        return Dataset(plain_name(here.parent.name, "data"), here.name, place, rows)
    return Dataset(plain_name(folder.resolve().name, "data"), split or "all", place, rows)


def split_in(folder: Path, name: str) -> Path | None:
    """Return where a split of a data set is: a sub-folder or a table; None if it has none of that name.

    Args:
        folder: the data set.
        name: of the split.
    """
    if holds_rows(folder / name):
        return folder / name
    table = folder / f"{name}.tsv"
    return table if table.is_file() else None


def holds_rows(folder: Path) -> bool:
    """Tell whether a folder is one split of a data set.

    Args:
        folder: that may not exist.
    """
    return any((folder / name).is_file() for name in METADATA)


def _read_list(file: Path, split: str | None) -> Dataset:
    if file.suffix not in (*LIST_SUFFIXES, *TABLE_SUFFIXES):
        raise InvalidInputError(
            f"{file}: not a data set; expected a folder, or JSONL ({', '.join(LIST_SUFFIXES)}) or a table "
            f"({', '.join(TABLE_SUFFIXES)})"
        )
    if split not in (None, file.stem):
        raise InvalidInputError(f"{file}: one file is one split; omit the split {split!r}")
    rows = _read_rows(file, _utterance if file.suffix in TABLE_SUFFIXES else _listed_utterance)
    if file.stem in SPLITS:
        return Dataset(plain_name(file.resolve().parent.name, "data"), file.stem, file, rows)
    return Dataset(plain_name(file.stem, "data"), "all", file, rows)


def _splits_of(folder: Path) -> str:
    inside = [p.stem for p in sorted(folder.iterdir()) if holds_rows(p) or p.suffix == ".tsv"]
    return f"splits here: {', '.join(inside)}" if inside else "expected columns file_name and text"


def _read_rows(
    metadata: Path, read: Callable[[Path, int, Mapping[str, Any]], Utterance | str]
) -> tuple[Utterance, ...]:
    problems: list[str] = []
    rows: list[Utterance] = []
    seen: dict[str, int] = {}
    bad, columns = 0, ""
    clips = metadata.parent / "clips"
    place = clips if metadata.suffix == ".tsv" and clips.is_dir() else metadata.parent
    for line, record in records(metadata):
        row = record if isinstance(record, str) else read(place, line, record)
        if not isinstance(row, str) and row.id in seen:
            row = f"{shown(row.id)} is listed twice (first in line {seen[row.id]})"
        if isinstance(row, str):
            bad += 1
            problems += [f"line {line}: {row}"] if bad <= SHOWN else []
            if isinstance(row, _Missing) and not isinstance(record, str) and not columns:
                columns = f"; the columns of the first such row are {few(map(str, record), separator=', ')}"
            if bad == MOST_BAD:
                break  # not a list of audio files
            continue
        seen[row.id] = line
        rows.append(row)
        if len(rows) > MOST_ROWS:
            raise InvalidInputError(f"{metadata}: more than {MOST_ROWS} rows; split the data set")
    if problems:
        raise InvalidInputError(f"{metadata}: {listed(problems, bad)}{columns}")
    if not rows:
        raise InvalidInputError(f"{metadata}: no rows; expected one per audio file")
    return tuple(rows)


def listed(problems: Sequence[str], count: int | None = None) -> str:
    """Return problems as one line, the first few in full and the rest as a number.

    Args:
        problems: the first ones, or all.
        count: of all problems; None for the length of `problems`.
    """
    left = (len(problems) if count is None else count) - SHOWN
    return "; ".join(problems[:SHOWN]) + (f"; and {left} more" if left > 0 else "")


def _utterance(place: Path, line: int, record: Mapping[str, Any]) -> Utterance | str:
    """Return the row of a folder's metadata, or what is wrong with it."""
    if "file_name" not in record and {"path", "sentence"} <= record.keys():
        record = {**record, **{ours: record.get(theirs) for theirs, ours in COMMON_VOICE.items()}}
    name = record.get("file_name")
    text = next((record[column] for column in TEXTS if record.get(column) is not None), None)
    if not isinstance(name, str) or not name:
        return _Missing("no file_name")
    if problem := _line_problem(name):
        return f"{problem} in file_name"
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts:
        return f"file_name {shown(name)!r} is outside the folder"
    if problem := _text_problem(text):
        return (_Missing if text is None else str)(f"{shown(name)}: {problem}")
    if problem := _file_problem(place / path):
        return f"{shown(name)}: {problem}"
    language, speaker, domain = (record.get(label) or None for label in ("language", "speaker", "domain"))
    if problem := _label_problem(language, speaker, domain):
        return f"{shown(name)}: {problem}"
    clip = FileClip(place / path)
    return Utterance(str(path), clip, str(text), language, _text(speaker), line, domain=_text(domain))


def _listed_utterance(place: Path, line: int, record: Mapping[str, Any]) -> Utterance | str:
    """Return the row of a JSONL file, or what is wrong with it."""
    name, text = record.get("audio_filepath"), record.get("text")
    if not isinstance(name, str) or not name:
        return _Missing("no audio_filepath")
    if problem := _line_problem(name):
        return f"{problem} in audio_filepath"
    try:
        path = place / Path(name).expanduser()
    except (RuntimeError, ValueError):
        return f"{shown(name)}: ~ names an unknown user"
    row_id = Path(os.path.relpath(path, place)).as_posix()  # it appears in reports: no path of this machine
    seconds, offset = record.get("duration"), record.get("offset")
    if problem := _text_problem(text):
        return (_Missing if text is None else str)(f"{shown(name)}: {problem}")
    if seconds is not None and not _is_number(seconds, above=0.0):
        return f"{shown(name)}: duration {_brief(seconds)}, expected seconds above 0"
    if problem := _file_problem(path):
        return f"{shown(name)}: {problem}"
    language = record.get("language") or record.get("lang") or None
    speaker, domain = record.get("speaker") or None, _text(record.get("domain") or None)
    if problem := _label_problem(language, speaker, record.get("domain")):
        return f"{shown(name)}: {problem}"
    if offset is None:
        return Utterance(row_id, FileClip(path), str(text), language, _text(speaker), line, seconds, domain)
    if not _is_number(offset, above=-1e-9) or seconds is None:
        given = f"offset {_brief(offset)}, duration {_brief(seconds)}"
        return f"{shown(name)}: {given}, expected seconds in both, offset from 0"
    clip = SegmentClip(path, float(offset), float(seconds))
    part = f"{row_id}@{offset:.12g}+{seconds:.12g}"
    return Utterance(part, clip, str(text), language, _text(speaker), line, domain=domain)


class _Missing(str):
    """What is wrong with a row that lacks a column."""


def _text_problem(text: object) -> str | None:
    """Return what is wrong with a reference."""
    if not isinstance(text, str):
        return "no text"
    if not text.strip():
        return "an empty reference; remove the row or transcribe it"
    problem = _line_problem(text)
    return f"{problem} in the text" if problem else None


def _line_problem(text: str) -> str | None:
    """Return why a text cannot be one line of an error or a report."""
    return "a line break" if "\n" in text or "\r" in text else _character_problem(text)


def _character_problem(text: str) -> str | None:
    """Return why a text cannot be encoded at all: JSON can hold half of a surrogate pair."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        return f"a lone surrogate ({ascii(text[error.start])}, character {error.start + 1})"
    return None


def _label_problem(language: object, speaker: object, domain: object) -> str | None:
    """Return what is wrong with a row's language, speaker or domain."""
    if language is not None and not isinstance(language, str):
        return "language is not text"
    for label, value in (("speaker", speaker), ("domain", domain)):
        if isinstance(value, (dict, list)):
            return f"{label} is neither text nor a number"
    for label, value in (("language", language), ("speaker", _text(speaker)), ("domain", _text(domain))):
        if value is not None and len(value) > LONGEST_LABEL:
            return f"{label} of more than {LONGEST_LABEL} characters"
        if value is not None and (problem := _character_problem(value)):
            return f"{problem} in {label}"
    return None


def _file_problem(path: Path) -> str | None:
    try:
        status = path.stat()
    except ValueError:
        return "a NUL character in its name"
    except FileNotFoundError:
        return "no such audio file"
    except OSError as error:  # a name that is too long, a folder without permission
        return f"cannot be accessed ({error.strerror})"
    if not stat.S_ISREG(status.st_mode):
        return "a folder, pipe or device, not an audio file"
    return f"larger than {RECORDING_BYTES} bytes" if status.st_size > RECORDING_BYTES else None


def _is_number(value: object, above: float) -> bool:
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return False
    try:
        return math.isfinite(value) and value > above
    except OverflowError:  # JSON's integers have no limit
        return False


def _brief(value: object) -> str:
    return type(value).__name__ if isinstance(value, (dict, list)) else shown(repr(value), 40)


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def data_sha256(dataset: Dataset) -> str:
    """Return the digest of a data set's content, to which claims are bound; reads every audio file."""
    return content_sha256((row.clip.sha256(), row.text) for row in dataset.rows)


def content_sha256(rows: Iterable[tuple[str, str]]) -> str:
    """Return the sha256 of the sorted lines "sha256 of the audio's bytes, tab, NFC text, newline".

    Names, order and the metadata's format do not take part.

    Args:
        rows: for every utterance the audio file's sha256 (64 hexadecimal digits) and the text.
    """
    lines = sorted(f"{audio}\t{unicodedata.normalize('NFC', text)}\n".encode() for audio, text in rows)
    return sha256_hex(b"".join(lines))
