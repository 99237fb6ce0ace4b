"""What this machine remembers from one command to the next: a record in a small JSON file of the user's.

    file = RecordFile(cache / "remembered" / "….json", KnownRepo, refuse=damaged)
    file.read()                                      # None if nothing was remembered yet
    with file.locked():
        file.write(after)

Such a file is what a first sight is trusted by, so one that is damaged is not taken for a missing one: it is
refused, and the message says what to delete.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Generic, TypeVar

from adapter_hub.errors import AdapterHubError, InvalidInputError, NewerFormatError
from adapter_hub.files.locks import held
from adapter_hub.files.reading import read_bounded
from adapter_hub.files.writing import make_folder, make_private, write_atomically
from adapter_hub.formats.canonical import Record

LOCK_SECONDS = 20.0
R = TypeVar("R", bound=Record)


class RecordFile(Generic[R]):
    """A file that holds one record.

    Attributes:
        path: of the file.
    """

    def __init__(
        self,
        path: Path,
        record: type[R],
        refuse: Callable[[str], AdapterHubError],
        *,
        most: int = 16 * 2**20,
        lock: str = ".lock",
        cache: Path | None = None,
    ) -> None:
        """Name a file without reading it.

        Args:
            path: of the file.
            record: what it holds.
            refuse: makes the error for a damaged file from what is wrong with it.
            most: bytes; a larger file counts as damaged.
            lock: name of the lock file beside it; files in one folder may share one.
            cache: the folder that it is in, made if missing so that only this user can enter it.
        """
        self.path, self._record, self._refuse, self._most = path, record, refuse, most
        self._lock, self._cache = lock, cache

    def read(self) -> R | None:
        """Return the record, or None if there is no such file.

        Raises:
            NewerFormatError: a later program wrote it.
            AdapterHubError: it cannot be read, or holds something else; made by `refuse`.
        """
        try:
            return self._record.parse(read_bounded(self.path, self._most), str(self.path))
        except (FileNotFoundError, NotADirectoryError):
            return None
        except NewerFormatError:
            raise
        except (InvalidInputError, OSError) as error:
            raise self._refuse(str(error)) from None

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other writers out, and make the folder if it is missing.

        Raises:
            ConflictError: another process held the lock for too long. OSError: the folder cannot be written.
        """
        with locked_beside(self.path, self._lock, self._cache):
            yield

    def write(self, record: R) -> None:
        """Replace the file in one step; see `locked` for how to change it.

        Raises:
            OSError: the disk refused.
        """
        write_atomically(self.path, json.dumps(record.to_json(), indent=1, sort_keys=True).encode())


@contextmanager
def locked_beside(path: Path, lock: str, cache: Path | None = None) -> Iterator[None]:
    """Keep other writers of a file out, and make its folder if it is missing.

    Args:
        path: of the file.
        lock: name of the lock file beside it.
        cache: the folder that it is in, made if missing so that only this user can enter it.

    Raises:
        ConflictError: another process held the lock for too long. OSError: the folder cannot be written.
    """
    if cache is not None:
        make_private(cache)
    make_folder(path.parent)
    with held(path.with_name(lock), LOCK_SECONDS, str(path)):
        yield
