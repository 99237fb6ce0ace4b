"""Files of a commit on this machine, each hashed as it lies there: the Hub's client checks sizes only.

A file that is there and right costs no request, so that a download goes on where it was interrupted.
Other bytes than the expected are thrown away and asked for twice more, then it is an error. Where nothing
else is expected it is what the Hub itself says that it has, or one flipped bit would pass for a status.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from queue import Empty, SimpleQueue
from tempfile import TemporaryDirectory
from threading import Thread
from typing import Any

from adapter_hub.errors import IntegrityError, UnreachableError
from adapter_hub.hub.arriving import DAMAGED, Arrival, Source
from adapter_hub.hub.names import Wanted, check_path
from adapter_hub.hub.patience import SLOWEST
from adapter_hub.hub.session import public
from adapter_hub.reporting import ReceivedBytes

AT_ONCE = 4  # files


def scratch_folder() -> TemporaryDirectory[str]:
    """Return a context that gives the path of a folder to download to, and removes it.

    Requests that were given up may write into it while it is removed; what is left then is the system's.
    """
    return TemporaryDirectory(prefix="adapter-hub-", ignore_cleanup_errors=True)


def download_files(
    source: Source,
    wanted: Mapping[str, Wanted | None],
    folder: Path,
    progress: ReceivedBytes | None,
    limit: int | None,
) -> None:
    """Bring every wanted file of a repository's commit into `folder`; see `HubClient.download`."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in wanted:
        check_path(path)

    def bring(item: tuple[str, Wanted | None]) -> str | None:
        path, expected = item
        target = folder / path
        make_way(target)
        if expected is not None and expected.is_at(target):
            if progress:
                progress(expected.size)
            return None
        target.unlink(missing_ok=True)  # wrong, or of unknown content
        target.parent.mkdir(parents=True, exist_ok=True)
        return _bring(Arrival(source, path, expected, target, limit, progress))

    if found := sorted(text for text in _in_parallel(bring, list(wanted.items())) if text):
        raise IntegrityError(f"{source} on {public(source.address)} is damaged", found, "tell its owner")


def _bring(arrival: Arrival) -> str | None:
    """Fetch one file until it is right; return what is wrong with it after the last attempt, or None."""
    wrong = None
    for _ in range(DAMAGED):
        _arrive(arrival)
        wrong = arrival.difference()
        if wrong is None:
            arrival.land()
            return None
    return wrong


def _arrive(arrival: Arrival) -> None:
    """Fetch one file to its end, patiently, and with new patience for as long as it comes on."""
    source = arrival.source
    try:
        while True:
            before = arrival.size
            try:
                source.patience.persist(
                    arrival.attempt, arrival.what, public(source.address), size=arrival.most
                )
            except UnreachableError:
                if arrival.size - before <= source.patience.total * SLOWEST:
                    raise
            else:
                return
    except OSError:
        arrival.restart()  # the disk is full, for one
        raise
    finally:
        arrival.give_up()


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


def make_way(place: Path) -> None:
    """Remove a link or a folder from where a file has to go; a damaged download must not stay damaged."""
    if place.is_symlink():
        place.unlink()
    elif place.is_dir():
        shutil.rmtree(place)
