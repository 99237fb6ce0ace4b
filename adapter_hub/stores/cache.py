"""The cache of pulled adapters, by digest: verified on landing, then trusted as long as it is untouched.

    cache = Cache(cache_folder())
    artifact = cache.get(digest) or cache.add(artifact_from_elsewhere)

    <cache>/artifacts/<digest>/…      <cache>/stamps/<digest>.json

A stamp holds size, times of modification and of change, and inode of every file as verified. While they
agree, getting an adapter costs a look at each file's entry and no hashing; otherwise it is verified again,
and dropped if it is damaged, so that the next pull fetches it again.

What that promises: nobody but this user (and root) can make this program take bytes for verified that are
not. A stamp is believed only where nobody else can write, from the root of the disk down to the cache
(`is_private`), if it and every file that it speaks of are this user's own; in any other cache, like one that
a group shares, everything is hashed on every use. A cache that this program makes is closed to others.
Programs of this user can do what this one can, and no stamp keeps them from it; `cache verify` hashes all.

Beside them lies what training and evaluation make of data sets (`features/`, `datasets/`), which this
module lists and prunes, too. Links that somebody put there are not followed: what they lead to stays.
"""

from __future__ import annotations

import json
import os
import shutil
import stat
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from adapter_hub.artifact.folder import Artifact, copy_artifact
from adapter_hub.errors import AdapterHubError, IntegrityError
from adapter_hub.files.beneath import below
from adapter_hub.files.ownership import is_ours, is_private
from adapter_hub.files.reading import open_regular, read_bounded
from adapter_hub.files.writing import (
    Stamp,
    make_folder,
    make_private,
    remove_folder,
    remove_stale,
    write_atomically,
)
from adapter_hub.formats.canonical import hex_of
from adapter_hub.isolation import isolated

MAXIMUM_STAMP = 4 * 2**20  # bytes; 4096 files
MAXIMUM_PLAN = 64 * 2**20  # bytes of what describes a data set
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
        self._private = False
        self._closed: bool | None = None  # whether others cannot even enter it
        self._opened: dict[str, tuple[list[Row], Artifact]] = {}  # with the entries that it was opened with

    def place(self, digest: str) -> Path:
        """Return the folder that the adapter with this digest has or will have.

        Args:
            digest: of the adapter's manifest.
        """
        return self.folder / "artifacts" / hex_of(digest)

    def _stamp(self, digest: str) -> Path:
        return self.folder / "stamps" / f"{hex_of(digest)}.json"

    def get(self, digest: str) -> Artifact | None:
        """Return the adapter with this digest, or None if it is not there (any more).

        Args:
            digest: of the adapter's manifest.

        Raises:
            InvalidInputError: the folder of artifacts is a link.
        """
        folder = self.place(digest)
        seen = self._look(folder)
        if seen is None:
            return None
        rows, believed = seen
        stamp = self._read_stamp(digest) if believed else None
        before = self._opened.get(digest)
        if before and before[0] == rows == stamp:
            return before[1]
        try:
            artifact = Artifact.open(folder)
            if artifact.digest != digest:
                raise IntegrityError(f"{folder}: holds {artifact.digest}")
            if stamp != rows:
                artifact.verify()
        except AdapterHubError:
            with suppress(OSError):  # a read-only cache keeps it, and it is never given out
                remove_folder(folder)
            return None
        return self._noted(artifact, rows, believed, new=stamp != rows)

    def _look(self, folder: Path) -> tuple[list[Row], bool] | None:
        """Return the entries of an adapter's files, and whether a stamp of them can be believed."""
        below(self.folder, "artifacts")
        try:
            status = folder.lstat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        if not stat.S_ISDIR(status.st_mode):
            with suppress(OSError):
                folder.unlink()  # a link; what it leads to stays
            return None
        rows, own = [], self._is_own(status)
        for path, entry in _entries(folder):
            own = own and self._is_own(entry)
            if not stat.S_ISDIR(entry.st_mode):
                rows.append((path, Stamp.of(entry)))
        return sorted(rows), own and self._is_private()

    def _is_private(self) -> bool:
        """Tell whether nobody else can write; once that is so, nobody but this user can undo it."""
        if not self._private:
            with suppress(OSError):
                inner = [os.lstat(self.folder / name) for name in ("artifacts", "stamps")]
                folders = all(stat.S_ISDIR(status.st_mode) and self._is_own(status) for status in inner)
                self._private = folders and is_private(self.folder)
        return self._private

    def _is_own(self, status: os.stat_result) -> bool:
        if self._closed is None:
            with suppress(OSError):
                self._closed = not self.folder.stat().st_mode & 0o077
        return is_ours(status, reached=not self._closed)

    def _noted(self, artifact: Artifact, rows: list[Row], believed: bool, new: bool) -> Artifact:
        """Return a verified artifact with its stamps, if they will be believed, and note that it was used."""
        with suppress(OSError):  # a read-only cache is verified on every use
            if new:
                self._write_stamp(artifact.digest, rows if believed else [])
            os.utime(self._stamp(artifact.digest))
        if not believed:
            return artifact
        artifact = replace(artifact, stamps=dict(rows))
        self._opened[artifact.digest] = rows, artifact
        return artifact

    def add(self, artifact: Artifact) -> Artifact:
        """Copy an artifact into the cache, verified, and return the copy.

        Args:
            artifact: from elsewhere.
        """
        if found := self.get(artifact.digest):
            return found
        return self.land(artifact.digest, lambda folder: copy_artifact(artifact, folder))

    def land(self, digest: str, fetch: Callable[[Path], Artifact]) -> Artifact:
        """Let `fetch` put the adapter with this digest, whole and verified, in its place.

        Args:
            digest: of the adapter's manifest.
            fetch: writes the artifact to the folder that it is given, verified.

        Raises:
            InvalidInputError: the folder of artifacts is a link. OSError: the cache cannot be written.
        """
        make_private(self.folder)
        below(self.folder, "artifacts")
        artifact = fetch(self.place(digest))
        with suppress(OSError):
            make_folder(self.folder / "stamps")
        rows, believed = self._look(artifact.path) or ([], False)
        return self._noted(artifact, rows, believed, new=True)

    def entries(self) -> list[CacheEntry]:
        """Return what is there, sorted by name and version."""
        found = []
        folder = below(self.folder, "artifacts")
        for path in folder.glob("[0-9a-f]*") if folder.is_dir() else ():
            digest = f"sha256:{path.name}"
            try:
                ref = "damaged" if path.is_symlink() else Artifact.open(path).ref
            except AdapterHubError:
                ref = "damaged"
            stamp = self._stamp(digest)
            used = stamp.stat().st_mtime if stamp.exists() else 0.0
            found.append(CacheEntry(digest, ref, _size(path), used, path))
        return sorted(found, key=lambda entry: (entry.ref, entry.digest))

    def data(self) -> list[CacheEntry]:
        """Return what is kept of data: log-mel features, in packs of many clips, and data sets of the Hub."""
        packs = [
            CacheEntry("", "features", path.stat().st_size, path.stat().st_mtime, path)
            for folder in self._folders("features")
            for path in sorted(folder.glob("*.safetensors"))
        ]
        plans = [path for folder in self._folders("datasets") for path in folder.glob("dataset.json")]
        return packs + [_data_set(plan) for plan in sorted(plans)]

    def _folders(self, name: str) -> list[Path]:
        """Return the folders in a folder of the cache; links lead to what is not the cache's."""
        place = self.folder / name
        inner = sorted(place.glob("*")) if not place.is_symlink() else []
        return [path for path in inner if path.is_dir() and not path.is_symlink()]

    def prune(self, unused_days: float = 30.0, keep: Collection[str] = ()) -> list[CacheEntry]:
        """Remove what was not asked for in `unused_days`, except the digests in `keep`.

        Args:
            unused_days: how long an entry may have been unused.
            keep: digests of adapters that stay.

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
            if not (self.folder / name).is_symlink():
                remove_stale(self.folder / name)
        self._prune_downloads(min(limit, time.time() - DAY))
        return gone

    def _prune_downloads(self, limit: float) -> None:
        """Remove unfinished downloads that were not resumed."""
        place = self.folder / "downloads"
        for path in place.glob("*") if not place.is_symlink() else ():
            status = path.lstat()
            if status.st_mtime > limit:
                continue
            if stat.S_ISDIR(status.st_mode):
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)

    def verify(self) -> dict[str, str]:
        """Hash every file again.

        Returns:
            What is wrong, by the folder's name or `namespace/name@version`; empty if all is sound.
        """
        found: dict[str, AdapterHubError] = {}
        for entry in self.entries():
            name = entry.path.name if entry.ref == "damaged" else entry.ref
            with isolated(name, partial(found.__setitem__, name)):
                artifact = Artifact.open(entry.path)
                artifact.verify()
                if artifact.digest != entry.digest:
                    raise IntegrityError(f"{entry.path}: holds {artifact.ref} with digest {artifact.digest}")
        return {name: str(error) for name, error in found.items()}

    def _read_stamp(self, digest: str) -> list[Row] | None:
        """Return what was written down when this adapter was verified, if that was this user."""
        try:
            with open_regular(self._stamp(digest), follow=False) as file:
                if not self._is_own(os.fstat(file.fileno())):
                    return None
                note = json.loads(file.read(MAXIMUM_STAMP))
            if note["digest"] != digest:
                return None
            return [(name, Stamp(*stamp)) for name, stamp in note["files"]]
        except (OSError, ValueError, TypeError, KeyError, RecursionError):
            return None

    def _write_stamp(self, digest: str, rows: list[Row]) -> None:
        write_atomically(self._stamp(digest), json.dumps({"digest": digest, "files": rows}).encode())


def _data_set(plan: Path) -> CacheEntry:
    folder = plan.parent
    try:
        row = json.loads(read_bounded(plan, MAXIMUM_PLAN, follow=False))
        ref = f"{row['repo']}:{row['config']} {row['split']} @{row['commit'][:12]}"
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        ref = "damaged"
    return CacheEntry("", ref, _size(folder), plan.lstat().st_mtime, folder)


def _size(folder: Path) -> int:
    """Return the bytes of the files in a folder; none for a link."""
    if folder.is_symlink():
        return 0
    return sum(status.st_size for _, status in _entries(folder) if stat.S_ISREG(status.st_mode))


def _entries(folder: Path) -> Iterator[tuple[str, os.stat_result]]:
    """Yield path and entry of everything below `folder`, links not followed."""
    waiting = [""]
    while waiting:
        prefix = waiting.pop()
        with os.scandir(f"{folder}/{prefix}") as found:
            for item in found:
                status = item.stat(follow_symlinks=False)
                yield f"{prefix}{item.name}", status
                if stat.S_ISDIR(status.st_mode):
                    waiting.append(f"{prefix}{item.name}/")
