"""One request on its way through the server, and the state that it works on."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlencode

from loopback_hub.accounts import Accounts, User
from loopback_hub.answers import Answer, HubError, repo_not_found
from loopback_hub.repositories import Repositories
from loopback_hub.repository import Commit, Refs, Repository


class World:
    """All that lies in the folder."""

    def __init__(
        self, folder: Path, page_size: int = 1000, redirect: bool = False, xet: bool = False
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.page_size = page_size
        self.xet = folder / "xet-store" if xet else None
        self.redirect = redirect  # contents in LFS come from another address
        shutil.rmtree(folder / "incoming", ignore_errors=True)  # what a killed server had begun
        self.accounts = Accounts(folder)
        self.repositories = Repositories(folder)

    @property
    def incoming(self) -> Path:
        """Where uploads and repositories lie until they are whole."""
        (self.folder / "incoming").mkdir(exist_ok=True)
        return self.folder / "incoming"


@dataclass
class Call:
    """What the client asks for; `parts` are the named pieces of the path, still percent-encoded."""

    world: World
    endpoint: str  # the address that the client used
    method: str
    path: str
    parts: dict[str, str | None]
    query: dict[str, list[str]]
    headers: dict[str, str]
    body: bytes = b""
    upload: Path | None = None  # a PUT's body
    changes_ago: int = 0  # of the refs: a fault that answers with an old state

    @cached_property
    def user(self) -> User | None:
        return self.world.accounts.by_authorization(self.headers.get("authorization"))

    def part(self, name: str) -> str:
        return unquote(self.parts.get(name) or "")

    @property
    def kind(self) -> str:
        return self.parts.get("kind") or ("dataset" if self.parts.get("datasets") else "model")

    def json(self) -> dict[str, Any]:
        try:
            value = json.loads(self.body or b"{}")
        except ValueError:
            raise HubError(400, "The body is not JSON") from None
        if not isinstance(value, dict):
            raise HubError(400, "The body is not a JSON object")
        return value

    def asked(self, name: str) -> bool:
        return self.query.get(name, ["false"])[0].lower() in ("true", "1")

    # --- repositories

    def seen(self) -> Repository:
        """Return the repository of the path, if the user may know of it."""
        user = self.user
        repo = self.world.repositories.get(self.kind, f"{self.part('namespace')}/{self.part('name')}")
        if repo is None:
            raise repo_not_found(user is not None)
        self.world.accounts.check_sees(user, repo)
        return repo

    def readable(self) -> Repository:
        repo = self.seen()
        self.world.accounts.check_reads(self.user, repo)
        return repo

    def writable(self) -> tuple[Repository, User]:
        repo = self.seen()
        return repo, self.world.accounts.check_writes(self.user, repo.namespace)

    def refs(self, repo: Repository) -> Refs:
        return repo.refs(self.changes_ago)

    def commit(self, repo: Repository) -> Commit:
        """Return the commit that the path names; `main` if it names none."""
        return repo.resolve(self.part("revision") or "main", self.refs(repo))

    def url_of(self, repo: Repository) -> str:
        return f"{self.endpoint}/{'datasets/' if repo.kind == 'dataset' else ''}{repo.id}"

    # --- answers in pages

    def page(self, rows: list[Any]) -> Answer:
        """Answer with one page of the rows, and the address of the next one."""
        start = int(self.query.get("cursor", ["0"])[0])
        size = min(int(self.query.get("limit", ["1000"])[0]), self.world.page_size)
        headers = {"X-Total-Count": str(len(rows))}
        if start + size < len(rows):
            query = urlencode({**self.query, "cursor": [start + size]}, doseq=True)
            headers["Link"] = f'<{self.endpoint}{self.path}?{query}>; rel="next"'
        return Answer.json(rows[start : start + size], headers=headers)
