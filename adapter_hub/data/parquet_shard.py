"""A parquet file of a speech data set, unpacked: the audio's bytes one after another, and a list of rows.

    unpack(parquet, folder, "audio", where=parquet.name)       # writes folder/audio, folder/rows.jsonl
    columns, rows = read_rows(folder)

Only one row group is in memory at a time, whatever the file's size, and the size of what is unpacked is
limited by the size of the file: a thousand bytes can repeat the same megabyte a thousand times. Unpacked
audio takes as much space, and unlike a parquet file it can be read in any order at no cost. The list ends
with a line that holds its checksum, and every clip's sha256 is in its row.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import soundfile

from adapter_hub.data.metadata import COLUMNS, LINE_BYTES
from adapter_hub.errors import AdapterHubError, IntegrityError, InvalidInputError, MissingExtraError
from adapter_hub.escaping import shown
from adapter_hub.files.reading import LFS_POINTER, check_content, open_regular
from adapter_hub.formats.canonical import sha256_hex

AUDIO, ROWS = "audio", "rows.jsonl"
BATCH = 1  # rows decoded at a time: a small file may repeat one large value many times
PLAIN = (str, int, float, bool)
SHOWN = 12  # columns named in an error
MOST_ROWS = 2_000_000  # of a file
SMALLEST_ROOM = 2**26  # bytes that any file may unpack to
UNPACKED = 20  # times its size, for larger files
LARGEST_ROOM = 2**36
# what pyarrow raises, besides its own exceptions, about types and values
ODD = (TypeError, ValueError, KeyError, IndexError, OverflowError, NotImplementedError, RecursionError)


def unpack(parquet: Path, folder: Path, audio_column: str, where: str) -> None:
    """Write audio and rows of a parquet file into an empty folder.

    Args:
        parquet: the file.
        folder: an empty one.
        audio_column: column of structs {bytes, path}, as in audio data sets on the Hub.
        where: the name of the file in errors.

    Raises:
        InvalidInputError: not parquet; more content than such a file may have (`room_for`); no such column,
            the message lists those that exist.
        MissingExtraError: pyarrow is not installed.
    """
    start, lines, taken, room = 0, list[bytes](), 0, 0
    with (folder / AUDIO).open("wb") as file:
        for number, (names, record) in enumerate(_records(parquet, audio_column, where)):
            if number == 0:
                room = room_for(parquet.stat().st_size)
                lines.append(_line({"columns": names}))
            data, path = record.pop(audio_column)
            row = {
                "path": shown(os.path.basename(path)),  # noqa: PTH119 - text, of any system
                "start": start,
                "size": len(data),
                "sha256": sha256_hex(data),
                "seconds": _seconds(data),
                "columns": record,
            }
            lines.append(_line(row))
            start += len(data)
            taken += len(data) + len(lines[-1])
            if taken > room:
                raise InvalidInputError(
                    f"{where}: {parquet.stat().st_size} bytes that unpack to more than {room}; no speech "
                    "compresses so well"
                )
            file.write(data)
    text = b"".join(lines)
    (folder / ROWS).write_bytes(text + _line({"sha256": sha256_hex(text), "audio": start}))


def room_for(size: int) -> int:
    """Return how many bytes a parquet file of `size` bytes may unpack to.

    Compressed audio hardly compresses further.
    """
    return min(max(SMALLEST_ROOM, UNPACKED * size), LARGEST_ROOM)


def _line(value: dict[str, Any]) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode() + b"\n"


def _seconds(data: bytes) -> float | None:
    """Return the duration that the header states; None if it cannot be read, which is reported later."""
    try:
        with soundfile.SoundFile(io.BytesIO(data)) as file:
            return round(file.frames / file.samplerate, 6)
    except (soundfile.SoundFileError, TypeError, ZeroDivisionError):
        return None


def _records(parquet: Path, audio_column: str, where: str) -> Iterator[tuple[list[str], dict[str, Any]]]:
    """Yield, for every row, the names of all columns and the row's values."""
    try:
        import pyarrow  # noqa: PLC0415 - an extra
        from pyarrow import parquet as reader  # noqa: PLC0415
    except ImportError:
        raise MissingExtraError("data sets on the Hub need pyarrow", "data") from None
    with open_regular(parquet) as raw:
        check_content(raw.read(len(LFS_POINTER)), where)
    try:
        with reader.ParquetFile(parquet) as file:
            schema = file.schema_arrow
            names = list(schema.names)
            holds = names.count(audio_column) == 1 and holds_audio(schema.field(audio_column).type)
            if not holds:
                what = "does not hold audio as {bytes, path}" if audio_column in names else "does not exist"
                raise InvalidInputError(
                    f"{where}: column {shown(audio_column)!r} {what}; there are {columns_text(schema)}: "
                    'name the right one with audio_column = "…"'
                )
            plain = [name for name in names if names.count(name) == 1 and is_plain(schema.field(name).type)]
            sound = [f"{audio_column}.bytes", *_path_leaf(schema.field(audio_column))]
            check_stated(file.metadata, where, room_for(parquet.stat().st_size))
            for group in range(file.num_row_groups):
                for batch in file.iter_batches(BATCH, row_groups=[group], columns=[*plain, *sound]):
                    for place in range(batch.num_rows):
                        yield names, _row(batch, place, plain, audio_column)
    except AdapterHubError:
        raise
    except (pyarrow.ArrowException, OSError, *ODD) as error:
        reason = shown((str(error).splitlines() or [type(error).__name__])[0])
        raise InvalidInputError(f"{where}: cannot be read as parquet ({reason})") from None


def check_stated(metadata: Any, where: str, room: int) -> None:
    """Refuse what the footer alone shows to be too large.

    Args:
        metadata: pyarrow's, of the file.
        where: the name of the file in errors.
        room: bytes that it may unpack to.

    Raises:
        InvalidInputError: too many rows, columns or bytes.
    """
    if metadata.num_rows > MOST_ROWS or metadata.num_columns > COLUMNS:
        raise InvalidInputError(
            f"{where}: {metadata.num_rows} rows, {metadata.num_columns} columns; expected up to {MOST_ROWS} "
            f"and {COLUMNS}"
        )
    # not of single columns: asked for one, pyarrow crashes the process if the footer is damaged
    sizes = [metadata.row_group(group).total_byte_size for group in range(metadata.num_row_groups)]
    if min(sizes, default=0) < 0 or sum(sizes) > room:
        raise InvalidInputError(f"{where}: states {sum(sizes)} bytes of content; expected up to {room}")


def _row(batch: Any, place: int, plain: Sequence[str], audio_column: str) -> dict[str, Any]:
    values = {name: plain_value(batch.column(name)[place]) for name in plain}
    kept = {name: value for name, value in values.items() if value is not None}
    return kept | {audio_column: _sound(batch.column(audio_column)[place])}


def plain_value(scalar: Any) -> Any:
    """Return a text or number of a row; None for any other value, which is left out.

    Args:
        scalar: pyarrow's.
    """
    try:
        value = scalar.as_py()
    except ODD:
        return None
    plain = isinstance(value, PLAIN) and (not isinstance(value, str) or len(value) <= LINE_BYTES)
    return value if plain else None


def _sound(scalar: Any) -> tuple[bytes, str]:
    """Return the audio file of a row and its name, both empty if there is none."""
    try:
        audio = scalar.as_py() or {}
    except ODD:
        return b"", ""
    data, path = audio.get("bytes"), audio.get("path")
    return data if isinstance(data, bytes) else b"", path if isinstance(path, str) else ""


def holds_audio(kind: Any) -> bool:
    """Tell whether a column holds structs {bytes, path}, as audio data sets on the Hub do.

    Args:
        kind: pyarrow's type of it.
    """
    from pyarrow import types  # noqa: PLC0415

    if not types.is_struct(kind):
        return False
    index = kind.get_field_index("bytes")
    return index >= 0 and (types.is_binary(kind[index].type) or types.is_large_binary(kind[index].type))


def _path_leaf(field: Any) -> list[str]:
    """Return the column of the audio's names, if it exists and holds texts."""
    index = field.type.get_field_index("path")
    return [f"{field.name}.path"] if index >= 0 and is_text(field.type[index].type) else []


def is_text(kind: Any) -> bool:
    """Tell whether a column holds texts.

    Args:
        kind: pyarrow's type of it.
    """
    from pyarrow import types  # noqa: PLC0415

    return bool(types.is_string(kind) or types.is_large_string(kind))


def is_plain(kind: Any) -> bool:
    """Tell whether a column is kept beside the audio: texts and numbers.

    Args:
        kind: pyarrow's type of it.
    """
    from pyarrow import types  # noqa: PLC0415

    if types.is_dictionary(kind):
        kind = kind.value_type
    number = types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind)
    return bool(number or is_text(kind))


def columns_text(schema: Any) -> str:
    """Return names and types of the first columns, for a message.

    Args:
        schema: pyarrow's, of a file.
    """
    shortened = [f"{field.name} ({str(field.type).partition('<')[0]})" for field in list(schema)[:SHOWN]]
    more = f" and {len(schema) - SHOWN} more" if len(schema) > SHOWN else ""
    return shown(", ".join(shortened)) + more


def read_rows(folder: Path) -> tuple[list[str], list[dict[str, Any]]]:
    """Return the names of all columns, and the rows of an unpacked file.

    Raises:
        IntegrityError: changed since it was written, or incomplete. OSError: it does not exist.
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
