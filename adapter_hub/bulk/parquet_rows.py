"""Rows of parquet files: their columns without the audio, and the audio's bytes when they are needed.

    for cell, record in parquet_records(file, ["audio"], file.name):
        record["audio"]                            # the recording's name
    audio_bytes(file, [(0, 3), (0, 4)], ["audio"])  # of rows 3 and 4 of the first row group

The audio column holds bytes, structs {bytes, path} as audio data sets on the Hub have them, or texts that
name files. One row group is in memory at a time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from adapter_hub.data.parquet_shard import (
    BATCH,
    ODD,
    check_stated,
    columns_text,
    holds_audio,
    is_plain,
    is_text,
    plain_value,
    room_for,
)
from adapter_hub.errors import AdapterHubError, InvalidInputError, MissingExtraError
from adapter_hub.escaping import shown

Cell = tuple[int, int]  # the number of a row group, and of a row in it


@contextmanager
def _opened(file: Path, where: str) -> Iterator[Any]:
    """Open a parquet file; whatever pyarrow says of it becomes one line."""
    try:
        import pyarrow  # noqa: PLC0415 - an extra
        from pyarrow import parquet as reader  # noqa: PLC0415
    except ImportError:
        raise MissingExtraError("parquet needs pyarrow", "data") from None
    try:
        with reader.ParquetFile(file) as opened:
            check_stated(opened.metadata, where, room_for(file.stat().st_size))
            yield opened
    except AdapterHubError:
        raise
    except (pyarrow.ArrowException, OSError, *ODD) as error:
        reason = shown((str(error).splitlines() or [type(error).__name__])[0])
        raise InvalidInputError(f"{where}: cannot be read as parquet ({reason})") from None


def parquet_records(
    file: Path, names: Sequence[str], where: str
) -> Iterator[tuple[Cell | None, dict[str, Any]]]:
    """Yield every row without its audio: where its bytes are (None for a row that names a file), and columns.

    Args:
        file: of parquet.
        names: of the audio column, the first that is there counts.
        where: what messages call the file.

    Raises:
        InvalidInputError: not parquet, too much in it, or no such column; the message lists those there are.
        MissingExtraError: pyarrow is not installed.
    """
    with _opened(file, where) as opened:
        schema = opened.schema_arrow
        audio = _audio_column(schema, names, where)
        kept = [
            name
            for name in schema.names
            if name != audio and schema.names.count(name) == 1 and is_plain(schema.field(name).type)
        ]
        sound = schema.field(audio).type
        wanted = [*kept, *_naming(audio, sound)]
        for group in range(opened.num_row_groups):
            if not wanted:
                for place in range(opened.metadata.row_group(group).num_rows):
                    yield (group, place), {audio: f"{where}:{group}:{place}"}
                continue
            place = 0
            for batch in opened.iter_batches(1024, row_groups=[group], columns=wanted):
                for number in range(batch.num_rows):
                    values = {name: plain_value(batch.column(name)[number]) for name in kept}
                    record = {name: value for name, value in values.items() if value is not None}
                    if is_text(sound):
                        yield None, record | {audio: plain_value(batch.column(audio)[number])}
                    else:
                        named = _name(batch, audio, number) or f"{where}:{group}:{place}"
                        yield (group, place), record | {audio: named}
                    place += 1


def audio_bytes(file: Path, cells: Sequence[Cell], names: Sequence[str]) -> dict[Cell, bytes]:
    """Return the bytes of recordings in a parquet file; of a row without any, empty ones.

    Args:
        file: of parquet.
        cells: which rows.
        names: of the audio column, as in `parquet_records`.

    Raises:
        InvalidInputError: as `parquet_records`, or a row is not there.
    """
    found: dict[Cell, bytes] = {}
    with _opened(file, str(file)) as opened:
        schema = opened.schema_arrow
        audio = _audio_column(schema, names, str(file))
        is_struct = holds_audio(schema.field(audio).type)
        for group in sorted({group for group, _ in cells}):
            places = {place for number, place in cells if number == group}
            column = f"{audio}.bytes" if is_struct else audio
            batches = opened.iter_batches(BATCH, row_groups=[group], columns=[column])
            for place, batch in enumerate(batches):
                if place in places:
                    value = batch.column(audio)[0].as_py()
                    data = (value or {}).get("bytes") if is_struct else value
                    found[group, place] = data if isinstance(data, bytes) else b""
                if place >= max(places):
                    break
    if missing := set(cells) - found.keys():
        raise InvalidInputError(f"{file}: has no row {min(missing)} any more; it changed since the job began")
    return found


def _audio_column(schema: Any, names: Sequence[str], where: str) -> str:
    """Return the name of the column with the audio."""
    for name in names:
        if schema.names.count(name) == 1 and _is_sound(schema.field(name).type):
            return name
    raise InvalidInputError(
        f"{where}: no column {' or '.join(names)} with audio (bytes, {{bytes, path}}, or names of files); "
        f"there are {columns_text(schema)}: name it with --audio-column"
    )


def _is_sound(kind: Any) -> bool:
    from pyarrow import types  # noqa: PLC0415

    return bool(holds_audio(kind) or is_text(kind) or types.is_binary(kind) or types.is_large_binary(kind))


def _naming(audio: str, kind: Any) -> list[str]:
    """Return the column that names recordings, if there is one."""
    if is_text(kind):
        return [audio]
    if not holds_audio(kind):
        return []
    index = kind.get_field_index("path")
    return [f"{audio}.path"] if index >= 0 and is_text(kind[index].type) else []


def _name(batch: Any, audio: str, number: int) -> str | None:
    """Return the name that a row's struct of audio has."""
    if audio not in batch.schema.names:
        return None
    value = batch.column(audio)[number].as_py()
    path = (value or {}).get("path")
    return shown(path) if isinstance(path, str) and path else None  # of whoever made the file
