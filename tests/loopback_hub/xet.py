"""Xet through its local store: the client writes chunks straight into a folder beside the repositories.

The token that this server hands out names `local://FOLDER` as the store, which the released hf_xet knows
from its own tests. The server sees no upload: it finds in the folder which digest belongs to which Xet hash,
and puts contents together from their chunks. One process at a time can have the folder open as a store.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loopback_hub.disk import write_bytes
from loopback_hub.lz4 import unpack_frame
from loopback_hub.repository import Repository

EXPIRES = "4000000000"
RECORD = 48  # bytes; a shard is a table of such records after a header of the same size
VERIFIED, WITH_SHA256 = 1 << 31, 1 << 30
END = b"\xff" * 32


@dataclass(frozen=True)
class Segment:
    """Some chunks, one after the other, of a file of chunks ("xorb")."""

    xorb: str
    first: int
    end: int


@dataclass(frozen=True)
class StoredFile:
    """What a shard says about one file."""

    hash: str
    segments: tuple[Segment, ...]


def hexadecimal(raw: bytes) -> str:
    """Write a hash as Xet does: four numbers of 64 bits, each the other way round."""
    return b"".join(raw[i : i + 8][::-1] for i in range(0, 32, 8)).hex()


def files_in(store: Path) -> dict[str, StoredFile]:
    """Return every file in the store by its sha256."""
    found: dict[str, StoredFile] = {}
    for shard in sorted((store / "xet" / "xorbs" / "shards").glob("*.mdb")):
        data, place = shard.read_bytes(), RECORD
        while (raw := data[place : place + 32]) and raw != END:
            flags, entries = struct.unpack_from("<II", data, place + 32)
            rows = [data[place + RECORD * i :][:RECORD] for i in range(1, entries + 1)]
            place += RECORD * (1 + entries * (2 if flags & VERIFIED else 1))
            if flags & WITH_SHA256:
                segments = (Segment(hexadecimal(row[:32]), *struct.unpack("<II", row[40:])) for row in rows)
                sha256 = hexadecimal(data[place : place + 32])
                found[sha256] = StoredFile(hexadecimal(raw), tuple(segments))
                place += RECORD
    return found


def chunks(xorb: Path) -> Iterator[bytes]:
    data, place = xorb.read_bytes(), 0
    while data[place : place + 1] == b"\0":  # the version; after the last chunk comes a footer
        packed, scheme = int.from_bytes(data[place + 1 : place + 4], "little"), data[place + 4]
        body = data[place + 8 : place + 8 + packed]
        place += 8 + packed
        if scheme:
            body = unpack_frame(body)
        yield together(body) if scheme == 2 else body


def together(groups: bytes) -> bytes:
    """Undo the sorting of bytes by their place in a float of 32 bits."""
    whole, start = bytearray(len(groups)), 0
    for i in range(4):
        count = len(whole[i::4])
        whole[i::4] = groups[start : start + count]
        start += count
    return bytes(whole)


def content(store: Path, file: StoredFile) -> bytes:
    parts: list[bytes] = []
    for segment in file.segments:
        xorb = store / "xet" / "xorbs" / "xorbs" / f"default.{segment.xorb}"
        parts += list(chunks(xorb))[segment.first : segment.end]
    return b"".join(parts)


def take_in(store: Path, repo: Repository, commit: bytes) -> None:
    """Copy what a commit names from the store to the repository, for all who know no Xet."""
    known = files_in(store)
    for line in commit.splitlines():
        value = json.loads(line)
        sha256 = value["value"].get("oid") if value["key"] == "lfsFile" else None
        if sha256 in known and not repo.lfs_path(sha256).is_file():
            whole = content(store, known[sha256])
            if hashlib.sha256(whole).hexdigest() == sha256:
                write_bytes(repo.lfs_path(sha256), whole)


def mark(store: Path | None, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Add the Xet hash to the rows of a listing."""
    known = files_in(store) if store else {}
    for row in rows:
        if row.get("lfs", {}).get("oid") in known:
            row["xetHash"] = known[row["lfs"]["oid"]].hash
    return rows
