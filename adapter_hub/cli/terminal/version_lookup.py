"""The adapter version that a command is about, for commands that show it and do not load it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from adapter_hub.cli.terminal.echo import echo_warnings
from adapter_hub.cli.terminal.global_options import GlobalOptions
from adapter_hub.formats.reference import AdapterRef, parse_source

if TYPE_CHECKING:
    from adapter_hub.exchange.places import Places
    from adapter_hub.formats.manifest import Manifest
    from adapter_hub.formats.registry_file import Location, VersionBlock
    from adapter_hub.registry.contract import Registry
    from adapter_hub.registry.resolution import Resolved
    from adapter_hub.registry.standing import Standing
    from adapter_hub.stores.contract import Claims


def open_ref(ref: AdapterRef, places: Places) -> tuple[AdapterRef, Places]:
    """Return a reference and the places to look it up in; `hf://` adds its repository to the registries.

    That is asked for its statuses; while it cannot be, what is in the cache is shown with a warning.

    Args:
        ref: with or without `hf://`; without it, both come back as they are.
        places: registries and cache.
    """
    if not ref.hub:
        return ref, places
    from adapter_hub.exchange import open_hub_ref

    return open_hub_ref(ref, places, fresh=True)


@dataclass(frozen=True)
class FoundVersion:
    """An adapter version and what is known about it.

    Attributes:
        ref: `namespace/name@version`.
        digest: of the manifest.
        manifest: from the first store that has it.
        claims: reports and statuses in that store; empty for a local folder.
        registry: the one that lists it; None for a local folder.
        block: its entry in the registry.
        standing: its strictest status in the registries and in what this machine remembers; None without one.
    """

    ref: str
    digest: str
    manifest: Manifest
    claims: Claims
    registry: Registry | None = None
    block: VersionBlock | None = None
    standing: Standing | None = None


def find_version(options: GlobalOptions, text: str) -> FoundVersion:
    """Find an adapter version of any status; warnings go to stderr.

    Args:
        options: global options of the command line.
        text: a reference, or the folder of an artifact.

    Raises:
        NotFoundError: there is no such adapter.
        IntegrityError: no location has its manifest.
    """
    from adapter_hub.artifact.folder import Artifact
    from adapter_hub.registry.resolution import look_up
    from adapter_hub.registry.standing import Standings
    from adapter_hub.stores.contract import Claims

    source = parse_source(text)
    if isinstance(source, Path):
        artifact = Artifact.open(source)
        standing = Standings(options.registries()).of(artifact.digest, artifact.manifest.function_digest)
        return FoundVersion(artifact.ref, artifact.digest, artifact.manifest, Claims(), standing=standing)
    ref, places = open_ref(source, options.opened())
    registries = places.registries()
    found = look_up(ref, registries)
    echo_warnings(found.warnings)
    manifest, claims = _read(found, options.cache_folder)
    standing = Standings(registries).of(found.block.digest, manifest.function_digest)
    return FoundVersion(
        found.ref, found.block.digest, manifest, claims, found.registry, found.block, standing
    )


def ancestors_at_hand(
    registry: Registry, ref: str, block: VersionBlock, options: GlobalOptions
) -> dict[str, Manifest]:
    """Return the ancestors' manifests in an artifact, where it can be read without a request.

    Args:
        registry: that lists the version.
        ref: `namespace/name@version`.
        block: its entry in the registry.
        options: global options of the command line.
    """
    from adapter_hub.artifact.folder import read_ancestors
    from adapter_hub.stores.folder import FolderStore
    from adapter_hub.stores.opening import open_store

    for location in block.locations:
        store = open_store(location.store, registry.path) if "://" not in location.store else None
        if isinstance(store, FolderStore):
            return read_ancestors(store.path / ref.replace("@", "/"))[0]
    pulled = options.open_cache().get(block.digest) if block.parents else None
    return pulled.ancestors() if pulled else {}


def _read(found: Resolved, cache: Path) -> tuple[Manifest, Claims]:
    """Return the manifest and the claims of a version from the first location that has it."""
    from adapter_hub.exchange.locations import check_listed, from_first, open_location

    def read(location: Location) -> tuple[Manifest, Claims]:
        store = open_location(location, found.registry, cache=cache)
        manifest, digest = store.manifest(found.name, found.version)
        check_listed(digest, found.block)
        return manifest, store.claims(found.name)

    return from_first(f"the manifest of {found.ref} cannot be read", found.block.locations, read)
