"""Pull: from a reference to a verified artifact on this machine."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from adapter_hub.artifact.folder import Artifact, copy_artifact
from adapter_hub.errors import AdapterHubError, StatusError
from adapter_hub.exchange.locations import ExpectedVersion, fetch_into_cache, from_first, open_location
from adapter_hub.exchange.places import Places
from adapter_hub.formats.reference import AdapterRef, parse_source
from adapter_hub.formats.registry_file import Location
from adapter_hub.registry.contract import Registry
from adapter_hub.registry.resolution import Resolved, judge_ancestors, judge_bytes, resolve
from adapter_hub.reporting import Downloading
from adapter_hub.stores.cache import Cache


def pull(
    ref: AdapterRef | Path | str,
    places: Places | None = None,
    *,
    to: Path | str | None = None,
    allow_quarantined: str | None = None,
    progress: Downloading | None = None,
) -> Artifact:
    """Return a verified artifact: from a folder, from the cache, or from a store into the cache.

    Args:
        ref: a reference, or the path of a local artifact (`./out`, `/…`, `…/adapter.json`).
        places: registries to ask, the cache where it lands, and who gets warnings; the user's by default.
        to: copy it to this folder, too, and return that copy.
        allow_quarantined: digest of a quarantined version to use anyway.
        progress: called while bytes come from a remote store, from several threads.

    Raises:
        NotFoundError: no such adapter. StatusError: its status, or an ancestor's, forbids the use.
        IntegrityError: what arrived is not what was published; every difference.
    """
    places = (places or Places()).opened()
    registries, warnings = places.registries(), list[str]()
    source = parse_source(ref)
    if isinstance(source, Path):
        artifact = Artifact.open(source)
        artifact.verify()
        warnings += status_warnings(artifact, registries, allow_quarantined)
    else:
        if source.hub:
            from adapter_hub.exchange.hub_refs import open_hub_ref  # noqa: PLC0415 - folders need no client

            source, places = open_hub_ref(source, places)
            registries = places.registries()
        resolved, artifact = _find(source, places, allow_quarantined, progress)
        warnings += resolved.warnings
    # the artifact knows of ancestors that no registry may list between it and a retired one
    verdict = judge_ancestors(artifact.ref, artifact.ancestors(), registries, allow_quarantined)
    if verdict.refusal:
        raise StatusError(verdict.refusal)
    for line in dict.fromkeys((*warnings, *verdict.warnings)):
        places.warn(line)
    return artifact if to is None else copy_artifact(artifact, to)


def status_warnings(
    artifact: Artifact, registries: Sequence[Registry], allowed: str | None
) -> tuple[str, ...]:
    """Return what the user should know of an artifact's own status, as it is known of its bytes.

    Args:
        artifact: opened.
        registries: asked for its status.
        allowed: digest of a quarantined version to use anyway.

    Raises:
        StatusError: it forbids the use.
    """
    function = artifact.manifest.function_digest
    verdict = judge_bytes(artifact.ref, artifact.digest, function, registries, allowed)
    if verdict.refusal:
        raise StatusError(verdict.refusal)
    return verdict.warnings


def _find(
    ref: AdapterRef, places: Places, allow_quarantined: str | None, progress: Downloading | None
) -> tuple[Resolved, Artifact]:
    """Resolve a reference and fetch its artifact; what never changes and is here costs no request."""
    registries, cache = places.registries(), places.open_cache()
    if ref.version is not None or ref.digest is not None:
        for registry in registries:
            registry.settle_for_copy()
        try:
            resolved = resolve(ref, registries, allow_quarantined=allow_quarantined)
            if artifact := _cached(resolved, cache):
                return resolved, artifact
        except AdapterHubError:
            if not any(registry.is_copy for registry in registries):
                raise
    for registry in registries:
        if registry.is_copy:
            registry.refresh()
    resolved = resolve(ref, registries, allow_quarantined=allow_quarantined)
    return resolved, _cached(resolved, cache) or _land(resolved, cache, progress)


def _cached(resolved: Resolved, cache: Cache) -> Artifact | None:
    artifact = cache.get(resolved.block.digest)
    return artifact and artifact.expect(
        resolved.name, resolved.version, f"registry {resolved.registry.label}"
    )


def _land(resolved: Resolved, cache: Cache, progress: Downloading | None) -> Artifact:
    """Fetch a version from the first location that has it whole."""

    def arrived(count: int) -> None:
        if progress:
            progress(resolved.ref, count, resolved.block.size)

    expected = ExpectedVersion(resolved.name, resolved.version, resolved.block.digest, resolved.block.size)

    def fetch(location: Location) -> Artifact:
        store = open_location(location, resolved.registry, cache=cache.folder, progress=arrived)
        return fetch_into_cache(expected, store, cache)

    return from_first(f"{resolved.ref} cannot be fetched", resolved.block.locations, fetch)
