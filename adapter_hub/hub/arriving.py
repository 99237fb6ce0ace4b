"""One file on its way here: asked for, counted, gone on with after a cut, and hashed as it lies here.

    arrival = Arrival(source, "adapter.json", wanted, folder / "adapter.json", limit)
    arrival.attempt()                # as often as need be: it goes on where the last one ended
    wrong = arrival.difference()     # None: it is what was wanted
    arrival.land()

It is written under a name of ours and renamed when it is right. Nothing that the server says names a file:
the client of `huggingface_hub` joins the ETag into a path.
"""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import quote

from adapter_hub.errors import IntegrityError, UnreachableError
from adapter_hub.files.writing import TEMPORARY
from adapter_hub.hub.names import RepoId, Wanted, git_oid_of, sha256_of
from adapter_hub.hub.patience import SLOWEST, Patience
from adapter_hub.hub.session import Limits, answers_of, origin_of, public
from adapter_hub.reporting import ReceivedBytes

LIMIT = 16 * 2**20  # bytes of a file of which nothing is known
MARGIN = 2**20  # bytes of redirects and error pages besides the file
DAMAGED = 3  # times that other bytes may come before it counts as damage on the Hub


@dataclass(frozen=True)
class Source:
    """A commit of a repository to fetch files from.

    Attributes:
        address: of the Hub, as requests need it.
        repo: the repository.
        commit: 40 hexadecimal digits.
        headers: makes those of a request, the user's token among them.
        patience: limits of time.
    """

    address: str
    repo: RepoId
    commit: str
    headers: Callable[[], Mapping[str, str]]
    patience: Patience

    def __str__(self) -> str:
        return f"{self.repo}@{self.commit[:12]}"

    def url(self, path: str) -> str:
        """Return the address of a file, made of checked names alone."""
        kind = "datasets/" if self.repo.kind == "dataset" else ""
        return f"{self.address}/{kind}{self.repo.id}/resolve/{self.commit}/{quote(path)}"


class Arrival:
    """A file that is being fetched; see the module."""

    def __init__(
        self,
        source: Source,
        path: str,
        wanted: Wanted | None,
        target: Path,
        limit: int | None = None,
        progress: ReceivedBytes | None = None,
    ) -> None:
        """Ask for nothing yet.

        Args:
            source: the commit.
            path: in the repository.
            wanted: what it has to be; None takes what comes, compared with what the Hub says it has.
            target: where it goes.
            limit: bytes, where nothing is wanted.
            progress: called with the number of bytes that arrived.
        """
        self.source, self.path, self.wanted, self.target = source, path, wanted, target
        self.most = wanted.size if wanted else LIMIT if limit is None else limit
        self.progress = progress
        key = f"{source} {path} {wanted}".encode()
        self.partial = target.parent / f"{TEMPORARY}{hashlib.sha256(key).hexdigest()[:32]}"
        self.size, self.said = 0, ""
        self._turn, self._lock = 0, threading.Lock()

    @property
    def what(self) -> str:
        """What messages call it."""
        return f"{self.path} of {self.source}"

    def attempt(self) -> None:
        """Fetch what is missing, once.

        Raises:
            IntegrityError: more bytes come than may. Exception: whatever the client raised; what came until
                then is kept.
        """
        from huggingface_hub import constants  # noqa: PLC0415 - 0.1 s that only the Hub's users pay
        from huggingface_hub.utils._http import get_session, hf_raise_for_status  # noqa: PLC0415

        with self._lock:
            self._turn += 1
            turn = self._turn
            self._look()
        if self.wanted and self.size == self.wanted.size:
            return
        seconds = self.source.patience.request + self.most / SLOWEST
        limits = Limits(self.source.address, self.what, self.most - self.size + MARGIN, seconds)
        limits.most = self.most  # for messages
        headers = {**self.source.headers(), "Accept-Encoding": "identity", "X-HF-Download-Counter": "1"}
        if self.size:
            headers["Range"] = f"bytes={self.size}-"
        with (
            answers_of(limits),
            get_session().stream(
                "GET",
                self.source.url(self.path),
                headers=headers,
                timeout=constants.HF_HUB_DOWNLOAD_TIMEOUT,
                follow_redirects=True,
            ) as response,
        ):
            if response.status_code == 416:
                self.restart()
                raise UnreachableError(f"{self.what}: {public(self.source.address)} has no rest of it")
            hf_raise_for_status(response)
            self._receive(response, turn)

    def _look(self) -> None:
        """Find out what is here already, of an earlier process only where one knows what it has to be."""
        there = self.partial.is_file() and not self.partial.is_symlink()
        self.size = self.partial.stat().st_size if there else 0
        if self._turn == 1 and (not there or self.wanted is None) or self.size > self.most:
            self.restart()
        elif self._turn == 1 and self.progress:
            self.progress(self.size)

    def _receive(self, response: Any, turn: int) -> None:
        if response.status_code not in (200, 206):
            raise UnreachableError(
                f"{self.what}: {public(self.source.address)} answers {response.status_code}"
            )
        self.said = _said_hash(response, self.source.address)
        goes_on = response.headers.get("content-range", "").startswith(f"bytes {self.size}-")
        if self.size and not (response.status_code == 206 and goes_on):
            self.restart()
        length = response.headers.get("content-length", "")
        if length.isdecimal():
            self._check_size(self.size + int(length[:20]))
        with self.partial.open("ab", buffering=0) as file:
            for piece in response.iter_bytes():
                self._write(file, piece, turn)

    def _write(self, file: BinaryIO, piece: bytes, turn: int) -> None:
        with self._lock:
            if turn != self._turn:
                raise UnreachableError(f"{self.what}: given up")
            self._check_size(self.size + len(piece))
            left = memoryview(piece)
            while left:  # a disk that is nearly full takes a part
                left = left[file.write(left) :]
            self.size += len(piece)
        if self.progress:
            self.progress(len(piece))

    def _check_size(self, size: int) -> None:
        if size > self.most:
            self.restart()
            raise IntegrityError(f"{self.what}: {size} bytes come, at most {self.most} may")

    def give_up(self) -> None:
        """Let a request that is still at it write no more."""
        with self._lock:
            self._turn += 1

    def difference(self) -> str | None:
        """Return how what lies here differs from what was wanted, or else from what the Hub said it has.

        What is wrong is thrown away.
        """
        if self.wanted is None:
            expected = self.said
            own = sha256_of(self.partial) if len(expected) == 64 else git_oid_of(self.partial)
            good = not expected or own == expected
            wrong = f"{self.path}: other bytes than the Hub says it has ({expected[:12]}…)"
        else:
            expected = self.wanted.sha256 or self.wanted.git_oid or ""
            own = sha256_of(self.partial) if self.wanted.sha256 else git_oid_of(self.partial)
            good = (self.size, own) == (self.wanted.size, expected)
            kind = "sha256" if self.wanted.sha256 else "git's hash"
            wrong = (
                f"{self.path}: {self.size} bytes with {kind} {own[:12]}…, "
                f"expected {self.wanted.size} with {expected[:12]}…"
            )
        if good:
            return None
        self.restart()
        return wrong

    def restart(self) -> None:
        """Throw away what came."""
        self.partial.unlink(missing_ok=True)
        self.size = 0

    def land(self) -> None:
        """Give the file its name."""
        self.partial.replace(self.target)


def _said_hash(response: Any, address: str) -> str:
    """Return the hash that came with a file: sha256 in large-file storage, git's id of any other one."""
    own = origin_of(address)
    answers = [item for item in (*response.history, response) if origin_of(str(item.request.url)) == own]
    for name in ("X-Linked-ETag", "ETag"):
        for answer in reversed(answers):
            text = answer.headers.get(name, "").strip('"')
            if re.fullmatch(r"[0-9a-f]{40}|[0-9a-f]{64}", text):
                return str(text)
    return ""
