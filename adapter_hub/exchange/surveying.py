"""What the stores hold of a registry's adapters, version by version; one that is damaged stops no other.

survey = survey_stores(stores, registry)
survey.adapters, survey.lost, survey.findings
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from adapter_hub.errors import AccessError, AdapterHubError, UnreachableError
from adapter_hub.exchange.places import heard_at, manifest_at
from adapter_hub.formats.claims import Finding
from adapter_hub.formats.manifest import Manifest
from adapter_hub.formats.registry_file import NEWER, Adapters, Location, VersionBlock
from adapter_hub.isolation import isolated
from adapter_hub.registry.contract import Registry
from adapter_hub.stores.contract import Claims, Heard, Store
from adapter_hub.stores.summary import version_block


@dataclass
class Survey:
    """What was found.

    Attributes:
        adapters: the blocks that the stores' manifests and claims give.
        lost: why, by `(name, version)`, a store that should have a version does not have it whole.
        findings: what is wrong besides.
    """

    adapters: Adapters = field(default_factory=dict)
    lost: dict[tuple[str, str], list[str]] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)

    def note(self, code: str, ref: str, message: str, hint: str) -> None:
        """Add a finding that is an error."""
        self.findings.append(Finding(code=code, severity="error", ref=ref, message=message, hint=hint))


@dataclass
class _Held:
    """A version as the stores hold it."""

    manifest: Manifest
    digest: str
    locations: list[Location]


def survey_stores(stores: Sequence[Store], registry: Registry) -> Survey:
    """Look at everything that the stores hold.

    Raises:
        UnreachableError: a store cannot be asked, so nothing is known of what it holds.
    """
    survey = Survey()
    for name in sorted({name for store in stores for name in store.names()} | _listed(registry, stores)):
        with isolated(name, partial(_note_failure, survey, name), through=(UnreachableError, AccessError)):
            _survey_name(name, stores, registry, survey)
    return survey


def _note_failure(survey: Survey, name: str, error: AdapterHubError) -> None:
    survey.note("registry-unreadable", name, str(error), "its entries stay; the others were looked at")


def _survey_name(name: str, stores: Sequence[Store], registry: Registry, survey: Survey) -> None:
    heards = [(store, heard_at(store, name)) for store in stores]
    for store, heard in heards:
        _note_claims(survey, name, store.label(registry.path), heard)
    claims = _merged([heard.claims for _, heard in heards])
    is_known = not any(heard.status_problem for _, heard in heards)
    blocks: dict[str, VersionBlock] = {}
    for version, held in _held(name, stores, registry, survey).items():
        block = version_block(held.manifest, held.digest, claims, held.locations)
        listed = registry.adapters.get(name, {}).get(version)
        if listed and listed.digest == held.digest:
            block = _as_listed(block, listed, claims if is_known else None, version)
        blocks[version] = block
    if blocks:
        survey.adapters[name] = blocks


def _held(name: str, stores: Sequence[Store], registry: Registry, survey: Survey) -> Mapping[str, _Held]:
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
                survey.lost.setdefault((name, version), []).append(f"{label}: {read}")
            elif listed and read[1] != listed.digest:
                problem = f"{label}: holds {read[1]}, the registry lists {listed.digest}"
                survey.lost.setdefault((name, version), []).append(problem)
            elif (first := found.setdefault(version, _Held(*read, []))).digest != read[1]:
                survey.note(
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
    except (AdapterHubError, OSError):  # told with the claims, which cannot be read either
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


def _note_claims(survey: Survey, name: str, label: str, heard: Heard) -> None:
    for problem in heard.problems:
        message = f"a report in store {label} is damaged: {problem}"
        survey.note("registry-claim", name, message, "remove the file, and attach the report anew")
    if heard.status_problem:
        survey.note(
            "registry-statuses",
            name,
            f"its statuses in store {label} cannot be read, the registry's stay: {heard.status_problem}",
            "restore the file, or remove it: publishing or retiring writes a new one",
        )
