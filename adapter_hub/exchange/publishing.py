"""Publish: checked against the rules, into the store, then into the registry."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from adapter_hub.artifact.folder import Artifact, copy_artifact
from adapter_hub.artifact.privacy import refuse_disclosures, refuse_report, without_names
from adapter_hub.cards import render_card
from adapter_hub.errors import (
    AdapterHubError,
    ConflictError,
    IntegrityError,
    InvalidInputError,
    StatusError,
)
from adapter_hub.exchange.claiming import attach
from adapter_hub.exchange.holdings import claims_to_extend, manifest_at, write_card
from adapter_hub.exchange.locations import listed_manifest
from adapter_hub.exchange.places import Places, check_pair, registry_turn, update_entry
from adapter_hub.exchange.pulling import status_warnings
from adapter_hub.files.writing import write_atomically
from adapter_hub.formats.canonical import canonical_bytes
from adapter_hub.formats.claims import PUBLISHED, EvaluationReport, StatusEntry
from adapter_hub.formats.manifest import MANIFEST_FILE, Manifest
from adapter_hub.formats.reference import AdapterRef
from adapter_hub.formats.registry_file import Adapters, VersionBlock
from adapter_hub.formats.times import is_ahead, utc_now
from adapter_hub.formats.versions import VersionFacts, check_version_step, facts_of_block
from adapter_hub.registry.contract import Registry
from adapter_hub.registry.namespaces import trust_namespace
from adapter_hub.registry.resolution import judge_ancestors
from adapter_hub.registry.states import refuse_other_spellings
from adapter_hub.stores.contract import Claims, Store
from adapter_hub.stores.summary import sorted_locations, version_block


@dataclass(frozen=True)
class Published:
    """The outcome of publishing.

    Attributes:
        name: `namespace/name`.
        version: like `1.2.0`.
        digest: of the manifest.
        is_new: False if the registry had it already.
        is_written: False if the store had its bytes already; True without `is_new` restores them.
        is_evaluated: whether the registry shows a score of what it does.
        warnings: one line each, for the user.
    """

    name: str
    version: str
    digest: str
    is_new: bool
    is_written: bool
    is_evaluated: bool
    warnings: tuple[str, ...] = ()

    @property
    def ref(self) -> str:
        """`namespace/name@version`."""
        return f"{self.name}@{self.version}"


def publish(
    folder: Path | str,
    places: Places | None = None,
    *,
    rename: AdapterRef | None = None,
    allow_quarantined: str | None = None,
    reports: Sequence[EvaluationReport] = (),
) -> Published:
    """Push an artifact to a store, then list it in a registry. Publishing the same bytes again does nothing.

    Where a listed version's bytes were lost, damaged or replaced in the store, its own bytes restore it.

    Args:
        folder: the artifact.
        places: the store that keeps it, and the registry that lists it afterwards, by default the user's; for
            the embedded catalogue it has to be the embedded store.
        rename: publish the same weights under this name and version, with a new manifest.
        allow_quarantined: digest of a quarantined version that it may be made from, or do the same as.
        reports: evaluations of these weights, also under another name; they are attached, see `attach`.

    Raises:
        IntegrityError: the artifact is not sound, holds a token or a path of a machine, or a registry knows
            a parent by another digest.
        ConflictError: the version exists with other bytes.
        InvalidInputError: the version's number promises less than changed, or the wrong store.
        StatusError: what does the same, or an ancestor, is quarantined, or the version was withdrawn.
    """
    places = places or Places()
    artifact = Artifact.open(folder)
    artifact.verify()
    refuse_disclosures(artifact)
    for report in reports:
        _check_report(report, artifact.manifest)
    if rename is None:
        published = _publish(artifact, places, allow_quarantined)
    else:
        with tempfile.TemporaryDirectory(prefix="adapter-hub-") as scratch:
            renamed = _renamed(artifact, rename, Path(scratch) / "renamed")
            published = _publish(renamed, places, allow_quarantined)
    for report in reports:
        own = report.subject.model_copy(update={"name": published.name, "version": published.version})
        attach(report.model_copy(update={"subject": own}), places)
    return published


def _check_report(report: EvaluationReport, manifest: Manifest) -> None:
    """Refuse a report on something else, before anything is published."""
    refuse_report(without_names(report))
    wanted = (manifest.function_digest, manifest.base_model.digest)
    if (report.subject.function_digest, report.base_model_digest) != wanted:
        about = f"{report.subject.name}@{report.subject.version}" if report.subject.name else "a base model"
        raise InvalidInputError(
            f"the report on {about} was not measured with the weights of {manifest.ref} on its base model; "
            "evaluate the folder that is published"
        )


def _renamed(artifact: Artifact, ref: AdapterRef, folder: Path) -> Artifact:
    """Return a copy whose manifest differs in name and version alone, so that a retry gives the same."""
    if ref.version is None:
        raise InvalidInputError(f"--as {ref}: expected NAME@VERSION, like {ref.name}@1.0.0")
    copy_artifact(artifact, folder)
    values = {**artifact.manifest.to_json(), "name": ref.name, "version": ref.version}
    manifest = Manifest.parse(canonical_bytes(values), f"manifest of {ref}")
    write_atomically(folder / MANIFEST_FILE, manifest.to_bytes())
    return Artifact.open(folder)


def _publish(artifact: Artifact, places: Places, allowed: str | None) -> Published:
    manifest = artifact.manifest
    name, version = manifest.name, manifest.version
    places = places.opened()
    registry, store, registries = places.own_registry(), places.own_store(), places.registries()
    check_pair(registry, store)
    with registry_turn(registry, store):
        warnings = _check(artifact, registries, store, allowed)
        checked, block = registry.sequence, registry.adapters.get(name, {}).get(version)
        claims = claims_to_extend(store, name)
        known = {entry.digest for entry in claims.by_version.get(version, ())}
        restore = artifact.digest in known if block is None else True  # by now it has this digest
        card = render_card(manifest, store=store.label(registry.path))
        is_written = store.push(artifact, card, restore=restore)
        if entries := _missing_statuses(artifact, block, claims):
            store.attach_statuses(name, entries)

        def change(adapters: Adapters) -> None:
            if registry.sequence != checked:  # two publishers cannot both be the next version
                _check(artifact, registries, store, allowed)
            _list(adapters, artifact, registry, store)

        update_entry(registry, store, change)
        with suppress(AdapterHubError, OSError):  # it is written down again by the next resolve or publish
            trust_namespace(name.partition("/")[0], registry)
        write_card(name, store)
        is_evaluated = bool(registry.adapters[name][version].scores)
    return Published(name, version, artifact.digest, block is None, is_written, is_evaluated, warnings)


def _missing_statuses(artifact: Artifact, block: VersionBlock | None, claims: Claims) -> list[StatusEntry]:
    """Return what a store's claims have to say of a version and do not: since when it is, and its status."""
    version = artifact.manifest.version
    about = {"version": version, "digest": artifact.digest}
    entries = []
    if claims.published(version) is None:
        time = block.published if block and not is_ahead(block.published) else utc_now()
        entries.append({**about, "status": "active", "reason": PUBLISHED, "time": time})
    if block and block.status != "active" and claims.status_of(version) is None:
        reason = block.reason or "as the registry says"
        entries.append({**about, "status": block.status, "reason": reason, "time": utc_now()})
    return [StatusEntry.model_validate(entry) for entry in entries]


def _check(
    artifact: Artifact, registries: Sequence[Registry], store: Store, allowed: str | None
) -> tuple[str, ...]:
    """Refuse what contradicts what is published already; return the warnings."""
    manifest = artifact.manifest
    for registry in registries:
        refuse_other_spellings([manifest.name], registry.adapters, f"registry {registry.label}")
    _check_digest(artifact, registries)
    warnings = _check_ancestors(artifact, registries, allowed)
    if artifact.digest not in registries[0].by_digest:  # what is listed keeps its status anyway
        warnings += status_warnings(artifact, registries, allowed)
    check_version_step(_published(manifest.name, registries, store), manifest)
    return warnings


def _check_digest(artifact: Artifact, registries: Sequence[Registry]) -> None:
    """A (name, version) has one digest for ever, also across the catalogues that are asked together."""
    manifest = artifact.manifest
    for other in registries:
        block = other.adapters.get(manifest.name, {}).get(manifest.version)
        if block and block.digest != artifact.digest:
            raise ConflictError(
                f"{artifact.ref} exists in {other.label} with other bytes ({block.digest}); a version never "
                "changes: publish under a higher version, or with --as NAME@VERSION"
            )
        if block and block.status == "withdrawn":
            raise StatusError(
                f"{artifact.ref} was withdrawn ({block.reason}): its files were removed; publish it under a "
                "higher version"
            )
        if why := other.why_unreadable(manifest.name, manifest.version):
            raise ConflictError(
                f"{artifact.ref} exists in {other.label}, and its entry cannot be read ({why}); upgrade, "
                "mend it with `adapter-hub registry rebuild`, or publish under a higher version"
            )


def _check_ancestors(
    artifact: Artifact, registries: Sequence[Registry], allowed: str | None
) -> tuple[str, ...]:
    """Refuse ancestors that a registry knows otherwise or has in quarantine; return the warnings."""
    ancestors = artifact.ancestors()
    problems = []
    for digest, manifest in ancestors.items():
        for registry in registries:
            block = registry.adapters.get(manifest.name, {}).get(manifest.version)
            if block and block.digest != digest:
                problems.append(
                    f"unknown parent {manifest.ref}: {digest} here, but {block.digest} in {registry.label}"
                )
    if problems:
        raise IntegrityError(f"{artifact.ref} in {artifact.path}", problems)
    verdict = judge_ancestors(artifact.ref, ancestors, registries, allowed)
    if verdict.refusal:
        raise StatusError(verdict.refusal)
    return verdict.warnings


def _published(name: str, registries: Sequence[Registry], store: Store) -> list[Manifest | VersionFacts]:
    """Return what is known of all versions of `name`: their manifests, or else their registry entries.

    A version whose bytes are lost, damaged or replaced does not stop others from being published.
    """
    read = {version: manifest_at(store, name, version) for version in store.versions(name)}
    held = {version: item for version, item in read.items() if not isinstance(item, str)}
    found: dict[str, Manifest | VersionFacts] = {version: item[0] for version, item in held.items()}
    listed: set[str] = set()
    for registry in registries:
        for version, block in registry.adapters.get(name, {}).items():
            if version in listed or (version in held and held[version][1] == block.digest):
                continue
            listed.add(version)
            try:
                found[version] = listed_manifest(name, version, block, registry)
            except AdapterHubError:
                found[version] = facts_of_block(name, version, block)
    return list(found.values())


def _list(adapters: Adapters, artifact: Artifact, registry: Registry, store: Store) -> None:
    manifest = artifact.manifest
    versions = adapters.setdefault(manifest.name, {})
    known = versions.get(manifest.version)
    place = store.location(manifest.name, manifest.version, registry.path)
    if known:
        others = [location for location in known.locations if location.store != place.store]
        update = {"locations": sorted_locations((*others, place))}
        versions[manifest.version] = known.model_copy(update=update)
    else:
        claims = store.readable_claims(manifest.name).claims
        versions[manifest.version] = version_block(manifest, artifact.digest, claims, [place])
