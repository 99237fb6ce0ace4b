"""What stores hold: one damaged file, version or name does not hide the others.

manifest_at(store, "mini/da", "1.0.0")     # the manifest and its digest, or why it cannot be read
claims_at(store, "mini/da").problems
contents = contents_of(stores, registry)
contents.adapters, contents.lost, contents.findings
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from adapter_hub.errors import AccessError, AdapterHubError, IntegrityError, UnreachableError
from adapter_hub.formats.claims import Finding
from adapter_hub.formats.manifest import Manifest
from adapter_hub.formats.registry_file import NEWER, Adapters, Location, VersionBlock
from adapter_hub.formats.versions import preferred
from adapter_hub.isolation import isolated
from adapter_hub.registry.contract import Registry
from adapter_hub.stores.contract import Claims, ReadableClaims, Store
from adapter_hub.stores.summary import version_block


def manifest_at(store: Store, name: str, version: str) -> tuple[Manifest, str] | str:
    """Return the manifest of a version in a store and its digest, or why it cannot be read.

    Args:
        store: to read from.
        name: of the adapter.
        version: of it.

    Raises:
        UnreachableError: the store cannot be asked, so nothing is known.
    """
    try:
        return store.manifest(name, version)
    except UnreachableError:
        raise
    except (AdapterHubError, OSError) as error:
        return str(error)


def claims_at(store: Store, name: str) -> ReadableClaims:
    """Return the claims about a name that can be read in a store, and what cannot.

    Args:
        store: to read from.
        name: of the adapter.

    Raises:
        UnreachableError: the store cannot be asked, so nothing is known.
    """
    try:
        return store.readable_claims(name)
    except UnreachableError:
        raise
    except (AdapterHubError, OSError) as error:
        return ReadableClaims(Claims(), (), str(error))


def claims_to_extend(store: Store, name: str) -> Claims:
    """Return the sound claims about a name, for a verb that is going to add a status.

    Args:
        store: to read from.
        name: of the adapter.

    Raises:
        IntegrityError: the statuses cannot be read, with the way out. UnreachableError, AccessError.
    """
    read = store.readable_claims(name)
    if read.status_problem:
        raise IntegrityError(
            f"{read.status_problem}; restore the file, or remove it: the registry's statuses stay, and "
            "publishing or retiring writes a new one"
        )
    return read.claims


def write_card(name: str, store: Store) -> None:
    """Show the version in use that people get who name none, or else the newest of all, with its card.

    Versions whose manifest cannot be read are passed over; if there is no other, the card stays.

    Args:
        name: of the adapter.
        store: keeps it and shows the card.
    """
    from adapter_hub.cards import render_card  # noqa: PLC0415 - the template engine is for writers only

    claims = claims_at(store, name).claims
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


@dataclass
class StoreContents:
    """What stores hold of a registry's adapters.

    Attributes:
        adapters: the blocks that the stores' manifests and claims give.
        lost: why, by `(name, version)`, a store that should have a version does not have it whole.
        unasked: why nothing is known of a name, a store of which could not be asked, or of an unlisted store.
        findings: what is wrong besides.
    """

    adapters: Adapters = field(default_factory=dict)
    lost: dict[tuple[str, str], list[str]] = field(default_factory=dict)
    unasked: dict[str, str] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)

    def note(self, code: str, ref: str, message: str, hint: str) -> None:
        """Add a finding that is an error.

        Args:
            code: of the finding.
            ref: `namespace/name@version`, or the name alone.
            message: what is wrong.
            hint: the next step.
        """
        self.findings.append(Finding(code=code, severity="error", ref=ref, message=message, hint=hint))


@dataclass
class _Held:
    """A version as the stores hold it."""

    manifest: Manifest
    digest: str
    locations: list[Location]


def contents_of(stores: Sequence[Store], registry: Registry) -> StoreContents:
    """Read everything that the stores hold of a registry's adapters.

    Args:
        stores: to read from.
        registry: tells which names to look for, and which of two contents is the published one.

    Names in a store that cannot be asked are left out, with the reason; those in other stores are read.

    Raises:
        UnreachableError: none of the stores can be asked. AccessError: none may be.
    """
    contents, asked, names = StoreContents(), list[Store](), set[str]()
    for store in stores:
        try:
            names.update(store.names())
            asked.append(store)
        except (UnreachableError, AccessError) as error:
            unasked = _listed(registry, [store]) or {store.label(registry.path)}
            contents.unasked.update(dict.fromkeys(unasked, str(error)))
            if registry.adapters.keys() <= contents.unasked.keys():  # nothing is left to look at
                raise
    through = (UnreachableError, AccessError)
    for name in sorted((names | _listed(registry, asked)) - contents.unasked.keys()):
        try:
            with isolated(name, partial(_note_failure, contents, name), through=through):
                _read_name(name, asked, registry, contents)
        except through as error:
            if len(asked) == 1 and isinstance(error, UnreachableError):
                raise
            contents.unasked[name] = str(error)
    return contents


def _note_failure(contents: StoreContents, name: str, error: AdapterHubError) -> None:
    contents.note("registry-unreadable", name, str(error), "its entries stay; the others were looked at")


def _read_name(name: str, stores: Sequence[Store], registry: Registry, contents: StoreContents) -> None:
    read = [(store, claims_at(store, name)) for store in stores]
    for store, found in read:
        _note_claims(contents, name, store.label(registry.path), found)
    claims = _merged([found.claims for _, found in read])
    is_known = not any(found.status_problem for _, found in read)
    blocks: dict[str, VersionBlock] = {}
    for version, held in _held(name, stores, registry, contents).items():
        block = version_block(held.manifest, held.digest, claims, held.locations)
        listed = registry.adapters.get(name, {}).get(version)
        if listed and listed.digest == held.digest:
            block = _as_listed(block, listed, claims if is_known else None, version)
        blocks[version] = block
    if blocks:
        contents.adapters[name] = blocks


def _held(
    name: str, stores: Sequence[Store], registry: Registry, contents: StoreContents
) -> Mapping[str, _Held]:
    """Return the versions of a name that can be read; of two with other bytes the listed one counts."""
    found: dict[str, _Held] = {}
    for store in stores:
        label = store.label(registry.path)
        for version in _versions(store, name):
            if registry.why_unreadable(name, version) == NEWER:
                continue
            read = manifest_at(store, name, version)
            listed = registry.adapters.get(name, {}).get(version)
            if isinstance(read, str):
                contents.lost.setdefault((name, version), []).append(f"{label}: {read}")
            elif listed and read[1] != listed.digest:
                problem = f"{label}: holds {read[1]}, the registry lists {listed.digest}"
                contents.lost.setdefault((name, version), []).append(problem)
            elif (first := found.setdefault(version, _Held(*read, []))).digest != read[1]:
                contents.note(
                    "registry-two-digests",
                    f"{name}@{version}",
                    f"two stores hold different bytes, {first.digest} and {read[1]} in {label}",
                    "a version never changes: find out which was published, and remove the other",
                )
            else:
                first.locations.append(store.location(name, version, registry.path))
    return found


def _versions(store: Store, name: str) -> list[str]:
    try:
        return store.versions(name)
    except UnreachableError:
        raise
    except (AdapterHubError, OSError):  # reported with the claims, which cannot be read either
        return []


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
    in_time = sorted(statuses.values(), key=lambda entry: entry.time)
    return Claims(tuple(reports[key] for key in sorted(reports)), tuple(in_time))


def _as_listed(
    block: VersionBlock, listed: VersionBlock, claims: Claims | None, version: str
) -> VersionBlock:
    """Take from the registry what a store's statuses do not say any more.

    Args:
        block: what the store gives.
        listed: what the registry says of the same bytes.
        claims: the store's; None if its statuses cannot be read.
        version: of the block.
    """
    update: dict[str, object] = {}
    if claims is None:
        update = {"status": listed.status, "reason": listed.reason, "since": listed.since}
    if claims is None or claims.published(version) is None:
        update["published"] = listed.published
    return block.model_copy(update=update)


def _note_claims(contents: StoreContents, name: str, label: str, found: ReadableClaims) -> None:
    for problem in found.problems:
        message = f"a report in store {label} is damaged: {problem}"
        contents.note("registry-claim", name, message, "remove the file, and attach the report again")
    if found.status_problem:
        contents.note(
            "registry-statuses",
            name,
            f"its statuses in store {label} cannot be read, the registry's stay: {found.status_problem}",
            "restore the file, or remove it: publishing or retiring writes a new one",
        )
