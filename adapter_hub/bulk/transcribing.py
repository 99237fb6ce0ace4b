"""Transcribes the rows of a shard: in the one process of a small job, or in a worker of a large one.

    results = transcribed(opened, block.rows)      # one plain record for each row, in order

All rows of a shard are transcribed in one call, so its batches, and with them its bytes, are the same in
every process and after every restart. What goes wrong with a recording is its row's `error`.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from adapter_hub.bulk.job import Opened
from adapter_hub.bulk.parquet_rows import audio_bytes
from adapter_hub.bulk.rows import AUDIO_COLUMNS, Row
from adapter_hub.data.clips import SegmentClip
from adapter_hub.errors import AdapterHubError, MissingExtraError, OutOfMemoryError
from adapter_hub.formats.reference import BASE_MODEL
from adapter_hub.isolation import isolated
from adapter_hub.speech.inputs import AudioInput
from adapter_hub.transcription.transcriber import BatchProgress
from adapter_hub.transcription.transcript import Transcript

CONCERNS_ALL = (OutOfMemoryError, MissingExtraError)
Result = dict[str, Any]


def transcribed(opened: Opened, rows: Sequence[Row], progress: BatchProgress | None = None) -> list[Result]:
    """Return the results of rows, in order.

    Args:
        opened: the job.
        rows: of one shard.
        progress: called after every batch with finished recordings and their seconds of audio.

    Raises:
        OutOfMemoryError: a single window is too much.
        MissingExtraError: an option needs a package that is not installed.
    """
    audio, errors = _opened(opened, rows)
    readable = [number for number in range(len(rows)) if number in audio]
    found = _transcripts(opened, rows, audio, readable, errors, progress)
    digests = opened.digests
    results = []
    for number, row in enumerate(rows):
        transcript = found.get(number) or Transcript(row.audio, error=errors[number])
        results.append(_result(opened, row, transcript, digests))
    return results


def _opened(opened: Opened, rows: Sequence[Row]) -> tuple[dict[int, AudioInput], dict[int, str]]:
    """Return the recordings of rows, and what is wrong with the others; files are not read yet."""
    audio: dict[int, AudioInput] = {}
    errors: dict[int, str] = {}
    cells = _cells(opened, rows, errors)
    for number, row in enumerate(rows):
        if number in errors:
            continue
        if number in cells:
            audio[number] = cells[number]
        elif row.part is not None:
            failed: list[AdapterHubError] = []
            with isolated(row.audio, failed.append):
                audio[number] = SegmentClip(row.file, *row.part).read()
            for error in failed:
                errors[number] = str(error)
        else:
            audio[number] = row.file
    return audio, errors


def _cells(opened: Opened, rows: Sequence[Row], errors: dict[int, str]) -> dict[int, bytes]:
    """Read the recordings that are in parquet files, each file once."""
    names = [opened.job.audio_column] if opened.job.audio_column else AUDIO_COLUMNS
    found: dict[int, bytes] = {}
    for file in dict.fromkeys(row.file for row in rows if row.cell is not None):
        numbers = [number for number, row in enumerate(rows) if row.file == file and row.cell is not None]
        failed: list[AdapterHubError] = []
        with isolated(file.name, failed.append, through=CONCERNS_ALL):
            data = audio_bytes(file, [cell for n in numbers if (cell := rows[n].cell)], names)
            found |= {n: data[cell] for n in numbers if (cell := rows[n].cell)}
        errors |= {n: str(error) for error in failed for n in numbers}
    return found


def _transcripts(
    opened: Opened,
    rows: Sequence[Row],
    audio: dict[int, AudioInput],
    numbers: Sequence[int],
    errors: dict[int, str],
    progress: BatchProgress | None,
) -> dict[int, Transcript]:
    """Transcribe recordings together; where one brings all of them down, each alone."""
    failed: list[AdapterHubError] = []
    with isolated("transcribing", failed.append, through=CONCERNS_ALL):
        adapters = [opened.adapter_of(rows[number]) for number in numbers]
        languages = [opened.language_of(rows[number]) for number in numbers]
        transcripts = opened.transcriber.transcribe_each(
            [audio[number] for number in numbers],
            adapters=adapters if any(adapters) else None,
            languages=languages if any(languages) else None,
            progress=progress,
            **opened.job.options,
        )
        return dict(zip(numbers, transcripts, strict=True))
    if len(numbers) == 1:
        errors[numbers[0]] = str(failed[0])
        return {}
    found: dict[int, Transcript] = {}
    for number in numbers:
        found |= _transcripts(opened, rows, audio, [number], errors, None)
    return found


def _result(opened: Opened, row: Row, transcript: Transcript, digests: dict[str, str]) -> Result:
    """Return the record of a row; one that has no transcript at all has no text, language and adapter."""
    out = transcript.to_json()
    told = {  # with the input's name for the recording, and no path of this machine
        name: said.replace(transcript.source, row.audio).replace(str(row.file), row.audio)
        for name in ("error", "truncated")
        if (said := getattr(transcript, name)) is not None
    }
    result = {
        "id": row.id,
        "audio": row.audio,
        "text": out.get("text"),
        "language": out.get("language"),
        "language_probability": out.get("language_probability"),
        "adapter": out.get("adapter") or None,
        "adapter_digest": _digest_of(transcript.adapter, digests),
        "base_model_digest": opened.plan.base_model_digest,
        "seconds": round(transcript.seconds, 3),
        "segments": out.get("segments", []),
        "error": told.get("error"),
        "truncated": told.get("truncated"),
    }
    if opened.job.options.get("words"):
        result["words"] = out.get("words", [])
    return result


def _digest_of(name: str, digests: dict[str, str]) -> str | None:
    """Return the digest of an adapter, or of the parts of a blend."""
    if not name or name == BASE_MODEL:
        return None
    if name in digests:
        return digests[name]
    parts = [part.rpartition("*") for part in name.split("+")]
    with suppress(KeyError):
        return "+".join(f"{digests[ref]}*{weight}" for ref, _, weight in parts)
    return None
