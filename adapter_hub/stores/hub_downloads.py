"""An artifact's files from a commit: gathered where an interrupted download goes on, verified, then in place.

<cache>/downloads/<hash of the commit>/      unfinished, with a lock beside it
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from adapter_hub.artifact.folder import Artifact, copy_artifact
from adapter_hub.errors import ConflictError, IntegrityError
from adapter_hub.files.locks import held
from adapter_hub.files.writing import make_folder, make_private, write_atomically
from adapter_hub.formats.canonical import digest_of, sha256_hex
from adapter_hub.formats.manifest import MANIFEST_FILE, Manifest
from adapter_hub.hub import ExpectedFile, HubClient, RepoId, clear_path
from adapter_hub.reporting import ReceivedBytes

LOCK_SECONDS = 3600.0


@dataclass(frozen=True)
class Commit:
    """A commit on a Hub to download from; `progress` is called with the number of bytes that arrived."""

    client: HubClient
    repo: RepoId
    id: str
    progress: ReceivedBytes | None = None

    def __str__(self) -> str:
        return f"{self.repo}@{self.id[:12]}"


def fetch_artifact(commit: Commit, manifest: Manifest, folder: Path, cache: Path) -> Artifact:
    """Download an artifact to `folder`, which appears whole and verified or not at all.

    Args:
        commit: that holds it.
        manifest: the one in that commit.
        folder: where it goes; if it is there already, it has to be the same.
        cache: below it unfinished downloads are kept.

    Raises:
        ConflictError: `folder` is something else. IntegrityError: other bytes than the manifest's came.
    """
    with _downloads(commit, cache) as downloads:
        if not folder.exists():
            clear_path(downloads / MANIFEST_FILE)
            write_atomically(downloads / MANIFEST_FILE, manifest.to_bytes())  # it came before the rest
            download_artifact(commit, manifest, downloads)
            copied = copy_artifact(Artifact.open(downloads), folder, link=True)
            shutil.rmtree(downloads, ignore_errors=True)  # a request that was given up may still write
            return copied
    there = Artifact.open(folder)  # another process was faster
    if there.digest != digest_of(manifest.to_bytes()):
        raise ConflictError(f"{folder}: holds {there.ref} with digest {there.digest}; name another folder")
    there.verify()
    return there


def download_artifact(commit: Commit, manifest: Manifest, folder: Path) -> None:
    """Download an artifact's files to a folder, each hashed from the disk.

    Args:
        commit: that holds it.
        manifest: with size and sha256 of every file.
        folder: where they go.

    Raises:
        IntegrityError: the commit is not the manifest's; before any of it is stored, if sizes show it.
    """
    raw = manifest.to_bytes()
    wanted = {entry.path: ExpectedFile(entry.size, entry.sha256) for entry in manifest.files}
    wanted[MANIFEST_FILE] = ExpectedFile(len(raw), sha256_hex(raw))
    tree = commit.client.tree(commit.repo, commit.id)
    problems = [f"{path}: missing" for path in wanted if path not in tree]
    problems += [
        f"{path}: {tree[path].size} bytes there, expected {item.size}"
        for path, item in wanted.items()
        if path in tree and tree[path].size != item.size
    ]
    if problems:
        raise IntegrityError(f"{commit} on {commit.client.endpoint}", problems, "tell its owner")
    commit.client.download(commit.repo, commit.id, wanted, folder, commit.progress)


@contextmanager
def _downloads(commit: Commit, cache: Path) -> Iterator[Path]:
    """Give the folder in which a commit's files gather; one process at a time."""
    key = sha256_hex(f"{commit.client.endpoint} {commit.repo} {commit.id}".encode())[:32]
    place = cache / "downloads"
    make_private(cache)
    make_folder(place)
    with held(place / f"{key}.lock", LOCK_SECONDS, f"download of {commit}"):
        yield place / key
