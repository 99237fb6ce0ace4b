"""Files of a commit on this machine, each hashed as it lies there: the client checks sizes only.

A file that is there and right costs no request, so that a download goes on where it was interrupted.
Other bytes than the expected are thrown away and asked for twice more, then it is an error. Where nothing
else is expected it is what the Hub itself says that it has, or one flipped bit would pass for a status.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from queue import Empty, SimpleQueue
from tempfile import TemporaryDirectory
from threading import Thread
from typing import TYPE_CHECKING, Any

from adapter_hub.errors import IntegrityError
from adapter_hub.hub.names import RemoteFile, RepoId, Wanted, check_path, sha256_of
from adapter_hub.hub.patience import Patience

if TYPE_CHECKING:
    from huggingface_hub import HfApi

Progress = Callable[[int], None]
AT_ONCE = 4  # files
REPEATED = 8  # how often the client may count the same bytes, which it asks for again after a cut
WRONG_BYTES = 3  # how often other bytes may come before it counts as damage on the Hub


def scratch_folder() -> TemporaryDirectory[str]:
    """Return a context that gives the path of a folder to download to, and removes it.

    Requests that were given up may write into it while it is removed; what is left then is the system's.
    """
    return TemporaryDirectory(prefix="adapter-hub-", ignore_cleanup_errors=True)


def download_files(
    api: HfApi,
    patience: Patience,
    place: tuple[RepoId, str],
    wanted: Mapping[str, Wanted | None],
    folder: Path,
    progress: Progress | None,
    limit: int | None,
) -> None:
    """Bring every wanted file of a repository's commit into `folder`; see `HubClient.download`."""
    repo, commit = place
    folder.mkdir(parents=True, exist_ok=True)

    def bring(item: tuple[str, Wanted | None]) -> str | None:
        path, expected = item
        make_way(folder / check_path(path))
        if expected is not None and expected.is_at(folder / path):
            if progress:
                progress(expected.size)
            return None

        what = f"{path} of {repo}@{commit[:12]}"

        def fetch(anew: bool) -> object:
            def request() -> object:
                return api.hf_hub_download(
                    repo.id,
                    path,
                    repo_type=repo.kind,
                    revision=commit,
                    local_dir=folder,
                    force_download=anew,
                    tqdm_class=_counter(progress, what, expected.size if expected else limit),
                )

            size = expected.size if expected else 0
            return patience.persist(request, what, api.endpoint, size=size)

        return _checked(path, expected, folder, fetch)

    if found := sorted(text for text in _in_parallel(bring, list(wanted.items())) if text):
        raise IntegrityError(f"{repo}@{commit[:12]} on {api.endpoint} is damaged", found, "tell its owner")


def _in_parallel(work: Callable[[Any], str | None], items: list[Any]) -> list[str | None]:
    """Return what `work` returns for each item; on an error or Ctrl-C the rest is left to die with us.

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
        Thread(target=run, daemon=True, name="adapter-hub download").start()
    results: list[str | None] = []
    while len(results) < len(items):
        result = finished.get()
        if isinstance(result, BaseException):
            raise result
        results.append(result)
    return results


def _checked(path: str, expected: Wanted | None, folder: Path, fetch: Callable[[bool], object]) -> str | None:
    """Fetch one file until it is right; return what is wrong with it after the last attempt, or None."""
    wrong = None
    for _ in range(WRONG_BYTES):
        fetch((folder / path).is_file())  # what is there is wrong, or of unknown content
        wrong = _difference(path, expected, folder)
        if wrong is None:
            return None
        (folder / path).unlink()
    return wrong


def _difference(path: str, expected: Wanted | None, folder: Path) -> str | None:
    """Return how a file that came differs from what was expected, or from what the Hub said it has."""
    file = folder / path
    size = file.stat().st_size
    if expected is not None:
        sha256 = sha256_of(file)
        if (size, sha256) == (expected.size, expected.sha256):
            return None
        there, wanted = f"sha256 {sha256[:12]}…", f"{expected.size} with {expected.sha256[:12]}…"
        return f"{path}: {size} bytes with {there}, expected {wanted}"
    said = _said_hash(path, folder)
    if said is None or RemoteFile(path, size, said if len(said) == 64 else None, said).holds(file):
        return None
    return f"{path}: other bytes than the Hub says it has ({said[:12]}…)"


def _said_hash(path: str, folder: Path) -> str | None:
    """Return the hash that came with a file: sha256 in large-file storage, git's id of any other one."""
    from huggingface_hub._local_folder import read_download_metadata  # noqa: PLC0415 - where the client puts it

    noted = read_download_metadata(folder, path)
    return noted.etag if noted and re.fullmatch(r"[0-9a-f]{40}|[0-9a-f]{64}", noted.etag) else None


def make_way(place: Path) -> None:
    """Remove a link or a folder from where a file has to go; a damaged download must not stay damaged."""
    if place.is_symlink():
        place.unlink()
    elif place.is_dir():
        shutil.rmtree(place)


def _counter(progress: Progress | None, what: str, limit: int | None) -> Any:
    """Return what the client takes for a progress bar: it counts, stops what is too large, and draws nothing.

    A server that announces another size than the commit's list of files could fill the disk otherwise.
    """

    class Counter:
        def __init__(self, *_: Any, total: float | None = None, **__: Any) -> None:
            self.n, self.total = 0, int(total or 0)
            self.format_dict: dict[str, Any] = {}  # what Xet reads of a bar
            self._check(self.total, 1)

        def update(self, count: float | None = 1) -> None:
            self.n += int(count or 0)
            self._check(self.n, REPEATED)
            if progress and count:
                progress(int(count))

        def _check(self, size: int, times: int) -> None:
            if limit is not None and size > times * limit:
                raise IntegrityError(f"{what}: {size} bytes come, at most {times * limit} may")

        def __enter__(self) -> Counter:
            return self

        def __exit__(self, *_: object) -> None:
            return None

        def __getattr__(self, _: str) -> Callable[..., None]:
            return lambda *args, **kwargs: None

    return Counter
