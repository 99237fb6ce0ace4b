"""The cache of pulled adapters, by digest: verified on landing, then trusted as long as it is untouched.

    cache = Cache(cache_folder())
    artifact = cache.get(digest) or cache.add(artifact_from_elsewhere)

    <cache>/artifacts/<digest>/…      <cache>/stamps/<digest>.json

A stamp holds size, modification time and inode of every file as verified. While they agree, getting an
adapter costs a look at each file's entry and no hashing; otherwise it is verified again, and dropped if
it is damaged, so that the next pull brings it anew. Beside them lies what training and evaluation make
of data sets (`features/`, `datasets/`), which this module lists and prunes, too.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from adapter_hub.artifact import Artifact, copy_artifact
from adapter_hub.canonical import hex_of
from adapter_hub.errors import AdapterHubError, IntegrityError
from adapter_hub.paths import Stamp, remove_folder, remove_stale, write_atomically

DAY = 24 * 3600.0  # seconds
Row = tuple[str, Stamp]


@dataclass(frozen=True)
class CacheEntry:
    """An adapter in the cache, or some data.

    Attributes:
        digest: of the adapter's manifest; empty for data.
        ref: `namespace/name@version`, or `damaged`; of data, what it is.
        size: bytes on disk.
        used: when it was last asked for, as `time.time()`.
        path: its folder, or its file.
    """

    digest: str
    ref: str
    size: int
    used: float
    path: Path


class Cache:
    """A folder of adapters by digest.

    Attributes:
        folder: where they are; made when the first one lands.
    """

    def __init__(self, folder: Path) -> None:
        """Name a cache without touching it."""
        self.folder = folder
        self._opened: dict[str, tuple[list[Row], Artifact]] = {}  # with the entries that it was opened with

    def place(self, digest: str) -> Path:
        """Return the folder that the adapter with this digest has or will have."""
        return self.folder / "artifacts" / hex_of(digest)

    def _stamp(self, digest: str) -> Path:
        return self.folder / "stamps" / f"{hex_of(digest)}.json"

    def get(self, digest: str) -> Artifact | None:
        """Return the adapter with this digest, or None if it is not there (any more)."""
        folder = self.place(digest)
        if not folder.is_dir():
            return None
        rows = _rows(folder)
        before = self._opened.get(digest)
        if before and before[0] == rows == self._read_stamp(digest):
            return before[1]
        try:
            artifact = Artifact.open(folder)
            if artifact.digest != digest:
                raise IntegrityError(f"{folder}: holds {artifact.digest}")
            if self._read_stamp(digest) != rows:
                artifact.verify()
        except AdapterHubError:
            remove_folder(folder)
            return None
        if self._read_stamp(digest) != rows:
            self._write_stamp(digest, rows)
        with suppress(OSError):  # a read-only cache does not note when it was used
            os.utime(self._stamp(digest))
        artifact = replace(artifact, stamps=dict(rows))
        self._opened[digest] = rows, artifact
        return artifact

    def add(self, artifact: Artifact) -> Artifact:
        """Copy an artifact into the cache, verified, and return the copy."""
        if found := self.get(artifact.digest):
            return found
        return self.land(artifact.digest, lambda folder: copy_artifact(artifact, folder))

    def land(self, digest: str, fetch: Callable[[Path], Artifact]) -> Artifact:
        """Let `fetch` bring the adapter with this digest, whole and verified, to its place."""
        artifact = fetch(self.place(digest))
        rows = _rows(artifact.path)
        self._write_stamp(digest, rows)
        return replace(artifact, stamps=dict(rows))

    def entries(self) -> list[CacheEntry]:
        """Return what is there, sorted by name and version."""
        found = []
        folder = self.folder / "artifacts"
        for path in folder.glob("[0-9a-f]*") if folder.is_dir() else ():
            digest = f"sha256:{path.name}"
            try:
                ref = Artifact.open(path).ref
            except AdapterHubError:
                ref = "damaged"
            stamp = self._stamp(digest)
            used = stamp.stat().st_mtime if stamp.exists() else 0.0
            found.append(CacheEntry(digest, ref, sum(stamp.size for _, stamp in _rows(path)), used, path))
        return sorted(found, key=lambda entry: (entry.ref, entry.digest))

    def data(self) -> list[CacheEntry]:
        """Return what is kept of data: log-mel features, in packs of many clips, and data sets of the Hub."""
        packs = [
            CacheEntry("", "features", path.stat().st_size, path.stat().st_mtime, path)
            for path in sorted((self.folder / "features").glob("*/*.safetensors"))
        ]
        plans = sorted((self.folder / "datasets").glob("*/dataset.json"))
        return packs + [_data_set(plan) for plan in plans]

    def prune(self, unused_days: float = 30.0, keep: Collection[str] = ()) -> list[CacheEntry]:
        """Remove what was not asked for in `unused_days`, except the digests in `keep`.

        Returns:
            The entries that were removed.
        """
        limit = time.time() - unused_days * DAY
        gone = [entry for entry in self.entries() if entry.used <= limit and entry.digest not in keep]
        for entry in gone:
            remove_folder(entry.path)
            self._stamp(entry.digest).unlink(missing_ok=True)
        for entry in self.data():
            if entry.used <= limit:
                remove_folder(entry.path) if entry.path.is_dir() else entry.path.unlink(missing_ok=True)
                gone.append(entry)
        for name in ("artifacts", "stamps", "datasets"):
            remove_stale(self.folder / name)
        for path in (self.folder / "downloads").glob("*"):  # unfinished ones that nobody went on with
            if path.lstat().st_mtime <= min(limit, time.time() - DAY):
                shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
        return gone

    def verify(self) -> dict[str, str]:
        """Hash every file again.

        Returns:
            What is wrong, by the folder's name or `namespace/name@version`; empty if all is sound.
        """
        problems = {}
        for entry in self.entries():
            try:
                artifact = Artifact.open(entry.path)
                artifact.verify()
                if artifact.digest != entry.digest:
                    raise IntegrityError(f"{entry.path}: holds {artifact.ref} with digest {artifact.digest}")
            except AdapterHubError as error:
                problems[entry.path.name if entry.ref == "damaged" else entry.ref] = str(error)
        return problems

    def _read_stamp(self, digest: str) -> list[Row] | None:
        try:
            return [(name, Stamp(*stamp)) for name, stamp in json.loads(self._stamp(digest).read_bytes())]
        except (OSError, ValueError, TypeError):
            return None

    def _write_stamp(self, digest: str, rows: list[Row]) -> None:
        with suppress(PermissionError):  # a read-only cache is verified on every use
            write_atomically(self._stamp(digest), json.dumps(rows).encode())


def _data_set(plan: Path) -> CacheEntry:
    folder = plan.parent
    try:
        row = json.loads(plan.read_bytes())
        ref = f"{row['repo']}:{row['config']} {row['split']} @{row['commit'][:12]}"
    except (OSError, ValueError, KeyError, TypeError):
        ref = "damaged"
    size = sum(stamp.size for _, stamp in _rows(folder))
    return CacheEntry("", ref, size, plan.stat().st_mtime, folder)


def _rows(folder: Path) -> list[Row]:
    """Return path and stamp of everything below `folder` but folders; links not followed."""
    rows: list[Row] = []
    for base, folders, names in os.walk(folder):
        for name in (*names, *(f for f in folders if Path(base, f).is_symlink())):
            path = Path(base, name)
            rows.append((path.relative_to(folder).as_posix(), Stamp.of(path.lstat())))
    return sorted(rows)
