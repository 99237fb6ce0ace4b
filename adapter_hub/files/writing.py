"""Writing so that a crash leaves the old or the new, never half.

    write_atomically(path, data)
    with folder_in_the_making(folder) as temporary:
        ...  # files are written into `temporary`, which then becomes `folder` in one step

Whatever appears under its final name is whole: written under a temporary name, flushed to the disk,
renamed, and the folder flushed too. Temporary names start with `.tmp-`, and every reader skips them.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple, Self

from adapter_hub.errors import InvalidInputError

TEMPORARY = ".tmp-"
_OF_THE_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS)
STALE_SECONDS = 24 * 3600  # a temporary name older than this belongs to a process that died


class Stamp(NamedTuple):
    """What changes when a file does, as the file system keeps it; no program can set `changed` back.

    Attributes:
        size: in bytes.
        modified: when it was written to last, ns.
        changed: when it or its entry was, ns.
        inode: its number.
    """

    size: int
    modified: int
    changed: int
    inode: int

    @classmethod
    def of(cls, status: os.stat_result) -> Self:
        """Return the stamp of a file that was looked at."""
        return cls(status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)


def sync_file(path: Path) -> None:
    """Flush the content of a file to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_folder(path: Path) -> None:
    """Flush a folder's list of names to the disk."""
    if os.name == "posix":  # elsewhere a folder cannot be opened
        sync_file(path)


def make_folder(path: Path) -> None:
    """Make a folder and its parents, and flush every name that was new."""
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    path.mkdir(parents=True, exist_ok=True)
    for folder in missing:
        sync_folder(folder.parent)


def make_private(folder: Path) -> None:
    """Make a folder that only this user can enter; one that is there stays as it is."""
    if not folder.exists():
        make_folder(folder.parent)
        with suppress(FileExistsError):
            folder.mkdir(mode=0o700)
        sync_folder(folder.parent)


def temporary_beside(path: Path) -> Path:
    """Return an unused temporary name in the folder of `path`."""
    return path.parent / f"{TEMPORARY}{os.getpid()}-{secrets.token_hex(6)}"


def is_temporary(name: str) -> bool:
    """Tell whether `temporary_beside` gave this name."""
    return re.fullmatch(rf"{re.escape(TEMPORARY)}[0-9]+-[0-9a-f]{{12}}", name) is not None


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file whole or not at all; a reader sees the old content or the new.

    A link in its place is replaced, and its target stays as it is; `resolved` is for links that are to stay.

    Args:
        path: of the file; its folder is made if missing.
        data: its content.

    Raises:
        InvalidInputError: a pipe or a device is there, which would be gone.
        OSError: the disk refused (full, read-only); the old content is still there.
    """
    make_folder(path.parent)
    _refuse_device(path)
    temporary = temporary_beside(path)
    try:
        with (
            naming(path),
            temporary.open("xb") as file,
        ):  # the mode is the umask's, so that others can read it
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)  # noqa: PTH105 - the one place, named as the system call is
    finally:
        temporary.unlink(missing_ok=True)
    sync_folder(path.parent)


def check_writable(path: Path) -> None:
    """Refuse a place that a file or folder cannot be written to, before work that would be lost.

    Args:
        path: of what will be written; neither it nor its folder need exist yet.

    Raises:
        InvalidInputError: a pipe or a device is there. OSError: nothing can be written there.
    """
    _refuse_device(path)
    folder = next(folder for folder in path.absolute().parents if os.path.lexists(folder))
    trial = temporary_beside(folder / path.name)
    try:
        trial.touch(exist_ok=False)
        trial.unlink()
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from None


def _refuse_device(path: Path) -> None:
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise InvalidInputError(f"{path}: a pipe or a device; expected the name of an ordinary file")


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Let an error of the disk name the file that is written; of an open file the system names none.

    safetensors tells the system's errors in words; they become what they are.

    Args:
        path: that will be there in the end.

    Raises:
        OSError: as the body, with a name.
    """
    try:
        yield
    except Exception as error:
        number = disk_error(error)
        if number not in _OF_THE_DISK or getattr(error, "filename", None) is not None:
            raise
        raise OSError(number, os.strerror(number), str(path)) from None


def disk_error(error: Exception) -> int | None:
    """Return the system's number of an error of the disk; None for any other.

    Args:
        error: of the system, or of safetensors.
    """
    if isinstance(error, OSError):
        return error.errno
    if type(error).__name__ != "SafetensorError":
        return None
    found = re.search(r"\(os error (\d+)\)$", str(error))
    return int(found[1]) if found else None


def resolved(path: Path) -> Path:
    """Return where a file really is, if its user named a link to it; the lock beside it is there, too."""
    return path.resolve() if path.is_symlink() else path


def refuse_link(folder: Path) -> None:
    """Refuse a link where a folder is to be made: its target may be another user's, or missing.

    Raises:
        InvalidInputError: with the next step.
    """
    if folder.is_symlink():
        raise InvalidInputError(
            f"{folder}: a symbolic link; name the folder that it leads to, or another one"
        )


@contextmanager
def folder_in_the_making(target: Path) -> Iterator[Path]:
    """Give a temporary folder beside `target`; on success it becomes `target` in one step.

    Every file that was put into it is flushed before the renaming. On an exception it is removed.

    Args:
        target: must not exist; its parent is made if missing.

    Raises:
        FileExistsError: another process made `target` meanwhile. InvalidInputError: it is a link.
    """
    refuse_link(target)
    make_folder(target.parent)
    remove_stale(target.parent)
    temporary = temporary_beside(target)
    temporary.mkdir()
    try:
        with naming(target):
            yield temporary
        for folder, _, names in os.walk(temporary, topdown=False):
            for name in names:
                sync_file(Path(folder, name))
            sync_folder(Path(folder))
        if os.path.lexists(target):  # a link counts, wherever it leads
            raise FileExistsError(f"{target} exists")
        try:
            os.rename(temporary, target)  # noqa: PTH104
        except OSError as error:
            if os.path.lexists(target):  # Linux says ENOTEMPTY, others EEXIST or EACCES
                raise FileExistsError(f"{target} exists") from error
            raise
    finally:
        if temporary.exists():
            shutil.rmtree(temporary, ignore_errors=True)
    sync_folder(target.parent)


def remove_folder(path: Path) -> None:
    """Remove a folder so that no reader finds it half gone: renamed first, then emptied.

    A link goes as a link; what it leads to stays.

    Args:
        path: of the folder.
    """
    if path.is_symlink():
        path.unlink()
        sync_folder(path.parent)
        return
    temporary = temporary_beside(path)
    os.rename(path, temporary)  # noqa: PTH104
    sync_folder(path.parent)
    _remove_tree(temporary)


def _remove_tree(path: Path) -> None:
    """Remove a file or folder with a temporary name; it may have been replaced with a link meanwhile."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def remove_stale(folder: Path) -> None:
    """Remove what processes that died a day ago or earlier left in `folder` under temporary names.

    Others' programs have such names, too: only those that `temporary_beside` gives count.

    Args:
        folder: looked at, without the folders in it.
    """
    limit = time.time() - STALE_SECONDS
    for path in folder.glob(f"{TEMPORARY}*"):
        try:
            if is_temporary(path.name) and path.lstat().st_mtime < limit:
                _remove_tree(path)
        except OSError:
            continue  # another process was faster, or it is not ours to remove
