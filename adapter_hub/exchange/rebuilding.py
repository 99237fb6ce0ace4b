"""The registry rebuilt from the stores, and the two compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from adapter_hub.errors import IntegrityError
from adapter_hub.exchange.kept_statuses import keep_statuses
from adapter_hub.exchange.places import check_place
from adapter_hub.exchange.pulling import Tell
from adapter_hub.manifest import Manifest
from adapter_hub.registry import Adapters, Location, Registry, VersionBlock
from adapter_hub.registry_file import NEWER
from adapter_hub.report import Finding
from adapter_hub.standing import Standings
from adapter_hub.stores import Claims, Store
from adapter_hub.summary import version_block


def rebuild(registry: Registry, stores: Sequence[Store], tell: Tell | None = None) -> bool:
    """Rebuild the registry's blocks from everything that the stores hold.

    Args:
        registry: need not exist; blocks of a later schema are kept as they are.
        stores: all that hold versions of it; the order does not matter.
        tell: called with a line for every status that is kept although no store has it any more.

    Returns:
        Whether anything changed.

    Raises:
        IntegrityError: two stores hold different bytes of one version, or a listed version is in none.
    """
    for store in stores:
        check_place(registry, store)
    registry.mend()

    def change(adapters: Adapters) -> None:
        rebuilt = blocks_of(stores, registry)  # in here, so that it knows what others listed meanwhile
        kept.update(keep_statuses(rebuilt, registry))
        adapters.clear()
        adapters.update(rebuilt)

    kept: dict[str, str] = {}
    changed = registry.update(change)
    Standings((registry,))  # remembers what it says now
    if tell:
        for line in kept.values():
            tell(line)
    return changed


def blocks_of(stores: Sequence[Store], registry: Registry) -> Adapters:
    """Return what the registry has to say, computed from the stores."""
    adapters: Adapters = {}
    for name in sorted({name for store in stores for name in store.names()} | _listed(registry, stores)):
        claims = _merged([store.claims(name) for store in stores])
        found: dict[str, tuple[Manifest, str, list[Location]]] = {}
        for store in stores:
            for version in store.versions(name):
                if registry.why_unreadable(name, version) == NEWER:
                    continue
                manifest, digest = store.manifest(name, version)
                _, first, locations = found.setdefault(version, (manifest, digest, []))
                if digest != first:
                    raise IntegrityError(
                        f"{name}@{version}: two stores hold different bytes, {first} and {digest}"
                    )
                locations.append(store.location(name, version, registry.path))
        if found:
            adapters[name] = {
                version: version_block(manifest, digest, claims, locations)
                for version, (manifest, digest, locations) in found.items()
            }
    return adapters


def _listed(registry: Registry, stores: Sequence[Store]) -> set[str]:
    """Return the names that the registry has at the stores: a Hub's search may not know the newest yet."""
    labels = {store.label(registry.path) for store in stores}
    return {
        name
        for name, versions in registry.adapters.items()
        if any(location.store in labels for block in versions.values() for location in block.locations)
    }


def _merged(claims: Sequence[Claims]) -> Claims:
    if len(claims) == 1:
        return claims[0]
    reports = {report.to_bytes(): report for item in claims for report in item.reports}
    statuses = {entry.to_bytes(): entry for item in claims for entry in item.statuses}
    return Claims(tuple(reports[key] for key in sorted(reports)), tuple(statuses.values()))


def check(registry: Registry, stores: Sequence[Store]) -> list[Finding]:
    """Compare the registry with what the stores hold; an empty list means that they agree.

    Raises:
        IntegrityError: two stores hold different bytes of one version.
    """
    rebuilt = blocks_of(stores, registry)
    findings = [_status_lost(ref, line) for ref, line in keep_statuses(rebuilt, registry).items()]
    for name, version in sorted(_versions(registry.adapters) | _versions(rebuilt)):
        listed = registry.adapters.get(name, {}).get(version)
        held = rebuilt.get(name, {}).get(version)
        if listed != held:
            findings.append(_finding(f"{name}@{version}", listed, held))
    return findings


def _status_lost(ref: str, line: str) -> Finding:
    return Finding(
        code="registry-status-lost",
        severity="error",
        ref=ref,
        message=line,
        hint="restore the store's status.json, or retire the version anew",
    )


def _versions(adapters: Mapping[str, Mapping[str, VersionBlock]]) -> set[tuple[str, str]]:
    return {(name, version) for name, versions in adapters.items() for version in versions}


def _finding(ref: str, listed: VersionBlock | None, held: VersionBlock | None) -> Finding:
    if held is None:
        return Finding(
            code="registry-without-bytes",
            severity="error",
            ref=ref,
            message="listed in the registry, but in none of the stores",
            hint="name the store that has it, or publish it again",
        )
    rebuild_it = "`adapter-hub registry rebuild` writes what the stores say"
    if listed is None:
        return Finding(
            code="registry-not-listed",
            severity="warning",
            ref=ref,
            message="in a store, but not listed in the registry: publishing it was not finished",
            hint=f"publish it again, or {rebuild_it}",
        )
    if listed.digest != held.digest:
        return Finding(
            code="registry-digest",
            severity="error",
            ref=ref,
            message=f"the registry lists {listed.digest}, the store holds {held.digest}",
            hint="restore the store or the registry from before the change",
        )
    a, b = listed.to_json(), held.to_json()
    fields = ", ".join(field for field in sorted(a.keys() | b.keys()) if a.get(field) != b.get(field))
    return Finding(
        code="registry-stale",
        severity="warning",
        ref=ref,
        message=f"the registry differs from the store's reports and statuses in {fields}",
        hint=rebuild_it,
    )
