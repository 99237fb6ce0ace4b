"""The server as tests hold it."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from loopback_hub.accounts import User
from loopback_hub.call import World
from loopback_hub.exchange_log import Entry, ExchangeLog
from loopback_hub.faults import Faults, spoilt
from loopback_hub.repository import Refs, Repository
from loopback_hub.server import Server

Callback = Callable[[str, Entry], None]


class LoopbackHub:
    """A Hugging Face Hub on 127.0.0.1 that keeps everything below `folder`.

    Repositories are named "alice/pl", or "datasets/alice/registry" for a dataset. Users alice and bob may
    write, also in the organisation mini; reader may only read. `token(name)` makes further users.
    """

    def __init__(
        self,
        folder: Path | str,
        *,
        port: int = 0,
        page_size: int = 1000,
        redirect: bool = False,
        xet: bool = False,
    ) -> None:
        self.folder = Path(folder)
        self.log = ExchangeLog()
        self.faults = Faults()
        self.xet = xet  # large files go through Xet, one process at a time
        self.page_size = page_size  # of trees, commits and searches
        self.redirect = redirect  # send downloads of LFS contents to another host, as the real Hub does
        self._first_port = port
        self._callbacks: list[Callback] = []
        self._server: Server | None = None
        self._endpoint = ""

    # --- running

    def start(self, port: int | None = None) -> Self:
        """Serve the folder, read again; on any free port, or the given one (`hub.port`: the one before)."""
        self.world = World(self.folder, self.page_size, self.redirect, self.xet)
        self._server = Server(
            self._first_port if port is None else port, self.world, self.log, self.faults, self._notify
        )
        self._endpoint = self._server.endpoint
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def stop(self) -> None:
        """Be down: connections are refused and the open ones cut."""
        if self._server is not None:
            self._server.stop()
            self._server = None

    def settle(self) -> None:
        """Wait until what was asked for is carried out, also for clients that are gone."""
        if self._server is not None:
            self._server.settle()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if (client := sys.modules.get("huggingface_hub")) is not None:
            client.close_session()  # its connections are to this server
        self.stop()

    @property
    def endpoint(self) -> str:
        return self._endpoint

    @property
    def port(self) -> int:
        return int(self._endpoint.rpartition(":")[2])

    def on_exchange(self, callback: Callback) -> Callable[[], None]:
        """Call `callback(phase, entry)` at "received", "processed" and "answered"; returns how to end it."""
        self._callbacks.append(callback)
        return lambda: self._callbacks.remove(callback)

    def _notify(self, phase: str, entry: Entry) -> None:
        for callback in list(self._callbacks):
            callback(phase, entry)

    # --- users

    def user(self, name: str) -> User:
        return self.world.accounts.users.get(name) or self.world.accounts.add_user(name)

    def token(self, user: str = "alice") -> str:
        return self.user(user).token

    def environment(self, user: str | None = "alice") -> dict[str, str]:
        """Return what a process needs to use this Hub and nothing else; None: somebody without a token."""
        home = self.folder / "homes" / (user or "stranger")
        home.mkdir(parents=True, exist_ok=True)
        return {
            "HF_ENDPOINT": self.endpoint,
            "HF_TOKEN": self.token(user) if user else "",
            "HF_HOME": str(home),
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "HF_HUB_DISABLE_XET": "0" if self.xet else "1",
            "HF_HUB_DISABLE_UPDATE_CHECK": "1",
            "NO_PROXY": "127.0.0.1",
        }

    def grant(self, repo_id: str, user: str) -> None:
        """Let somebody read a gated repository."""
        repo = self.repository(repo_id)
        with repo.lock:
            repo.meta["granted"].append(user)
            repo.save()

    # --- looking

    def repository(self, repo_id: str) -> Repository:
        kind, name = self._split(repo_id)
        repo = self.world.repositories.get(kind, name)
        assert repo is not None, f"there is no {repo_id}"
        return repo

    def has(self, repo_id: str) -> bool:
        kind, name = self._split(repo_id)
        return any(repo.id == name for repo in self.world.repositories.all(kind))

    def refs(self, repo_id: str) -> Refs:
        return self.repository(repo_id).refs()

    def files(self, repo_id: str, revision: str = "main") -> dict[str, bytes]:
        """Return every file of a commit, straight from the disk."""
        repo = self.repository(repo_id)
        commit = repo.resolve(revision)
        return {path: repo.read(commit, path) for path in commit.files}

    # --- what an owner or an attacker does behind the client's back

    def create(self, repo_id: str, *, private: bool = False) -> Repository:
        kind, name = self._split(repo_id)
        author = name.partition("/")[0]
        return self.world.repositories.create(kind, name, author=author, private=private)

    def write(self, repo_id: str, files: dict[str, bytes | None], message: str = "change") -> str:
        """Commit to main, None deletes; returns the commit. All are ordinary files, none in LFS."""
        repo = self.repository(repo_id)
        with repo.lock:
            head = repo.resolve("main")
            kept = {path: file for path, file in head.files.items() if files.get(path, b"") is not None}
            added = {path: repo.keep(content) for path, content in files.items() if content is not None}
            made = repo.store({**kept, **added}, (head.oid,), message, repo.namespace)
            repo.point("branches", "main", made.oid)
            return made.oid

    def move_tag(self, repo_id: str, tag: str, commit: str | None) -> None:
        """Let a tag point elsewhere, or remove it."""
        self.repository(repo_id).point("tags", tag, commit)

    def move_branch(self, repo_id: str, branch: str, commit: str | None) -> None:
        self.repository(repo_id).point("branches", branch, commit)

    def corrupt(self, repo_id: str, path: str, revision: str = "main") -> None:
        """Let the disk rot: from now on other bytes of the same size are served under the same name."""
        assert not self.xet, "clients would read the Xet store, which stays whole"
        repo = self.repository(repo_id)
        place = repo.content_path(repo.resolve(revision).files[path])
        place.write_bytes(spoilt(place.read_bytes()))

    def recreate(self, repo_id: str) -> Repository:
        """Delete a repository and create it again, empty, as somebody else would."""
        repo = self.repository(repo_id)
        private = repo.meta["private"]
        self.delete(repo_id)
        return self.create(repo_id, private=private)

    def delete(self, repo_id: str) -> None:
        self.world.repositories.delete(self.repository(repo_id))

    def rename(self, old: str, new: str) -> None:
        """Give a repository another name; the old one answers 307 from now on."""
        self.world.repositories.rename(self.repository(old), self._split(new)[1])

    def collect_garbage(self, repo_id: str) -> int:
        """Delete the commits that no branch and no tag holds; returns how many."""
        repo = self.repository(repo_id)
        with repo.lock:
            unheld = repo.stored() - repo.reachable()
            repo.forget_commits(unheld)
        return len(unheld)

    @staticmethod
    def _split(repo_id: str) -> tuple[str, str]:
        name = repo_id.removeprefix("datasets/")
        return ("dataset" if name != repo_id else "model"), name
