"""The rows of `metadata.jsonl`, `metadata.csv` and other lists of audio files, read one after another.

    for line, record in records(folder / "metadata.jsonl"):      # a mapping, or what is wrong with the line
        ...

The author of such a file need not have been careful, or well-meaning: only an ordinary file is read, only one
row at a time is in memory, and a row is limited in bytes. A bad line yields a problem in its place, and the
lines after it are read.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from adapter_hub.errors import InvalidInputError
from adapter_hub.files.reading import check_content, open_regular

METADATA_BYTES = 2**30  # of a file: some millions of rows
MOST_ROWS = 5_000_000  # about 3 GB of memory
LINE_BYTES = 2**20  # of a line: the text of many hours of speech
COLUMNS = 1_000  # of a table

Record = Mapping[str, Any]


class _Tabs(csv.excel_tab):
    """As Common Voice writes them: a quotation mark is a part of the text."""

    quoting = csv.QUOTE_NONE


DIALECTS: Mapping[str, type[csv.Dialect]] = {".csv": csv.excel, ".tsv": _Tabs}


def records(metadata: Path) -> Iterator[tuple[int, Record | str]]:
    """Yield each line's number and its record, or the problem with it.

    Args:
        metadata: a file of CSV or tab-separated values with a header, or of JSON objects, one per line.

    Raises:
        InvalidInputError: not an ordinary file, a pointer of Git LFS, not UTF-8, or larger than
            `METADATA_BYTES`.
        OSError: it cannot be read.
    """
    with open_regular(metadata) as raw, io.BufferedReader(raw) as file:
        lines = _lines(metadata, file)
        if metadata.suffix in DIALECTS:
            yield from _csv_records(lines, DIALECTS[metadata.suffix])
        else:
            yield from _json_records(lines)


def _lines(metadata: Path, file: BinaryIO) -> Iterator[str | None]:
    """Yield every line with its line end, or None if it is too long."""
    place = count = 0
    while raw := file.readline(LINE_BYTES + 1):
        start = place
        if not start:
            check_content(raw, str(metadata))
        place += len(raw)
        whole = len(raw) <= LINE_BYTES or raw.endswith(b"\n")
        while len(raw) > LINE_BYTES and not raw.endswith(b"\n") and (raw := file.readline(LINE_BYTES + 1)):
            place += len(raw)
        count += 1
        if place > METADATA_BYTES or count > 2 * MOST_ROWS:
            raise InvalidInputError(
                f"{metadata}: more than {METADATA_BYTES} bytes or {2 * MOST_ROWS} lines; split the data set"
            )
        try:
            yield raw.decode("utf-8-sig" if start == 0 else "utf-8") if whole else None
        except UnicodeDecodeError as error:
            raise InvalidInputError(f"{metadata}: not UTF-8 (byte {start + error.start})") from None


def _json_records(lines: Iterator[str | None]) -> Iterator[tuple[int, Record | str]]:
    for line, text in enumerate(lines, 1):
        if text is None:
            yield line, _too_long()
        elif text.strip():
            yield line, _json_record(text)


def _json_record(text: str) -> Record | str:
    try:
        value = json.loads(text)
    except ValueError as error:
        return f"not JSON ({error})"
    except RecursionError:
        return "not JSON (nested too deeply)"
    return value if isinstance(value, dict) else "not a JSON object"


def _csv_records(
    lines: Iterator[str | None], dialect: type[csv.Dialect]
) -> Iterator[tuple[int, Record | str]]:
    long: list[int] = []  # numbers of the lines that are skipped

    def short() -> Iterator[str]:
        for line, text in enumerate(lines, 1):
            if text is None:
                long.append(line)
            else:
                yield text

    reader = csv.DictReader(short(), dialect=dialect)
    try:
        if len(reader.fieldnames or ()) > COLUMNS:
            yield 1, f"more than {COLUMNS} columns"
            return
        for record in reader:
            yield from ((line, _too_long()) for line in long)
            yield reader.line_num + len(long), record
            long.clear()
        yield from ((line, _too_long()) for line in long)
    except csv.Error as error:  # usually a field without end
        yield reader.line_num + 1, f"not CSV ({error}); is a quote left open?"


def _too_long() -> str:
    return f"longer than {LINE_BYTES} bytes; expected one row"
