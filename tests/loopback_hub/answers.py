"""What the server says: an answer, and the errors of the Hub with their `X-Error-Code`."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Answer:
    """A status, headers and a body: bytes, or a part of a file that is sent in pieces."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    file: Path | None = None
    start: int = 0  # of the part of `file`
    length: int | None = None  # of the part of `file`, or what HEAD announces
    pieces: Iterator[bytes] | None = None  # a body of unknown length instead

    @classmethod
    def json(cls, value: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Answer:
        body = json.dumps(value, ensure_ascii=False).encode()
        return cls(status, body, {"Content-Type": "application/json; charset=utf-8", **(headers or {})})

    @property
    def size(self) -> int:
        return len(self.body) if self.length is None else self.length

    def content(self) -> bytes:
        """Return the whole body, read from the file if it lies there."""
        if self.file is None:
            return self.body
        with self.file.open("rb") as stream:
            stream.seek(self.start)
            return stream.read(self.size)


class HubError(Exception):
    """An answer that says no."""

    def __init__(self, status: int, message: str, code: str | None = None, **headers: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code
        self.more: dict[str, object] = {}  # besides the message, in the body
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}

    def answer(self) -> Answer:
        # a header is Latin-1 and one line; the body has the message as it is
        line = self.message.replace("\n", " ").encode("latin-1", "replace").decode("latin-1")
        headers = {"X-Error-Message": line, **self.headers}
        if self.code is not None:
            headers["X-Error-Code"] = self.code
        return Answer.json({"error": self.message, **self.more}, self.status, headers)


class MovedError(Exception):
    """The repository has another name now; carries the new one."""

    def __init__(self, old: str, new: str) -> None:
        super().__init__(f"{old} is now {new}")
        self.old = old
        self.new = new


def repo_not_found(known_user: bool) -> HubError:
    """Say that nothing is there; to a stranger the Hub says instead that he has to log in."""
    if known_user:
        return HubError(404, "Repository not found", "RepoNotFound")
    return HubError(401, "Invalid username or password.", "RepoNotFound")


def revision_not_found(revision: str) -> HubError:
    return HubError(404, f"Invalid rev id: {revision}", "RevisionNotFound")


def entry_not_found(path: str, commit: str | None = None) -> HubError:
    headers = {} if commit is None else {"X_Repo_Commit": commit}
    return HubError(404, f"Entry not found: {path}", "EntryNotFound", **headers)
