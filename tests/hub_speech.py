"""Speech data sets on the loopback Hub: real parquet files with FLAC, Opus and WAV inside."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import soundfile
from hub_places import IMPATIENT
from loopback_hub import LoopbackHub
from small_training import WORDS
from small_whisper import speech

from adapter_hub.hub import HubClient, RepoId

ENCODINGS = {"flac": ("FLAC", None), "opus": ("OGG", "OPUS"), "wav": ("WAV", None)}


def encoded(seconds: float, seed: int, kind: str = "flac", rate: int = 16_000) -> bytes:
    """Return some speech as an audio file's bytes."""
    form, subtype = ENCODINGS[kind]
    data = io.BytesIO()
    soundfile.write(data, speech(seconds, seed, rate), rate, format=form, subtype=subtype)
    return data.getvalue()


def rows_of_speech(count: int, first: int = 0, kind: str = "flac") -> list[dict[str, Any]]:
    """Return rows as FLEURS has them: audio, transcription, and columns that nobody here needs."""
    return [
        {
            "id": i,
            "audio": {"bytes": encoded(0.5 + 0.1 * (i % 5), i, kind), "path": f"{i}.{kind}"},
            "transcription": WORDS[i % 6],
            "raw_transcription": WORDS[i % 6].upper() + ".",
            "speaker_id": f"s{i % 3}",
            "words": [WORDS[i % 6]],
            "gender": i % 2,
        }
        for i in range(first, first + count)
    ]


def parquet(rows: Sequence[Mapping[str, Any]], group: int = 2) -> bytes:
    """Return rows as a parquet file with `group` rows in a row group."""
    pyarrow = pytest.importorskip("pyarrow", reason="needs the extra [data]")
    from pyarrow import parquet as writer

    data = io.BytesIO()
    writer.write_table(pyarrow.Table.from_pylist(list(rows)), data, row_group_size=group)
    return data.getvalue()


def publish_data(hub: LoopbackHub, name: str, files: Mapping[str, bytes]) -> str:
    """Put files into a data set repository; return the commit."""
    client, repo = reader(hub, name.partition("/")[0]), RepoId(name, "dataset")
    client.create_repo(repo)
    return client.commit(repo, additions=files, message="data", parent=client.refs(repo).branches["main"])


def reader(hub: LoopbackHub, user: str = "alice") -> HubClient:
    """Return a client of the loopback Hub."""
    return HubClient(hub.endpoint, hub.token(user), IMPATIENT)


def downloads(hub: LoopbackHub) -> list[str]:
    """Return the paths of parquet files that were asked for, in order."""
    return [
        entry.path.rpartition("/resolve/")[2].partition("/")[2]
        for entry in hub.log.entries()
        if entry.method == "GET" and "/resolve/" in entry.path and entry.path.endswith(".parquet")
    ]


def folder_of_rows(folder: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    """Write the same rows as a data set's folder."""
    import json

    folder.mkdir(parents=True)
    for row in rows:
        (folder / row["audio"]["path"]).write_bytes(row["audio"]["bytes"])
    lines = [
        json.dumps({"file_name": row["audio"]["path"], "text": row["transcription"]}) + "\n" for row in rows
    ]
    (folder / "metadata.jsonl").write_text("".join(lines))
    return folder
