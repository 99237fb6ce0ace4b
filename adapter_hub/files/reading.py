"""Reading files that others may have put there: ordinary files only, and never more than a limit.

    raw = read_bounded(folder / "status.json", 16 * 2**20)
    with open_regular(path) as file: ...
    copy_regular(source, target, 279_000)

A pipe in the place of a file would keep a reader waiting forever, a device would fill the memory, and a
size that was looked at before opening is another file's by the time of reading. So a file is opened
without waiting, looked at once it is open, and read up to its limit.
"""

from __future__ import annotations

import hashlib
import os
import stat
from io import FileIO
from pathlib import Path

from adapter_hub.errors import InvalidInputError
from adapter_hub.files.writing import naming

# how a file begins that git left in the place of a large one
LFS_POINTER = b"version https://git-lfs.github.com/spec/"
IS_POINTER = "a Git LFS pointer in the file's place; run `git lfs pull` in that folder"


def check_content(start: bytes, where: str) -> None:
    """Refuse what git left in the place of a large file, before somebody calls it damaged.

    Args:
        start: the first bytes of a file.
        where: its name in errors.

    Raises:
        InvalidInputError: with the command that gets the file.
    """
    if start.startswith(LFS_POINTER):
        raise InvalidInputError(f"{where}: {IS_POINTER}")


def open_regular(path: Path, *, follow: bool = True) -> FileIO:
    """Open an ordinary file for reading, unbuffered.

    Args:
        path: the file.
        follow: False refuses a symbolic link in its place, as in folders that came from elsewhere.

    Raises:
        InvalidInputError: a folder, pipe, socket, device or (without `follow`) a link is in its place.
        OSError: it is not there, or may not be read.
    """
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)
    if not follow:
        if path.is_symlink():  # also where the system has no such flag
            raise InvalidInputError(f"{path}: a symbolic link; expected an ordinary file")
        flags |= getattr(os, "O_NOFOLLOW", 0)
    descriptor = os.open(path, flags | getattr(os, "O_BINARY", 0))
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise InvalidInputError(f"{path}: not an ordinary file but a folder, pipe, socket or device")
    return os.fdopen(descriptor, "rb", buffering=0)


def read_bounded(path: Path, limit: int, *, where: str = "", follow: bool = True) -> bytes:
    """Return the content of an ordinary file of at most `limit` bytes.

    Args:
        path: the file.
        limit: bytes; not one more is kept in memory.
        where: what messages call it; the path by default.
        follow: False refuses a symbolic link in its place.

    Raises:
        InvalidInputError: larger, or not an ordinary file. OSError: it is not there, or may not be read.
    """
    with open_regular(path, follow=follow) as file:
        size = os.fstat(file.fileno()).st_size
        pieces, left = [], limit + 1
        while size <= limit and left and (piece := file.read(min(left, 2**20))):
            pieces.append(piece)
            left -= len(piece)
    if size > limit or not left:
        raise InvalidInputError(f"{where or path}: larger than {limit} bytes, which is the most that is read")
    return b"".join(pieces)


def file_sha256(path: Path, limit: int | None = None, *, follow: bool = True) -> str:
    """Return the sha256 of an ordinary file's content, read in blocks, as 64 hexadecimal digits.

    Args:
        path: the file.
        limit: bytes; None for any size. What is appended while it is read does not count.
        follow: False refuses a symbolic link in its place.

    Raises:
        InvalidInputError: larger, or not an ordinary file. OSError: it is not there, or may not be read.
    """
    digest = hashlib.sha256()
    with open_regular(path, follow=follow) as file:
        left = os.fstat(file.fileno()).st_size
        if limit is not None and left > limit:
            raise InvalidInputError(f"{path}: larger than {limit} bytes, which is the most that is read")
        while left and (block := file.read(min(left, 2**20))):
            digest.update(block)
            left -= len(block)
    return digest.hexdigest()


def copy_regular(source: Path, target: Path, size: int, *, follow: bool = False) -> None:
    """Copy an ordinary file of exactly `size` bytes to a new one; a link only with `follow`.

    Args:
        source: the file.
        target: must not exist.
        size: bytes that the file has to have.
        follow: True also copies what a symbolic link leads to.

    Raises:
        InvalidInputError: not an ordinary file, or one of another size; at most `size` bytes are written.
        OSError: not there, not readable, or the disk refuses.
    """
    with open_regular(source, follow=follow) as file:
        found, left = os.fstat(file.fileno()).st_size, size
        if found == size:
            with naming(target), target.open("xb", buffering=0) as copy:
                while left and (piece := file.read(min(left, 2**20))):
                    view = memoryview(piece)
                    while view:
                        view = view[copy.write(view) :]
                    left -= len(piece)
            found = size - left if left else size + len(file.read(1))
    if found != size:
        raise InvalidInputError(f"{source.name}: {found} bytes, expected {size}")
