"""Shards: the results of a block of rows as one file of JSON lines or parquet.

    columns = carried_columns(rows)                     # of the whole job, so that all shards are alike
    data = shard_bytes(results, block.rows, columns, "jsonl")
    outcome = read_shard(out / block.name)              # ids, seconds and errors

A column of the input that has the name of a result, as `text` may, is carried as `input_text`. In parquet a
column that is text, whole numbers, numbers or truth values throughout is that; any other is JSON as text.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from adapter_hub.bulk.plan import Form
from adapter_hub.bulk.rows import Row
from adapter_hub.bulk.transcribing import Result
from adapter_hub.errors import InvalidInputError, MissingExtraError
from adapter_hub.files.reading import read_bounded

SHARD_BYTES = 2**33
RESULTS = ("id", "audio", "text", "language", "language_probability", "adapter", "adapter_digest",
           "base_model_digest", "seconds", "segments", "words", "error", "truncated")  # fmt: skip
Kind = Literal["text", "integer", "number", "truth", "json"]
KINDS: Mapping[type, Kind] = {str: "text", int: "integer", float: "number", bool: "truth"}
LARGEST = 2**63


@dataclass(frozen=True)
class Column:
    """A column of the input in the output.

    Attributes:
        name: in the output.
        kind: of its values in parquet.
    """

    name: str
    kind: Kind


def carried_columns(rows: Iterable[Row]) -> dict[str, Column]:
    """Return the columns that are carried through, by their names in the input.

    Args:
        rows: all of a job.
    """
    kinds: dict[str, Kind] = {}
    for row in rows:
        for name, value in row.columns.items():
            if value is not None:
                kinds[name] = _wider(kinds.get(name), _kind(value))
            else:
                kinds.setdefault(name, "text")
    return {name: Column(_free(name, kinds), kind) for name, kind in kinds.items()}


def _kind(value: object) -> Kind:
    kind = KINDS.get(type(value), "json")
    return "json" if isinstance(value, int) and not -LARGEST <= value < LARGEST else kind


def _wider(one: Kind | None, other: Kind) -> Kind:
    """Return the kind of a column that has values of two kinds."""
    if one is None or one == other:
        return other
    return "number" if {one, other} == {"integer", "number"} else "json"


def _free(name: str, others: Mapping[str, Kind]) -> str:
    """Return the name of a carried column, which no result and no other column has."""
    free = name
    while free in RESULTS or (free != name and free in others):
        free = f"input_{free}"
    return free


def shard_bytes(
    results: Sequence[Result], rows: Sequence[Row], columns: Mapping[str, Column], form: Form
) -> bytes:
    """Return a shard.

    Args:
        results: of the rows, in order.
        rows: with what is carried through.
        columns: of the whole job.
        form: of the shard.

    Raises:
        MissingExtraError: parquet without pyarrow.
    """
    if form == "parquet":
        return _parquet(results, rows, columns)
    lines = [
        {**result, **{columns[name].name: value for name, value in row.columns.items()}}
        for result, row in zip(results, rows, strict=True)
    ]
    return "".join(f"{json.dumps(line, ensure_ascii=False)}\n" for line in lines).encode()


def check_form(form: Form) -> None:
    """Refuse a format that cannot be written, before any work.

    Args:
        form: of the shards.

    Raises:
        MissingExtraError: parquet without pyarrow.
    """
    if form == "parquet":
        _pyarrow()


def _pyarrow() -> Any:
    try:
        import pyarrow  # noqa: PLC0415 - an extra
        import pyarrow.parquet  # noqa: PLC0415
    except ImportError:
        raise MissingExtraError("parquet needs pyarrow", "data", "or take --format jsonl") from None
    return pyarrow


def _parquet(results: Sequence[Result], rows: Sequence[Row], columns: Mapping[str, Column]) -> bytes:
    arrow = _pyarrow()
    words = any("words" in result for result in results)
    schema = _schema(arrow, columns, words=words)
    lines = []
    for result, row in zip(results, rows, strict=True):
        carried = {
            column.name: _plain(row.columns.get(name), column.kind) for name, column in columns.items()
        }
        lines.append({**result, **carried})
    buffer = io.BytesIO()
    arrow.parquet.write_table(arrow.Table.from_pylist(lines, schema=schema), buffer)
    return buffer.getvalue()


def _plain(value: Any, kind: Kind) -> Any:
    if value is None or kind in ("text", "integer", "truth"):
        return value
    return float(value) if kind == "number" else json.dumps(value, ensure_ascii=False)


def _schema(arrow: Any, columns: Mapping[str, Column], *, words: bool) -> Any:
    """Return the schema of the shards of a job; it does not depend on what was found."""
    text, number, whole = arrow.string(), arrow.float64(), arrow.int64()
    word = arrow.struct([("word", text), ("start", number), ("end", number)])
    segment = arrow.struct(
        [("id", whole), ("seek", whole), ("start", number), ("end", number), ("text", text)]
        + [("tokens", arrow.list_(whole)), ("temperature", number), ("avg_logprob", number)]
        + [("compression_ratio", number), ("no_speech_prob", number), ("language", text)]
        + [("adapter", text), ("language_probability", number)]
    )
    kinds = {"language_probability": number, "seconds": number}
    kinds |= {"segments": arrow.list_(segment), "words": arrow.list_(word)}
    own = [(name, kinds.get(name, text)) for name in RESULTS if words or name != "words"]
    types = {"text": text, "integer": whole, "number": number, "truth": arrow.bool_(), "json": text}
    return arrow.schema(own + [(column.name, types[column.kind]) for column in columns.values()])


@dataclass(frozen=True)
class Outcome:
    """What a shard says of one row.

    Attributes:
        id: of the row.
        seconds: of audio that were read.
        error: why there is no transcript, or none of all of it; None where all is well.
        truncated: why the recording is not whole; None where it is.
    """

    id: str
    seconds: float
    error: str | None
    truncated: str | None


def read_shard(file: Path) -> list[Outcome]:
    """Return what a shard says of its rows.

    Args:
        file: of JSON lines, or of parquet if its name says so.

    Raises:
        InvalidInputError: damaged. OSError: not there.
    """
    data = read_bounded(file, SHARD_BYTES)
    try:
        lines = _read_parquet(data) if file.suffix == ".parquet" else map(json.loads, data.splitlines())
        return [
            Outcome(str(line["id"]), float(line["seconds"]), line["error"], line["truncated"])
            for line in lines
        ]
    except (ValueError, KeyError, TypeError, OSError):
        raise InvalidInputError(
            f"{file}: damaged; remove it and run the command again, which makes it anew"
        ) from None


def _read_parquet(data: bytes) -> list[dict[str, Any]]:
    arrow = _pyarrow()
    columns = ["id", "seconds", "error", "truncated"]
    found: list[dict[str, Any]] = arrow.parquet.read_table(
        arrow.BufferReader(data), columns=columns
    ).to_pylist()
    return found
