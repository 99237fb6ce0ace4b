"""From a store into the cache; where the cache cannot be written, a folder's artifact is used where it is."""

from __future__ import annotations

import errno
from dataclasses import dataclass
from pathlib import Path

from adapter_hub.artifact.folder import Artifact
from adapter_hub.errors import InvalidInputError
from adapter_hub.stores.cache import Cache
from adapter_hub.stores.contract import Store
from adapter_hub.stores.folder import FolderStore

READ_ONLY = (errno.EACCES, errno.EPERM, errno.EROFS)


@dataclass(frozen=True)
class Listed:
    """A version as a registry or a lock file lists it.

    Attributes:
        size: bytes of all its files; no more are fetched. None where that is not listed.
    """

    name: str
    version: str
    digest: str
    size: int | None = None


def land(listed: Listed, store: Store, cache: Cache) -> Artifact:
    """Bring a version from a store into the cache, and return it verified.

    Raises:
        NotFoundError, IntegrityError, StatusError: see `Store.fetch`.
        InvalidInputError: the cache cannot be written, and the store is no folder.
    """

    def fetch(folder: Path) -> Artifact:
        return store.fetch(listed.name, listed.version, folder, digest=listed.digest, size=listed.size)

    try:
        return cache.land(listed.digest, fetch)
    except OSError as error:
        if error.errno not in READ_ONLY:
            raise
        if isinstance(store, FolderStore):  # nothing is trusted of it: whoever loads it hashes what is read
            return store.found(listed.name, listed.version, listed.digest)
        raise InvalidInputError(
            f"cache {cache.folder}: cannot be written ({error.strerror}); name another with --cache"
        ) from None
