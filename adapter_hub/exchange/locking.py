"""Lock: write down to the byte which adapters an application uses, and keep that up to date.

    lock(["mini/da~=1.0"], Places(), path=Path("adapters.lock"))
    update_lock(Path("adapters.lock"), Places())

The other half is `adapter_hub.exchange.syncing`, which installs what was locked.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from packaging.version import Version

from adapter_hub.artifact.folder import Artifact
from adapter_hub.embedded import EMBEDDED
from adapter_hub.errors import (
    AdapterHubError,
    IntegrityError,
    InvalidInputError,
    NewerFormatError,
    UnreachableError,
)
from adapter_hub.exchange.hub_refs import open_hub_ref
from adapter_hub.exchange.places import Places, warning_once
from adapter_hub.exchange.pulling import pull
from adapter_hub.formats.lock_file import (
    LOCK_SCHEMA,
    LockedAdapter,
    LockedAncestor,
    LockedRegistry,
    LockFile,
    parse_requirement,
    read_lock,
    write_lock,
)
from adapter_hub.formats.reference import AdapterRef, is_folder_of_store
from adapter_hub.formats.registry_file import Location
from adapter_hub.isolation import isolated
from adapter_hub.registry.contract import Registry
from adapter_hub.registry.resolution import judge_ancestors
from adapter_hub.registry.standing import standing
from adapter_hub.stores.summary import sorted_locations


def lock(requirements: Sequence[str], places: Places, *, path: Path) -> LockFile:
    """Resolve references again, pull and verify every version, and write down what they are.

    Args:
        requirements: references to published adapters; exactly these are locked.
        places: registries to ask, the cache where the adapters land, and who gets warnings.
        path: the lock file, written in one step once everything is known, or not at all.

    Raises:
        NotFoundError, StatusError, IntegrityError: as `pull`; for several references all of them.
        IntegrityError: a registry is an older copy than the one that `path` was locked from.
    """
    wanted = tuple(dict.fromkeys(requirements))
    if not wanted:
        raise InvalidInputError(f"{path}: nothing to lock; name adapters, like `adapter-hub lock mini/da`")
    places = warning_once(places.opened())
    for registry in places.registries():
        registry.refresh()  # also for exact versions, for which a pull settles for an older copy
    before = _readable(path)
    if before:
        refuse_older_copies(before, places.registries(), path)
    after = _locked(wanted, {}, places, path)
    write_lock(path, after)
    return after


def update_lock(path: Path, places: Places, *, allow_quarantined: str | None = None) -> LockFile:
    """Lock again what the requirements no longer allow; everything else stays as it is locked.

    A version is replaced if its requirement was edited, or if its status forbids a new use of it
    and the requirement admits others. The file is written only if something was replaced.

    Args:
        path: the lock file.
        places: registries to ask, the cache where the adapters land, and who gets warnings.
        allow_quarantined: digest of a quarantined version to use anyway.

    Raises:
        NotFoundError, InvalidInputError: no sound lock file. Otherwise as `lock`.
    """
    before = read_lock(path)
    places = within_reach(warning_once(places.opened()))
    refuse_older_copies(before, places.registries(), path)
    kept, repositories = {}, RepositoryStatuses(places)
    for text in dict.fromkeys(before.requirements):
        adapter = before.chosen(text)
        reason = None
        if adapter:
            asked = repositories.with_own(adapter)
            reason = _reason_to_replace(text, adapter, asked, allow_quarantined)
        if adapter and not reason:
            kept[text] = adapter
        elif reason:
            places.warn(f"{path}: {text} is locked again: {reason}")
    if not before.staleness() and kept.keys() == set(before.requirements):
        return before
    after = _locked(before.requirements, kept, places, path)
    write_lock(path, after)
    return after


def refuse_older_copies(locked: LockFile, registries: Sequence[Registry], path: Path) -> None:
    """An older copy could hide a quarantine that this lock's maker already knew of.

    Args:
        locked: the lock file, with the sequences it was made from.
        registries: that are asked now.
        path: of the lock file, for the message.
    """
    now = {registry.registry_id: registry for registry in registries}
    for before in locked.registries:
        registry = now.get(before.registry_id)
        if registry and registry.sequence < before.sequence:
            raise IntegrityError(
                f"registry {registry.label}: its sequence is {registry.sequence}, {path} was locked from "
                f"{before.sequence}: an older copy; get the current one"
            )


def within_reach(places: Places) -> Places:
    """Return the places with the registries that can be asked, or have a copy; what is locked needs none.

    Args:
        places: with open registries.
    """
    found = []
    for registry in places.registries():
        try:
            registry.refresh()
        except UnreachableError as error:
            places.warn(f"{error}; its statuses are not known")
        else:
            found.append(registry)
    return places.asking(found)


class RepositoryStatuses:
    """What the repositories of `hf://` adapters say; a Hub that is out of reach is asked once."""

    def __init__(self, places: Places) -> None:
        self._places, self._unreachable = places, False

    def with_own(self, adapter: LockedAdapter) -> tuple[Registry, ...]:
        """Return the registries, and for an `hf://` adapter its own repository as well.

        Args:
            adapter: that is asked about.
        """
        registries = self._places.registries()
        if not adapter.hub or self._unreachable:
            return registries
        ref = AdapterRef(adapter.name, adapter.version, digest=adapter.digest, hub=True)
        try:
            return open_hub_ref(ref, self._places, ask=True)[1].registries()
        except UnreachableError as error:
            self._unreachable = True
            self._places.warn(f"{error}; statuses in repositories are not known")
            return registries


# making a lock


def _locked(
    requirements: Sequence[str],
    kept: Mapping[str, LockedAdapter],
    places: Places,
    path: Path,
) -> LockFile:
    adapters: dict[tuple[str, Version, bool], LockedAdapter] = {}
    problems: list[AdapterHubError] = []
    for text in requirements:
        with isolated(text, problems.append):
            adapter = kept.get(text) or _pin(text, places, path)
            adapters[adapter.name, Version(adapter.version), adapter.hub] = adapter
    if len(problems) == 1:
        raise problems[0]
    if problems:
        raise IntegrityError(f"{path} was not written", [str(error) for error in problems])
    chosen = [adapters[key] for key in sorted(adapters)]
    pinned = {adapter.digest for adapter in chosen}
    pinned |= {ancestor.digest for adapter in chosen for ancestor in adapter.closure}
    lock_file = LockFile.model_validate(
        {
            "schema": LOCK_SCHEMA,
            "requirements": tuple(requirements),
            "registries": tuple(_known(places.registries(), pinned, path)),
            "adapters": tuple(chosen),
        }
    )
    if stale := lock_file.staleness():  # a registry or a repository gave something else than was asked for
        raise IntegrityError(f"{path} was not written", stale)
    return lock_file


def _pin(text: str, places: Places, path: Path) -> LockedAdapter:
    requirement = parse_requirement(text)
    artifact = pull(requirement, places)
    manifest = artifact.manifest
    if requirement.hub:
        locations = [Location(store=f"hf://{manifest.name.partition('/')[0]}", repo=manifest.name)]
    else:
        locations = listed_locations(artifact.digest, places.registries(), path)
    return LockedAdapter(
        name=manifest.name,
        version=manifest.version,
        digest=artifact.digest,
        weights_digest=manifest.weights_digest,
        hub=requirement.hub,
        base_model=manifest.base_model,
        files=manifest.files,
        closure=closure_of(artifact),
        locations=sorted_locations(locations),
    )


def closure_of(artifact: Artifact) -> tuple[LockedAncestor, ...]:
    """Return all ancestors of an artifact as a lock file lists them.

    Args:
        artifact: with its ancestors' manifests.
    """
    found = [
        LockedAncestor(name=manifest.name, version=manifest.version, digest=digest)
        for digest, manifest in artifact.ancestors().items()
    ]
    return tuple(sorted(found, key=lambda item: (item.name, Version(item.version), item.digest)))


def _known(registries: Sequence[Registry], digests: set[str], path: Path) -> Iterator[LockedRegistry]:
    for registry in registries:
        if digests & registry.by_digest.keys():
            label = registry.label if registry.is_on_hub else _label_from(path, registry.path)
            label = EMBEDDED if registry.is_embedded else label  # its path differs on every machine
            yield LockedRegistry(registry_id=registry.registry_id, label=label, sequence=registry.sequence)


def listed_locations(digest: str, registries: Sequence[Registry], path: Path) -> list[Location]:
    """Return where the registries say that a version is, as it has to be written in the file `path`.

    Args:
        digest: of the version's manifest.
        registries: asked in order.
        path: the lock file; folders beside it are written relative to it.
    """
    return [
        _as_written_in(path, location, registry)
        for registry in registries
        if (entry := registry.by_digest.get(digest))
        for location in entry[2].locations
        if not (registry.is_on_hub and is_folder_of_store(location.store))
    ]  # a folder that a registry on the Hub names means nothing on this machine


def _as_written_in(path: Path, location: Location, registry: Registry) -> Location:
    if not is_folder_of_store(location.store):
        return location
    return location.model_copy(update={"store": _label_from(path, registry.path.parent / location.store)})


def _label_from(path: Path, place: Path) -> str:
    """Return a path so that it stays right when the lock's folder moves as a whole, if that can be."""
    here, there = path.absolute().parent.resolve(), place.resolve()
    return f"./{there.relative_to(here).as_posix()}" if there.is_relative_to(here) else str(there)


def _readable(path: Path) -> LockFile | None:
    """Return the lock that is to be replaced; a damaged one may be replaced, one of a later program not."""
    try:
        return read_lock(path)
    except NewerFormatError:
        raise
    except AdapterHubError:
        return None


def _reason_to_replace(
    text: str, adapter: LockedAdapter, registries: Sequence[Registry], allowed: str | None
) -> str | None:
    requirement = parse_requirement(text)
    if requirement.version or requirement.digest:
        return None  # an exact pin: nothing else would do, and installing judges it
    own = standing(adapter.digest, registries)
    if own and own.status in ("yanked", "withdrawn", "quarantined") and allowed != adapter.digest:
        return str(own)
    closure = [item.digest for item in adapter.closure]
    return judge_ancestors(adapter.ref, closure, registries, allowed).refusal
