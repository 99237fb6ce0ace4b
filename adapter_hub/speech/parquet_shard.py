"""A parquet file of a speech data set, unpacked: the audio's bytes one after another, and a list of rows.

    unpack(Path("0000.parquet"), folder, "audio")       # writes folder/audio, folder/rows.jsonl
    columns, rows = read_rows(folder)

Only one row group is in memory at a time, whatever the file's size. Unpacked audio can be read in any
order at no cost, which a parquet file cannot; it takes as much room. The list ends with a line that holds
its checksum, and every clip's sha256 is in its row.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import soundfile

from adapter_hub.canonical import sha256_hex
from adapter_hub.errors import IntegrityError, InvalidInputError, MissingExtraError

AUDIO, ROWS = "audio", "rows.jsonl"
BATCH = 64  # rows decoded from parquet at a time
PLAIN = (str, int, float, bool)


def unpack(parquet: Path, folder: Path, audio_column: str, where: str) -> None:
    """Write audio and rows of a parquet file into an empty folder.

    Args:
        parquet: the file.
        folder: an empty one.
        audio_column: of structs {bytes, path}, as the Hub's audio data sets have it.
        where: what to call the file in errors.

    Raises:
        InvalidInputError: no parquet, or no such column; the message lists those there are.
        MissingExtraError: pyarrow is not installed.
    """
    start, lines = 0, []
    with (folder / AUDIO).open("wb") as file:
        for number, (names, record) in enumerate(_records(parquet, audio_column, where)):
            if number == 0:
                lines.append(_line({"columns": names}))
            audio = record.pop(audio_column) or {}
            data = audio.get("bytes") or b""
            file.write(data)
            row = {
                "path": os.path.basename(audio.get("path") or ""),  # noqa: PTH119 - text, of any system
                "start": start,
                "size": len(data),
                "sha256": sha256_hex(data),
                "seconds": _seconds(data),
                "columns": {key: value for key, value in record.items() if isinstance(value, PLAIN)},
            }
            lines.append(_line(row))
            start += len(data)
    text = b"".join(lines)
    (folder / ROWS).write_bytes(text + _line({"sha256": sha256_hex(text), "audio": start}))


def _line(value: dict[str, Any]) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode() + b"\n"


def _seconds(data: bytes) -> float | None:
    """Return the duration that the header states; None where it cannot be read, which is told later."""
    try:
        with soundfile.SoundFile(io.BytesIO(data)) as file:
            return round(file.frames / file.samplerate, 6)
    except (soundfile.SoundFileError, TypeError, ZeroDivisionError):
        return None


def _records(parquet: Path, audio_column: str, where: str) -> Iterator[tuple[list[str], dict[str, Any]]]:
    """Yield the names of all columns, and a row."""
    try:
        import pyarrow  # noqa: PLC0415 - an extra
        from pyarrow import parquet as reader  # noqa: PLC0415
    except ImportError:
        raise MissingExtraError("data sets on the Hub need pyarrow", "data") from None
    try:
        with reader.ParquetFile(parquet) as file:
            schema = file.schema_arrow
            names = list(schema.names)
            if audio_column not in names or not _holds_audio(schema.field(audio_column).type):
                what = "holds no audio as {bytes, path}" if audio_column in names else "is not there"
                raise InvalidInputError(
                    f"{where}: column {audio_column!r} {what}; there are {_columns(schema)}: "
                    'name the right one with audio_column = "…"'
                )
            wanted = [name for name in names if name == audio_column or not _nested(schema.field(name).type)]
            for group in range(file.num_row_groups):
                for batch in file.iter_batches(BATCH, row_groups=[group], columns=wanted):
                    for record in batch.to_pylist():
                        yield names, record
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
        raise InvalidInputError(
            f"{where}: cannot be read as parquet ({str(error).splitlines()[0]})"
        ) from None


def _holds_audio(kind: Any) -> bool:
    from pyarrow import types  # noqa: PLC0415

    if not types.is_struct(kind):
        return False
    index = kind.get_field_index("bytes")
    return index >= 0 and (types.is_binary(kind[index].type) or types.is_large_binary(kind[index].type))


def _nested(kind: Any) -> bool:
    from pyarrow import types  # noqa: PLC0415

    return bool(types.is_nested(kind))


def _columns(schema: Any) -> str:
    return ", ".join(f"{field.name} ({str(field.type).partition('<')[0]})" for field in schema)


def read_rows(folder: Path) -> tuple[list[str], list[dict[str, Any]]]:
    """Return the names of all columns, and the rows of an unpacked file.

    Raises:
        IntegrityError: not as it was written, or not all of it there. OSError: not there.
    """
    raw = (folder / ROWS).read_bytes()
    text, _, last = raw.rstrip(b"\n").rpartition(b"\n")
    text += b"\n"
    try:
        seal = json.loads(last)
        if seal["sha256"] != sha256_hex(text) or (folder / AUDIO).stat().st_size != seal["audio"]:
            raise IntegrityError(f"{folder}: changed since it was written")
        head, *rows = [json.loads(line) for line in text.splitlines()]
        return head["columns"], rows
    except (ValueError, KeyError, TypeError):
        raise IntegrityError(f"{folder}: changed since it was written") from None
