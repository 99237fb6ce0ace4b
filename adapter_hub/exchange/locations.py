"""From where a version is listed to its bytes: the first of its locations that works.

manifest = listed_manifest("mini/da", "1.0.0", block, registry)
artifact = from_first("mini/da@1.0.0 cannot be fetched", block.locations, fetch)
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from adapter_hub.artifact.folder import Artifact
from adapter_hub.errors import (
    AccessError,
    AdapterHubError,
    IntegrityError,
    InvalidInputError,
    UnreachableError,
    few,
)
from adapter_hub.formats.manifest import Manifest
from adapter_hub.formats.reference import is_folder_of_store, is_hub, name_key
from adapter_hub.formats.registry_file import Location, VersionBlock
from adapter_hub.registry.contract import Registry
from adapter_hub.reporting import ReceivedBytes
from adapter_hub.stores.cache import Cache
from adapter_hub.stores.contract import Store
from adapter_hub.stores.folder import FolderStore
from adapter_hub.stores.opening import open_store

Found = TypeVar("Found")
READ_ONLY = (errno.EACCES, errno.EPERM, errno.EROFS)
NEXT_STEP = "`adapter-hub registry check` compares registry and stores"


def from_first(
    problem: str, locations: Iterable[Location], attempt: Callable[[Location], Found], hint: str = NEXT_STEP
) -> Found:
    """Return what `attempt` gives at the first location where it works.

    Args:
        problem: what the error says if it works nowhere, like `mini/da@1.0.0 cannot be fetched`.
        locations: tried in order.
        attempt: raises an `AdapterHubError` where it does not work.
        hint: the next step that the error names.

    Raises:
        UnreachableError, AccessError: no location could be asked, so nothing is known to be wrong with it.
        IntegrityError: it works nowhere, with every location and why.
    """
    tried: list[str] = []
    errors: list[AdapterHubError] = []
    for location in locations:
        try:
            return attempt(location)
        except AdapterHubError as error:
            tried.append(f"store {location.store}: {error}")
            errors.append(error)
    if errors and all(isinstance(error, UnreachableError | AccessError) for error in errors):
        raise type(errors[0])(f"{problem}: {few(tried)}")
    raise IntegrityError(problem, tried or ["no location is listed"], hint)


def open_location(
    location: Location,
    registry: Registry,
    *,
    cache: Path | None = None,
    progress: ReceivedBytes | None = None,
) -> Store:
    """Return the store in which a registry says that a version is; see `open_store`.

    Args:
        location: of the version.
        registry: that lists it; relative folders start from its folder.
        cache: folder for what a remote store needs on this machine; the user's by default.
        progress: called with the number of bytes that arrived from a remote store, from several threads.

    Raises:
        InvalidInputError: no store that can be opened, or a registry on the Hub names a folder.
    """
    if registry.is_on_hub and is_folder_of_store(location.store):
        raise InvalidInputError(
            f"registry {registry.label} is on the Hub and names a folder, {location.store}"
        )
    return open_beside(location, registry.path, f"registry {registry.label}", cache, progress)


def open_beside(
    location: Location, file: Path, named_by: str, cache: Path | None, progress: ReceivedBytes | None = None
) -> Store:
    """Return the store that a registry or a lock file names.

    Args:
        location: of a version.
        file: that names it; relative folders start from its folder.
        named_by: the file, for the message.
        cache: folder for what a remote store needs on this machine; the user's by default.
        progress: called with the number of bytes that arrived from a remote store, from several threads.

    Raises:
        InvalidInputError: no store that can be opened, or one of another namespace than its repository's.
    """
    store = open_store(location.store, file, cache=cache, progress=progress)
    if location.repo is None or not is_hub(location.store):
        return store
    from adapter_hub.hub import RepoId  # noqa: PLC0415 - folders need no client
    from adapter_hub.stores.hub import HubStore  # noqa: PLC0415

    if isinstance(store, HubStore):
        repo = RepoId(location.repo)  # another name than the adapter's, if it was moved
        if name_key(repo.namespace) != name_key(store.namespace):
            raise InvalidInputError(f"{named_by} names {repo} in {location.store}, another namespace")
        store.repo = repo
    return store


def listed_manifest(name: str, version: str, block: VersionBlock, registry: Registry) -> Manifest:
    """Return the manifest of a listed version from the first location that has it.

    Args:
        name: of the adapter.
        version: of it.
        block: what the registry says of it.
        registry: that lists it.

    Raises:
        UnreachableError, AccessError, IntegrityError: no location gives it, with each one's reason.
    """

    def read(location: Location) -> Manifest:
        manifest, digest = open_location(location, registry).manifest(name, version)
        check_listed(digest, block)
        return manifest

    return from_first(f"the manifest of {name}@{version} cannot be read", block.locations, read)


def check_listed(digest: str, block: VersionBlock) -> None:
    """Refuse a version that is not the listed one.

    Args:
        digest: of the manifest in a store.
        block: what the registry says of the version.

    Raises:
        IntegrityError: with both digests.
    """
    if digest != block.digest:
        raise IntegrityError(f"holds {digest}, expected {block.digest}")


@dataclass(frozen=True)
class ExpectedVersion:
    """A version as a registry or a lock file lists it.

    Attributes:
        size: bytes of all its files; no more are fetched. None where that is not listed.
    """

    name: str
    version: str
    digest: str
    size: int | None = None


def fetch_into_cache(expected: ExpectedVersion, store: Store, cache: Cache) -> Artifact:
    """Fetch a version from a store into the cache, and return it verified.

    Where the cache cannot be written, a folder store's artifact is used where it is.

    Args:
        expected: what has to arrive.
        store: that has it.
        cache: where it lands.

    Raises:
        NotFoundError, IntegrityError, StatusError: see `Store.fetch`.
        InvalidInputError: the cache cannot be written, and the store is not a folder.
    """

    def fetch(folder: Path) -> Artifact:
        name, version = expected.name, expected.version
        return store.fetch(name, version, folder, digest=expected.digest, size=expected.size)

    try:
        return cache.land(expected.digest, fetch)
    except OSError as error:
        if error.errno not in READ_ONLY:
            raise
        if isinstance(store, FolderStore):  # not stamped, so every load hashes what it reads
            return store.found(expected.name, expected.version, expected.digest)
        raise InvalidInputError(
            f"cache {cache.folder}: cannot be written ({error.strerror}); name another with --cache"
        ) from None
