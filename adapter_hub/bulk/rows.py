"""The rows of a bulk job: recordings of a folder, of a list, or of parquet files.

    rows = read_rows(Path("list.jsonl"))
    rows[0].id, rows[0].audio, rows[0].model, rows[0].columns

A list is JSONL, CSV or tab-separated values. Each of its rows names a file in the column `audio` (or
`audio_filepath`, `file_name`, `path`), relative to the list, and optionally `id`, `language` and `model`;
with `offset` and `duration` in seconds it is a part of the file. All else is carried through. A list that
cannot be meant is refused as a whole, before any work; recordings are not opened.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from adapter_hub.bulk.parquet_rows import parquet_records
from adapter_hub.data.dataset import LIST_SUFFIXES, SHOWN, TABLE_SUFFIXES, listed
from adapter_hub.data.metadata import MOST_ROWS, Record, records
from adapter_hub.errors import AdapterHubError, InvalidInputError, NotFoundError, few
from adapter_hub.escaping import shown
from adapter_hub.formats.canonical import sha256_hex
from adapter_hub.speech.audio import find_audio
from adapter_hub.speech.languages import language_tag

AUDIO_COLUMNS = ("audio", "audio_filepath", "file_name", "path")  # the first that is there counts
OWN = ("id", "language", "model", "offset")  # columns that say how a row is transcribed
PARQUET = ".parquet"
MOST_BAD = 10_000  # rows; after so many the rest is not read


@dataclass(frozen=True)
class Row:
    """One recording to transcribe.

    Attributes:
        id: unique where the input names ids; otherwise `audio`.
        audio: what the input calls the recording.
        file: that holds it.
        part: offset and duration in seconds, where it is a part of the file.
        cell: row group and row in it, where `file` is a parquet file that holds the audio's bytes.
        language: BCP 47 tag, where the row names one.
        model: the adapter that the row names, or `base-model`; None is that of the job.
        columns: the others, as they are in the input.
    """

    id: str
    audio: str
    file: Path
    part: tuple[float, float] | None = None
    cell: tuple[int, int] | None = None
    language: str | None = None
    model: str | None = None
    columns: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> list[Any]:
        """Return what of it decides a result as plain data, without the place on this machine."""
        own = [self.id, self.audio, self.part, self.cell, self.language, self.model]
        return [*own, dict(self.columns)]


def read_rows(place: Path, audio_column: str | None = None) -> tuple[Row, ...]:
    """Read the rows of a job.

    Args:
        place: a folder of recordings or of parquet files, a list, or a parquet file.
        audio_column: that names or holds the recordings; None for the first of `AUDIO_COLUMNS`.

    Raises:
        NotFoundError: nothing is there, or a folder without recordings.
        InvalidInputError: rows that cannot be used, with their line numbers; no rows, or too many.
        MissingExtraError: parquet without pyarrow.
    """
    place = place.absolute()
    if place.is_dir():
        tables = sorted(file for file in place.rglob(f"*{PARQUET}") if file.is_file())
        rows = _parquet(place, tables, audio_column) if tables else _folder(place)
    elif place.suffix == PARQUET and place.is_file():
        rows = _parquet(place.parent, [place], audio_column)
    elif not place.is_file():
        raise NotFoundError(
            f"{place}: no such file or folder; expected a folder of recordings, a list of them or parquet"
        )
    elif place.suffix in (*LIST_SUFFIXES, *TABLE_SUFFIXES):
        found = ((f"line {line}", place, None, record) for line, record in records(place))
        rows = _checked(place, found, audio_column)
    else:
        expected = ", ".join((*LIST_SUFFIXES, *TABLE_SUFFIXES, PARQUET))
        raise InvalidInputError(
            f"{place}: expected a folder of recordings, or a list of them ({expected}); a recording alone is "
            "for `adapter-hub transcribe`"
        )
    if not rows:
        raise InvalidInputError(f"{place}: no rows; expected one per recording")
    return rows


def rows_sha256(rows: Iterable[Row]) -> str:
    """Return the sha256 of rows, in their order.

    Args:
        rows: of a job, or of a part of it.
    """
    lines = (json.dumps(row.to_json(), sort_keys=True) for row in rows)
    return sha256_hex("\n".join(lines).encode())


def _folder(folder: Path) -> tuple[Row, ...]:
    names = [(file.relative_to(folder).as_posix(), file) for file in find_audio(folder)]
    return tuple(Row(name, name, file) for name, file in names)


def _parquet(folder: Path, tables: Sequence[Path], audio_column: str | None) -> tuple[Row, ...]:
    wanted = [audio_column] if audio_column else AUDIO_COLUMNS
    found = (
        (f"{name} row {number + 1}", file, cell, record)
        for file in tables
        for name in [file.relative_to(folder).as_posix()]
        for number, (cell, record) in enumerate(parquet_records(file, wanted, name))
    )
    return _checked(folder, found, audio_column)


_Found = tuple[str, Path, tuple[int, int] | None, Record | str]  # where, file, cell, columns or a problem


def _checked(place: Path, found: Iterable[_Found], audio_column: str | None) -> tuple[Row, ...]:
    """Return the rows of a list; refuse all where some cannot be used."""
    rows: list[Row] = []
    problems: list[str] = []
    bad = 0
    for where, row in _without_repeats(_rows(found, audio_column)):
        if isinstance(row, Row):
            rows.append(row)
            if len(rows) > MOST_ROWS:
                raise InvalidInputError(f"{place}: more than {MOST_ROWS} rows; split the job")
            continue
        bad += 1
        problems += [f"{where}: {row}"] if bad <= SHOWN else []
        if bad == MOST_BAD:
            break  # not a list of recordings
    if problems:
        raise InvalidInputError(f"{place}: {listed(problems, bad)}")
    return tuple(rows)


def _rows(found: Iterable[_Found], audio_column: str | None) -> Iterator[tuple[str, Row | str]]:
    for where, file, cell, record in found:
        yield where, record if isinstance(record, str) else _row(file, cell, record, audio_column)


def _without_repeats(rows: Iterable[tuple[str, Row | str]]) -> Iterator[tuple[str, Row | str]]:
    """Yield rows; one whose id another has, too, becomes a problem. Names of recordings may be repeated."""
    seen: dict[str, str] = {}
    for where, row in rows:
        if isinstance(row, Row) and row.id is not row.audio:
            if row.id in seen:
                yield where, f"id {shown(row.id, 60)!r} is listed twice (first in {seen[row.id]})"
                continue
            seen[row.id] = where
        yield where, row


def _row(file: Path, cell: tuple[int, int] | None, record: Record, audio_column: str | None) -> Row | str:
    """Return the row of a record, or what is wrong with it; `file` holds the record."""
    names = [audio_column] if audio_column else AUDIO_COLUMNS
    column = next((name for name in names if record.get(name) not in (None, "")), None)
    if column is None:
        there = few((str(name) for name in record), separator=", ") or "none"
        return f"no {' or '.join(names)}; the columns are {there}"
    audio, columns = record[column], _carried(record, column)
    if problem := _problem(record, audio, columns):
        return problem
    row_id = record.get("id")
    part = record.get("offset")
    try:
        place = file if cell else file.parent / Path(audio).expanduser()
        language = record.get("language") and language_tag(record["language"])
    except (AdapterHubError, RuntimeError, ValueError) as error:
        return str(error)
    return Row(
        audio if row_id in (None, "") else str(row_id),
        audio,
        place,
        None if part in (None, "") else (float(part), float(record["duration"])),
        cell,
        language or None,
        record.get("model") or None,
        columns,
    )


def _carried(record: Record, column: str) -> dict[str, Any]:
    return {name: value for name, value in record.items() if name not in (column, *OWN) and name is not None}


def _problem(record: Record, audio: object, columns: Mapping[str, Any]) -> str:
    """Return what is wrong with a record; an empty text if it can be used."""
    if not isinstance(audio, str) or "\0" in audio or "\n" in audio:
        return f"audio {shown(repr(audio), 60)}: expected the name of a file, in one line"
    for name in ("language", "model"):
        if not isinstance(record.get(name) or "", str):
            return f"{name} {shown(repr(record[name]), 60)}: expected text"
    if isinstance(record.get("id"), (dict, list, float)):
        return f"id {shown(repr(record['id']), 60)}: expected text or a whole number"
    if record.get("offset") not in (None, "") and not _is_part(record):
        return "offset and duration: expected seconds in both, offset from 0, duration above 0"
    try:
        json.dumps([audio, *map(record.get, ("id", "language", "model"))], ensure_ascii=False).encode()
        json.dumps(columns, allow_nan=False, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        return "a lone surrogate" if isinstance(error, UnicodeError) else f"no plain JSON ({error})"
    return ""


def _is_part(record: Record) -> bool:
    try:
        offset, duration = float(record["offset"]), float(record.get("duration") or 0)
    except (TypeError, ValueError, OverflowError):
        return False
    return math.isfinite(offset) and math.isfinite(duration) and offset >= 0 and duration > 0
