"""Downloading files of a commit: asked for, counted, resumed after a cut, and hashed on the disk.

    with scratch_folder() as folder:
        download_files(source, {"adapter.json": expected}, Path(folder))

The client of `huggingface_hub` checks sizes only, and joins the ETag into a path. Here a file is written
under a name of ours and renamed when it is right; nothing that the server says names a file. One that is
there already and right costs no request, so that a download continues where it was interrupted. Other bytes
than the expected are thrown away and asked for twice more, then it is an error. Where nothing is expected, it
is compared with what the Hub itself says that it has: otherwise one flipped bit would pass for a status.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from tempfile import TemporaryDirectory
from typing import Any, BinaryIO
from urllib.parse import quote

from adapter_hub.errors import IntegrityError, UnreachableError
from adapter_hub.files.writing import TEMPORARY
from adapter_hub.hub.names import ExpectedFile, RepoId, check_path, git_oid_of, sha256_of
from adapter_hub.hub.retry import SLOWEST, RetryPolicy
from adapter_hub.hub.session import Limits, limited, origin_of, public
from adapter_hub.reporting import ReceivedBytes

LIMIT = 16 * 2**20  # bytes of a file of which nothing is known
MARGIN = 2**20  # bytes of redirects and error pages besides the file
DAMAGED = 3  # times that other bytes may come before it counts as damage on the Hub
AT_ONCE = 4  # files


@dataclass(frozen=True)
class Source:
    """A commit of a repository to fetch files from.

    Attributes:
        address: of the Hub, as requests need it.
        repo: the repository.
        commit: 40 hexadecimal digits.
        headers: makes those of a request, the user's token among them.
        retries: limits of time.
    """

    address: str
    repo: RepoId
    commit: str
    headers: Callable[[], Mapping[str, str]]
    retries: RetryPolicy

    def __str__(self) -> str:
        return f"{self.repo}@{self.commit[:12]}"

    def url(self, path: str) -> str:
        """Return the address of a file, made of checked names alone."""
        kind = "datasets/" if self.repo.kind == "dataset" else ""
        return f"{self.address}/{kind}{self.repo.id}/resolve/{self.commit}/{quote(path)}"


class FileDownload:
    """A file that is being downloaded.

        download = FileDownload(source, "adapter.json", expected, folder / "adapter.json")
        download.attempt()               # as often as need be: it continues where the last one ended
        download.difference()            # None: it is what was expected
        download.finish()

    Attributes:
        size: bytes of it that are on the disk.
        most: bytes that may come.
    """

    def __init__(
        self,
        source: Source,
        path: str,
        expected: ExpectedFile | None,
        target: Path,
        limit: int | None = None,
        progress: ReceivedBytes | None = None,
    ) -> None:
        """Ask for nothing yet.

        Args:
            source: the commit.
            path: in the repository.
            expected: what it has to be; None takes what comes, compared with what the Hub says it has.
            target: where it goes.
            limit: bytes, where nothing is expected.
            progress: called with the number of bytes that arrived.
        """
        self.source, self.path, self.expected, self.target = source, path, expected, target
        self.most = expected.size if expected else LIMIT if limit is None else limit
        self.progress = progress
        key = f"{source} {path} {expected}".encode()
        self.partial = target.parent / f"{TEMPORARY}{hashlib.sha256(key).hexdigest()[:32]}"
        self.size, self.stated_hash = 0, ""
        self._turn, self._lock = 0, threading.Lock()

    @property
    def what(self) -> str:
        """What messages call it."""
        return f"{self.path} of {self.source}"

    def attempt(self) -> None:
        """Fetch what is missing, once.

        Raises:
            IntegrityError: more bytes arrive than are allowed. Exception: what the client raised; the
                bytes that arrived until then are kept.
        """
        from huggingface_hub import constants  # noqa: PLC0415 - 0.1 s that only the Hub's users pay
        from huggingface_hub.utils._http import get_session, hf_raise_for_status  # noqa: PLC0415

        with self._lock:
            self._turn += 1
            turn = self._turn
            self._look()
        if self.expected and self.size == self.expected.size:
            return
        seconds = self.source.retries.request + self.most / SLOWEST
        limits = Limits(self.source.address, self.what, self.most - self.size + MARGIN, seconds)
        limits.most = self.most  # for messages
        headers = {**self.source.headers(), "Accept-Encoding": "identity", "X-HF-Download-Counter": "1"}
        if self.size:
            headers["Range"] = f"bytes={self.size}-"
        with (
            limited(limits),
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
                raise UnreachableError(
                    f"{self.what}: {public(self.source.address)} cannot resume the download"
                )
            hf_raise_for_status(response)
            self._receive(response, turn)

    def _look(self) -> None:
        """Find out what is here already, of an earlier process only where one knows what it has to be."""
        there = self.partial.is_file() and not self.partial.is_symlink()
        self.size = self.partial.stat().st_size if there else 0
        if self._turn == 1 and (not there or self.expected is None) or self.size > self.most:
            self.restart()
        elif self._turn == 1 and self.progress:
            self.progress(self.size)

    def _receive(self, response: Any, turn: int) -> None:
        if response.status_code not in (200, 206):
            raise UnreachableError(
                f"{self.what}: {public(self.source.address)} answers {response.status_code}"
            )
        self.stated_hash = _stated_hash(response, self.source.address)
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
            raise IntegrityError(f"{self.what}: {size} bytes arrived; expected at most {self.most}")

    def abandon(self) -> None:
        """Let a request that is still at it write no more."""
        with self._lock:
            self._turn += 1

    def difference(self) -> str | None:
        """Compare the bytes on the disk with what was expected, or else with what the Hub said it has.

        Other bytes are thrown away.

        Returns:
            How they differ, or None.
        """
        if self.expected is None:
            stated = self.stated_hash
            own = sha256_of(self.partial) if len(stated) == 64 else git_oid_of(self.partial)
            good = not stated or own == stated
            wrong = f"{self.path}: other bytes than the Hub says it has ({stated[:12]}…)"
        else:
            stated = self.expected.sha256 or self.expected.git_oid or ""
            own = sha256_of(self.partial) if self.expected.sha256 else git_oid_of(self.partial)
            good = (self.size, own) == (self.expected.size, stated)
            kind = "sha256" if self.expected.sha256 else "git's hash"
            wrong = (
                f"{self.path}: {self.size} bytes with {kind} {own[:12]}…, "
                f"expected {self.expected.size} with {stated[:12]}…"
            )
        if good:
            return None
        self.restart()
        return wrong

    def restart(self) -> None:
        """Throw away what came."""
        self.partial.unlink(missing_ok=True)
        self.size = 0

    def finish(self) -> None:
        """Give the file its name."""
        self.partial.replace(self.target)


def _stated_hash(response: Any, address: str) -> str:
    """Return the hash that came with a file: sha256 in large-file storage, git's id of any other one."""
    own = origin_of(address)
    answers = [item for item in (*response.history, response) if origin_of(str(item.request.url)) == own]
    for name in ("X-Linked-ETag", "ETag"):
        for answer in reversed(answers):
            text = answer.headers.get(name, "").strip('"')
            if re.fullmatch(r"[0-9a-f]{40}|[0-9a-f]{64}", text):
                return str(text)
    return ""


def scratch_folder() -> TemporaryDirectory[str]:
    """Return a context that gives the path of a folder to download to, and removes it.

    Requests that were given up may write into it while it is removed; what is left then is the system's.
    """
    return TemporaryDirectory(prefix="adapter-hub-", ignore_cleanup_errors=True)


def download_files(
    source: Source,
    expected: Mapping[str, ExpectedFile | None],
    folder: Path,
    progress: ReceivedBytes | None = None,
    limit: int | None = None,
) -> None:
    """Download every expected file of a commit into a folder; see `HubClient.download`.

    Args:
        source: the commit.
        expected: by path, what each file has to be; None takes what comes.
        folder: made if missing; it keeps finished files if this fails.
        progress: called with the number of bytes that arrived, from several threads.
        limit: bytes of a file of which nothing is expected.

    Raises:
        IntegrityError: other bytes came, every time. UnreachableError, NotFoundError, AccessError.
        OSError: the disk is full or not writable.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for path in expected:
        check_path(path)

    def fetch(item: tuple[str, ExpectedFile | None]) -> str | None:
        path, file = item
        target = folder / path
        clear_path(target)
        if file is not None and file.is_at(target):
            if progress:
                progress(file.size)
            return None
        target.unlink(missing_ok=True)  # wrong, or of unknown content
        target.parent.mkdir(parents=True, exist_ok=True)
        return _fetch(FileDownload(source, path, file, target, limit, progress))

    if found := sorted(text for text in _in_parallel(fetch, list(expected.items())) if text):
        raise IntegrityError(f"{source} on {public(source.address)} is damaged", found, "tell its owner")


def _fetch(download: FileDownload) -> str | None:
    """Fetch one file until it is right; return what is wrong with it after the last attempt, or None."""
    wrong = None
    for _ in range(DAMAGED):
        _fetch_whole(download)
        wrong = download.difference()
        if wrong is None:
            download.finish()
            return None
    return wrong


def _fetch_whole(download: FileDownload) -> None:
    """Fetch one file to its end; the time for retries starts again whenever enough of it has come."""
    source = download.source
    try:
        while True:
            before = download.size
            try:
                source.retries.run(
                    download.attempt, download.what, public(source.address), size=download.most
                )
            except UnreachableError:
                if download.size - before <= source.retries.total * SLOWEST:
                    raise
            else:
                return
    except OSError:
        download.restart()  # the disk is full, for one
        raise
    finally:
        download.abandon()


def _in_parallel(work: Callable[[Any], str | None], items: list[Any]) -> list[str | None]:
    """Return what `work` returns for each item; on an error or Ctrl-C the rest ends with the program.

    Not a pool of the standard library: that waits for every running download before the program may end.
    """
    if len(items) == 1:
        return [work(items[0])]
    waiting: SimpleQueue[Any] = SimpleQueue()
    finished: SimpleQueue[str | None | BaseException] = SimpleQueue()
    for item in items:
        waiting.put(item)

    def run() -> None:
        try:
            while True:
                finished.put(work(waiting.get_nowait()))
        except Empty:
            return
        except BaseException as error:  # noqa: BLE001 - raised again where it is waited for
            finished.put(error)

    for _ in range(min(AT_ONCE, len(items))):
        threading.Thread(target=run, daemon=True, name="adapter-hub download").start()
    results: list[str | None] = []
    while len(results) < len(items):
        result = finished.get()
        if isinstance(result, BaseException):
            raise result
        results.append(result)
    return results


def clear_path(place: Path) -> None:
    """Remove a link or a folder from where a file has to go; a damaged download must not stay damaged."""
    if place.is_symlink():
        place.unlink()
    elif place.is_dir():
        shutil.rmtree(place)
