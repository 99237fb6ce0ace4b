"""All repositories of one server: create, find, delete, rename."""

from __future__ import annotations

import re
import shutil
import threading
import uuid
from pathlib import Path

from loopback_hub.answers import HubError, MovedError
from loopback_hub.disk import read_json, write_json
from loopback_hub.repository import Repository

KINDS = ("model", "dataset")
NAME = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,94}[A-Za-z0-9_])?")


class Repositories:
    """The repositories below one folder, `models/ns/name` and `datasets/ns/name`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.lock = threading.RLock()
        self._open: dict[tuple[str, str], Repository] = {}
        self._moved_path = folder / "moved.json"
        self._moved: dict[str, str] = read_json(self._moved_path) if self._moved_path.is_file() else {}
        for kind in KINDS:
            for meta in (folder / f"{kind}s").glob("*/*/meta.json"):
                repo_id = f"{meta.parts[-3]}/{meta.parts[-2]}"
                self._open[kind, repo_id] = Repository(meta.parent, kind, repo_id)

    def all(self, kind: str) -> list[Repository]:
        with self.lock:
            return [repo for (what, _), repo in self._open.items() if what == kind]

    def get(self, kind: str, repo_id: str) -> Repository | None:
        """Return a repository, None if there is none; MovedError if it has another name now."""
        with self.lock:
            repo = self._open.get((kind, repo_id))
            if repo is None and (spelt := self._spelling(kind, repo_id)) is not None:
                raise MovedError(repo_id, spelt)
            if repo is None and (new := self._moved.get(f"{kind}s/{repo_id}")) is not None:
                raise MovedError(repo_id, new)
            return repo

    def create(self, kind: str, repo_id: str, *, author: str, private: bool = False) -> Repository:
        for part in repo_id.split("/"):
            if NAME.fullmatch(part) is None or "--" in part or ".." in part or part.endswith(".git"):
                raise HubError(400, f"Invalid repository name: {repo_id}")
        with self.lock:
            if self._spelling(kind, repo_id) is not None:
                raise HubError(409, f"You already created this {kind} repo: {repo_id}")
            folder = self._place(kind, repo_id)
            # built aside, so that another process never finds half a repository
            aside = self.folder / "incoming" / uuid.uuid4().hex
            Repository.create(aside, kind, repo_id, author=author, private=private)
            folder.parent.mkdir(parents=True, exist_ok=True)
            aside.rename(folder)
            if self._moved.pop(f"{kind}s/{repo_id}", None) is not None:
                write_json(self._moved_path, self._moved)
            repo = self._open[kind, repo_id] = Repository(folder, kind, repo_id)
            return repo

    def delete(self, repo: Repository) -> None:
        with self.lock, repo.lock:
            del self._open[repo.kind, repo.id]
            gone = self.folder / "incoming" / uuid.uuid4().hex
            gone.parent.mkdir(exist_ok=True)
            repo.folder.rename(gone)
            shutil.rmtree(gone)

    def rename(self, repo: Repository, new: str) -> None:
        with self.lock, repo.lock:
            if (repo.kind, new) in self._open:
                raise HubError(409, f"{new} exists already")
            place = self._place(repo.kind, new)
            place.parent.mkdir(parents=True, exist_ok=True)
            repo.folder.rename(place)
            del self._open[repo.kind, repo.id]
            self._moved = {
                old: new if old.startswith(f"{repo.plural}/") and target == repo.id else target
                for old, target in self._moved.items()
            }
            self._moved.pop(f"{repo.plural}/{new}", None)
            self._moved[f"{repo.plural}/{repo.id}"] = new
            write_json(self._moved_path, self._moved)
            self._open[repo.kind, new] = Repository(place, repo.kind, new)

    def _spelling(self, kind: str, repo_id: str) -> str | None:
        """Return the name of a repository as its owner spells it, which any other case leads to."""
        names = [name for what, name in self._open if what == kind]
        return next((name for name in names if name.lower() == repo_id.lower()), None)

    def _place(self, kind: str, repo_id: str) -> Path:
        return self.folder / f"{kind}s" / repo_id
