"""Which registries count together, which store may go with which, and an adapter's card in its store."""

from __future__ import annotations

from adapter_hub import embedded
from adapter_hub.canonical import digest_of
from adapter_hub.errors import AdapterHubError, InvalidInputError, NotFoundError
from adapter_hub.manifest import Manifest
from adapter_hub.registry import Registry, VersionBlock
from adapter_hub.stores import EMBEDDED, Store, open_store


def with_embedded(registry: Registry) -> tuple[Registry, ...]:
    """Return the registry and, unless it is that, the embedded catalogue, which users ask together."""
    if registry.is_embedded:
        return (registry,)
    return (registry, Registry(embedded.registry_path(), read_only=True))


def check_place(registry: Registry, store: Store, name: str) -> None:
    """Refuse to mix the embedded catalogue with another store, or its store with another registry.

    Raises:
        InvalidInputError: with the option to give.
    """
    into_embedded = store.location(name, "0.0.0", registry.path).store == EMBEDDED
    if registry.is_embedded and not into_embedded:
        raise InvalidInputError(
            f"registry {registry.path} is the embedded catalogue, which is written to only when its store is "
            f"named (--store {embedded.store_path()}); name another registry with --registry FILE"
        )
    if into_embedded and not registry.is_embedded:
        raise InvalidInputError(
            f"store {embedded.store_path()} belongs to the embedded catalogue; name its registry too "
            f"(--registry {embedded.registry_path()}), or another store"
        )


def manifest_of(name: str, version: str, block: VersionBlock, registry: Registry) -> Manifest:
    """Return the manifest of a listed version from the first location that has it.

    Raises:
        NotFoundError: no location has it, with each one's reason.
    """
    reasons = []
    for location in block.locations:
        try:
            manifest, digest = open_store(location.store, registry.path).manifest(name, version)
        except AdapterHubError as error:
            reasons.append(f"{location.store}: {error}")
            continue
        if digest == block.digest:
            return manifest
        reasons.append(f"{location.store}: holds {digest}, expected {block.digest}")
    raise NotFoundError(
        f"{name}@{version}: its manifest cannot be read: {'; '.join(reasons) or 'no location is listed'}"
    )


def write_card(name: str, store: Store) -> None:
    """Render the card of the newest version that is in use, or of the newest of all."""
    from adapter_hub.cards import render_card  # noqa: PLC0415 - the template engine is for writers only

    claims = store.claims(name)
    versions = store.versions(name)
    retired = {"yanked", "quarantined", "withdrawn"}
    in_use = [v for v in versions if (last := claims.status_of(v)) is None or last.status not in retired]
    newest = (in_use or versions)[-1]
    manifest, digest = store.manifest(name, newest)
    assert digest_of(manifest.to_bytes()) == digest
    store.present(name, newest, render_card(manifest, claims.reports, claims.status_of(newest)))
