"""Lock files: one writer at a time, also where several users share a folder.

    with held(store / ".lock", 60.0, f"store {store}"): ...

A lock is an empty file that stays; what counts is who has locked it, so a process that dies leaves none. It
may be opened by every user who may write to its folder. A pipe, a folder or a link in its place is an error.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from adapter_hub.errors import ConflictError, InvalidInputError

if TYPE_CHECKING:
    from filelock import BaseFileLock


def lock_file(path: Path, timeout: float) -> BaseFileLock:
    """Return the lock in a file, not yet held; the file's folder has to be there.

    Args:
        path: the file.
        timeout: seconds that `acquire` waits before it raises `filelock.Timeout`.

    Raises:
        InvalidInputError: something else is in its place. PermissionError: this user may not lock it.
        OSError: it cannot be made, whoever asks.
    """
    from filelock import FileLock  # noqa: PLC0415 - readers need none

    mode = 0o644 | path.parent.stat().st_mode & 0o022  # who may write here may take a turn
    try:
        status = path.lstat()
    except FileNotFoundError:
        if not os.access(path.parent, os.W_OK | os.X_OK):
            hint = "its folder cannot be written; ask its owner for that right, or name a place of your own"
            raise PermissionError(errno.EACCES, hint, str(path)) from None
        _make(path, mode)
        return FileLock(path, timeout=timeout, mode=mode)
    if not stat.S_ISREG(status.st_mode):
        raise InvalidInputError(
            f"{path}: is not an ordinary file, so it cannot be locked; find out who put it there, and "
            "remove it"
        )
    if not os.access(path, os.R_OK | os.W_OK):
        hint = "belongs to another user and cannot be locked; its owner can let you, with `chmod g+w`"
        raise PermissionError(errno.EACCES, hint, str(path))
    return FileLock(path, timeout=timeout, mode=mode)


def _make(path: Path, mode: int) -> None:
    """Make a lock file; where none can be made, filelock would try until its time is over, as if held.

    Raises:
        OSError: with the reason of the system.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0)
    with suppress(FileExistsError):  # another process was faster
        os.close(os.open(path, flags, mode))
        with suppress(PermissionError):
            path.chmod(mode)  # whatever the umask says


@contextmanager
def held(
    path: Path, timeout: float, what: str, busy: str = "another process keeps it locked; try again"
) -> Iterator[None]:
    """Hold the lock in a file.

    Args:
        path: the file; its folder has to be there.
        timeout: seconds to wait for others; 0 tries once, -1 waits for as long as it takes.
        what: that is locked, for the message.
        busy: what the message says if another process has it.

    Raises:
        ConflictError: another process held it for all that time. InvalidInputError, PermissionError: see
            `lock_file`.
    """
    from filelock import Timeout  # noqa: PLC0415

    try:
        lock = lock_file(path, timeout).acquire()
    except Timeout:
        raise ConflictError(f"{what}: {busy}") from None
    with lock:
        yield
