"""One repository on disk: commits, branches, tags, contents; every change under one lock."""

from __future__ import annotations

import copy
import re
import secrets
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from loopback_hub.answers import HubError, entry_not_found, revision_not_found
from loopback_hub.disk import now, read_json, write_bytes, write_json
from loopback_hub.git_objects import blob_name, commit_name, pointer, tree_name

REMEMBERED_CHANGES = 50  # of refs, so that an old state can be served
ATTRIBUTES = "".join(
    f"*.{ending} filter=lfs diff=lfs merge=lfs -text\n"
    for ending in ("bin", "flac", "parquet", "safetensors")
).encode()


@dataclass(frozen=True)
class File:
    """An entry of a commit; with `sha256` its content is in LFS and `oid` names the pointer."""

    oid: str
    size: int
    sha256: str | None = None

    @property
    def etag(self) -> str:
        return self.sha256 or self.oid


@dataclass(frozen=True)
class Commit:
    """A state of all files, and where it came from."""

    oid: str
    parents: tuple[str, ...]
    message: str
    author: str
    date: str
    files: dict[str, File]

    @property
    def title(self) -> str:
        return self.message.partition("\n")[0]


@dataclass
class Refs:
    """Where branches and tags point."""

    branches: dict[str, str]
    tags: dict[str, str]


class Repository:
    """The folder of one repository; `meta.json` holds all that can change."""

    def __init__(self, folder: Path, kind: str, repo_id: str) -> None:
        self.folder = folder
        self.kind = kind
        self.id = repo_id
        self.lock = threading.RLock()
        self._commits: dict[str, Commit] = {}
        self.meta: dict[str, Any] = read_json(folder / "meta.json")

    @classmethod
    def create(cls, folder: Path, kind: str, repo_id: str, *, author: str, private: bool) -> Repository:
        time = now()
        meta = {
            "_id": secrets.token_hex(12),
            "createdAt": time,
            "lastModified": time,
            "private": private,
            "gated": False,
            "granted": [],  # who may read it while it is gated
            "downloads": 0,
            "likes": 0,
            "branches": {},
            "tags": {},
            "changes": [],  # of branches and tags, the last ones: [what, name, commit before]
        }
        write_json(folder / "meta.json", meta)
        repo = cls(folder, kind, repo_id)
        first = {".gitattributes": repo.keep(ATTRIBUTES)}
        repo.point("branches", "main", repo.store(first, (), "initial commit", author).oid)
        return repo

    @property
    def namespace(self) -> str:
        return self.id.partition("/")[0]

    @property
    def plural(self) -> str:
        return f"{self.kind}s"

    def save(self) -> None:
        write_json(self.folder / "meta.json", self.meta)

    # --- contents

    def keep(self, content: bytes) -> File:
        """Store the content of an ordinary file."""
        name = blob_name(content)
        if not (path := self.folder / "blobs" / name).is_file():
            write_bytes(path, content)
        return File(name, len(content))

    def lfs_path(self, sha256: str) -> Path:
        return self.folder / "lfs" / sha256

    def lfs_file(self, sha256: str) -> File:
        """Name an object that was uploaded before."""
        path = self.lfs_path(sha256)
        if re.fullmatch("[0-9a-f]{64}", sha256) is None or not path.is_file():
            raise HubError(
                400,
                "Your push was rejected because an LFS pointer pointed to a file that does not exist."
                f" Offending oid: {sha256}",
            )
        size = path.stat().st_size
        return File(blob_name(pointer(sha256, size)), size, sha256)

    def content_path(self, file: File) -> Path:
        return self.folder / "blobs" / file.oid if file.sha256 is None else self.lfs_path(file.sha256)

    # --- commits

    def store(self, files: dict[str, File], parents: tuple[str, ...], message: str, author: str) -> Commit:
        """Write a commit that no ref points to yet."""
        date = now()
        tree = tree_name({path: file.oid for path, file in files.items()})
        # the clock has milliseconds, a name must be new also within one
        name = commit_name(tree, parents, author, datetime.now(UTC).isoformat(), message)
        commit = Commit(name, parents, message, author, date, dict(sorted(files.items())))
        rows = {
            path: [file.oid, file.size, *([file.sha256] if file.sha256 else [])]
            for path, file in commit.files.items()
        }
        value = {"parents": parents, "message": message, "author": author, "date": date, "files": rows}
        write_json(self.folder / "commits" / f"{name}.json", value)
        return commit

    def commit(self, oid: str) -> Commit:
        if oid not in self._commits:
            try:
                value = read_json(self.folder / "commits" / f"{oid}.json")
            except FileNotFoundError:
                raise revision_not_found(oid) from None
            files = {path: File(*row) for path, row in value["files"].items()}
            parents, message = tuple(value["parents"]), value["message"]
            self._commits[oid] = Commit(oid, parents, message, value["author"], value["date"], files)
        return self._commits[oid]

    def history(self, oid: str) -> Iterator[Commit]:
        """Yield a commit and its ancestors, the newest first; every commit here has one parent at most."""
        following: str | None = oid
        while following is not None:
            commit = self.commit(following)
            yield commit
            following = commit.parents[0] if commit.parents else None

    def forget_commits(self, unwanted: set[str]) -> None:
        for oid in unwanted:
            (self.folder / "commits" / f"{oid}.json").unlink(missing_ok=True)
            self._commits.pop(oid, None)

    def reachable(self) -> set[str]:
        """Return the commits that a branch or a tag still holds."""
        with self.lock:
            tips = {*self.meta["branches"].values(), *self.meta["tags"].values()}
            return {commit.oid for tip in tips for commit in self.history(tip)}

    def stored(self) -> set[str]:
        return {path.stem for path in (self.folder / "commits").glob("*.json")}

    # --- branches and tags

    def refs(self, changes_ago: int = 0) -> Refs:
        """Return the refs as they are, or as they were some changes ago."""
        with self.lock:
            refs = {"branches": dict(self.meta["branches"]), "tags": dict(self.meta["tags"])}
            changes = copy.copy(self.meta["changes"])
        for what, name, before in reversed(changes[len(changes) - changes_ago :] if changes_ago else []):
            if before is None:
                refs[what].pop(name, None)
            else:
                refs[what][name] = before
        refs["branches"] = refs["branches"] or dict(self.meta["branches"])  # never before the first commit
        return Refs(refs["branches"], refs["tags"])

    def point(self, what: str, name: str, commit: str | None) -> None:
        """Let a branch or a tag (`what` is "branches" or "tags") point to a commit, or remove it."""
        with self.lock:
            before = self.meta[what].get(name)
            if commit is None:
                self.meta[what].pop(name, None)
            else:
                self.meta[what][name] = commit
            self.meta["changes"] = [*self.meta["changes"], [what, name, before]][-REMEMBERED_CHANGES:]
            self.meta["lastModified"] = now()
            self.save()

    def resolve(self, revision: str, refs: Refs | None = None) -> Commit:
        """Return the commit of a branch, a tag, or a whole or shortened commit name."""
        refs = refs or self.refs()
        for known in (refs.branches, refs.tags):
            if revision in known:
                return self.commit(known[revision])
        if re.fullmatch("[0-9a-f]{40}", revision):
            return self.commit(revision)
        if re.fullmatch("[0-9a-f]{7,39}", revision):
            found = [oid for oid in self.stored() if oid.startswith(revision)]
            if len(found) == 1:
                return self.commit(found[0])
        raise revision_not_found(revision)

    def read(self, commit: Commit, path: str) -> bytes:
        if path not in commit.files:
            raise entry_not_found(path, commit.oid)
        return self.content_path(commit.files[path]).read_bytes()
