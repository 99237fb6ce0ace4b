"""Paths below a folder that this program manages, reached without following a link.

    path = below(store, "alice/da", "1.0.0")              # InvalidInputError if any of these is a link
    write_below(store, "alice/da/status.json", data)
    left = remove_below(models, "alice/da", names)        # what is not among `names` stays

The folder itself may be a link: that is its user's choice. A link below it was put there by others, and
would make this program write, overwrite or delete elsewhere. What changes the disk goes down folder by
folder, each opened as what it is, so that none can be exchanged on the way. What only reads looks at
every folder before: exchanging one in that moment makes it read another file that this user can read,
which is not a report, status or manifest.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath

from adapter_hub.errors import InvalidInputError
from adapter_hub.files.writing import make_folder, naming, temporary_beside


def below(root: Path, *parts: str) -> Path:
    """Return the path of `parts` below `root`, which need not exist.

    Args:
        root: the folder that is managed.
        parts: relative POSIX paths without `..`.

    Raises:
        InvalidInputError: one of them is a link, or is in something that is not a folder.
    """
    path = root
    for name in PurePosixPath(*parts).parts:
        path = path / name
        try:
            if stat.S_ISLNK(path.lstat().st_mode):
                raise InvalidInputError(_link(path, root))
        except FileNotFoundError:
            continue
        except NotADirectoryError:
            raise InvalidInputError(f"{path.parent}: not a folder; move it away") from None
    return path


def _link(path: Path, root: Path) -> str:
    return (
        f"{path}: a symbolic link, and nothing below {root} is reached through one; put the real thing "
        "there, or remove the link"
    )


def write_below(root: Path, relative: str, data: bytes) -> None:
    """Write a file below `root` whole or not at all, and its folders where they are missing.

    A link in the place of the file is replaced.

    Args:
        root: the folder that is managed.
        relative: POSIX path of the file below it, without `..`.
        data: its content.

    Raises:
        InvalidInputError: one of its folders is a link, or a folder is in its place. OSError: the disk
            refused.
    """
    folder, name = PurePosixPath(relative).parent, PurePosixPath(relative).name
    make_folder(root)
    with _opened(root, folder, make=True) as there:
        temporary = temporary_beside(Path(name)).name
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        try:
            with (
                naming(root / relative),
                os.fdopen(os.open(temporary, flags, 0o666, dir_fd=there), "wb") as file,
            ):
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, name, src_dir_fd=there, dst_dir_fd=there)
        except IsADirectoryError:
            raise InvalidInputError(f"{root / relative}: a folder; expected a file, move it away") from None
        finally:
            with suppress(FileNotFoundError):
                os.unlink(temporary, dir_fd=there)
        os.fsync(there)


def remove_below(root: Path, relative: str, names: Collection[str]) -> None:
    """Remove these files of a folder below `root`, and the folders in it that are empty then.

    What is not among `names` stays; what is gone already does no harm, and a link goes as a link.

    Args:
        root: the folder that is managed.
        relative: of the folder, as a POSIX path.
        names: POSIX paths of files in that folder.

    Raises:
        InvalidInputError: a folder on the way is a link. OSError: the disk refused.
    """
    folders = {folder for name in names for folder in PurePosixPath(name).parents[:-1]}
    for name in sorted(names):
        with suppress(FileNotFoundError), _opened(root, PurePosixPath(relative, name).parent) as there:
            os.unlink(PurePosixPath(name).name, dir_fd=there)
    for folder in sorted(folders, key=lambda folder: len(folder.parts), reverse=True):
        with suppress(FileNotFoundError), _opened(root, PurePosixPath(relative, folder).parent) as there:
            _remove_if_empty(folder.name, there)
    with suppress(FileNotFoundError), _opened(root, PurePosixPath(relative)) as there:
        os.fsync(there)


def _remove_if_empty(name: str, there: int) -> None:
    try:
        os.rmdir(name, dir_fd=there)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise


@contextmanager
def _opened(root: Path, folder: PurePosixPath, *, make: bool = False) -> Iterator[int]:
    """Give the descriptor of a folder below `root`."""
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
    here, place = os.open(root, flags), root
    try:
        for name in folder.parts:
            place = place / name
            if make:
                _make(name, here)
            inner = _enter(name, here, place, root)
            os.close(here)
            here = inner
        yield here
    finally:
        os.close(here)


def _make(name: str, here: int) -> None:
    try:
        os.mkdir(name, dir_fd=here)
    except FileExistsError:
        return
    os.fsync(here)


def _enter(name: str, here: int, place: Path, root: Path) -> int:
    try:
        return os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW, dir_fd=here)
    except OSError as error:
        if error.errno not in (errno.ELOOP, errno.ENOTDIR):
            raise
    raise InvalidInputError(
        _link(place, root) if place.is_symlink() else f"{place}: not a folder; move it away"
    )
