"""Which registries count together, which store may go with which, and an adapter's card in its store."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from adapter_hub import embedded
from adapter_hub.embedded import EMBEDDED
from adapter_hub.errors import (
    AdapterHubError,
    IntegrityError,
    InvalidInputError,
    NotFoundError,
    UnreachableError,
)
from adapter_hub.formats.manifest import Manifest
from adapter_hub.formats.reference import is_address, is_folder_of_store
from adapter_hub.formats.registry_file import Location, VersionBlock
from adapter_hub.formats.versions import preferred
from adapter_hub.hub import RepoId
from adapter_hub.registry.contract import Registry, WritableRegistry
from adapter_hub.registry.file import FileRegistry
from adapter_hub.reporting import ReceivedBytes
from adapter_hub.stores.contract import Claims, Heard, Store
from adapter_hub.stores.hub import HubStore
from adapter_hub.stores.opening import open_store


def with_embedded(registry: Registry) -> tuple[Registry, ...]:
    """Return the registry and, unless it is that, the embedded catalogue, which users ask together."""
    if registry.is_embedded:
        return (registry,)
    return (registry, FileRegistry(embedded.registry_path(), read_only=True))


def check_place(registry: WritableRegistry, store: Store) -> None:
    """Refuse to mix the embedded catalogue with others, or a registry on the Hub with a folder.

    Raises:
        InvalidInputError: with the option to give.
    """
    label = store.label(registry.path)
    into_embedded = label == EMBEDDED
    if registry.is_embedded and not into_embedded:
        raise InvalidInputError(
            f"registry {registry.label} is the embedded catalogue, which is written to only when its store "
            f"is named (--store {embedded.store_path()}); name another registry with --registry FILE"
        )
    if into_embedded and not registry.is_embedded:
        raise InvalidInputError(
            f"store {embedded.store_path()} belongs to the embedded catalogue; name its registry too "
            f"(--registry {embedded.registry_path()}), or another store"
        )
    if registry.is_on_hub and is_folder_of_store(label):
        raise InvalidInputError(
            f"registry {registry.label} is on the Hub, whose users do not see the folder {label}; name a "
            f"store on the Hub (--store {registry.default_store}), or a registry file"
        )


def open_location(
    location: Location,
    registry: Registry,
    *,
    cache: Path | None = None,
    progress: ReceivedBytes | None = None,
) -> Store:
    """Return the store in which a registry says that a version is; see `open_store`.

    Raises:
        InvalidInputError: no store that can be opened, or a registry on the Hub names a folder.
    """
    if registry.is_on_hub and is_folder_of_store(location.store):
        raise InvalidInputError(
            f"registry {registry.label} is on the Hub and names a folder, {location.store}"
        )
    store = open_store(location.store, registry.path, cache=cache, progress=progress)
    if isinstance(store, HubStore) and location.repo is not None:
        repo = RepoId(location.repo)  # another name than the adapter's, if it was moved
        if repo.namespace != store.namespace:
            raise InvalidInputError(
                f"registry {registry.label} names {repo} in {location.store}, another namespace"
            )
        store.repo = repo
    return store


@contextmanager
def in_turn(registry: WritableRegistry, store: Store) -> Iterator[None]:
    """Bring a registry up to date and, where that costs others little, keep them from writing it meanwhile.

    A push to a folder is short, so whoever checks first may push first. One to the Hub may take minutes;
    then, and in a registry that nobody can lock, what was checked has to be checked again by `update`'s
    `change` if the registry's sequence is another by then.

    Raises:
        InvalidInputError: read-only. ConflictError: somebody held the lock for too long. UnreachableError.
    """
    with registry.locked():
        if not is_address(store.label(registry.path)):
            yield
            return
    yield


def manifest_of(name: str, version: str, block: VersionBlock, registry: Registry) -> Manifest:
    """Return the manifest of a listed version from the first location that has it.

    Raises:
        NotFoundError: no location has it, with each one's reason.
    """
    reasons = []
    for location in block.locations:
        try:
            manifest, digest = open_location(location, registry).manifest(name, version)
        except AdapterHubError as error:
            reasons.append(f"{location.store}: {error}")
            continue
        if digest == block.digest:
            return manifest
        reasons.append(f"{location.store}: holds {digest}, expected {block.digest}")
    raise NotFoundError(
        f"{name}@{version}: its manifest cannot be read: {'; '.join(reasons) or 'no location is listed'}"
    )


def manifest_at(store: Store, name: str, version: str) -> tuple[Manifest, str] | str:
    """Return the manifest of a version in a store and its digest, or why it cannot be read.

    Raises:
        UnreachableError: the store cannot be asked, so nothing is known.
    """
    try:
        return store.manifest(name, version)
    except UnreachableError:
        raise
    except (AdapterHubError, OSError) as error:
        return str(error)


def heard_at(store: Store, name: str) -> Heard:
    """Return the claims about a name that can be read in a store, and what cannot, whatever is wrong.

    Raises:
        UnreachableError: the store cannot be asked, so nothing is known.
    """
    try:
        return store.heard(name)
    except UnreachableError:
        raise
    except (AdapterHubError, OSError) as error:
        return Heard(Claims(), (), str(error))


def claims_to_add_to(store: Store, name: str) -> Claims:
    """Return the sound claims about a name, for somebody who is going to add a status.

    Raises:
        IntegrityError: the statuses cannot be read, with the way out. UnreachableError, AccessError.
    """
    heard = store.heard(name)
    if heard.status_problem:
        raise IntegrityError(
            f"{heard.status_problem}; restore the file, or remove it: the registry's statuses stay, and "
            "publishing or retiring writes a new one"
        )
    return heard.claims


def write_card(name: str, store: Store) -> None:
    """Show the version in use that people get who name none, or else the newest of all, with its card.

    Versions whose manifest cannot be read are passed over; if there is no other, nothing is shown anew.
    """
    from adapter_hub.cards import render_card  # noqa: PLC0415 - the template engine is for writers only

    claims = heard_at(store, name).claims
    versions = store.versions(name)
    retired = {"yanked", "quarantined", "withdrawn"}
    in_use = [v for v in versions if (last := claims.status_of(v)) is None or last.status not in retired]
    for candidates in (in_use, [v for v in versions if v not in in_use]):
        while (newest := preferred(candidates)) is not None:
            candidates.remove(newest)
            found = manifest_at(store, name, newest)
            if isinstance(found, str):
                continue
            card = render_card(found[0], claims.reports, claims.status_of(newest), store=store.label(Path()))
            store.present(name, newest, card)
            return
