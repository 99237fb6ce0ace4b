"""Lock: write down to the byte which adapters an application uses, and keep that up to date.

    lock(["mini/da~=1.0"], registries=open_registries(None), cache=cache, path=Path("adapters.lock"))
    bring_up_to_date(Path("adapters.lock"), registries=open_registries(None), cache=cache)

The other half is `adapter_hub.exchange.syncing`, which installs what was locked.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from packaging.version import Version

from adapter_hub.artifact.folder import Artifact
from adapter_hub.embedded import EMBEDDED
from adapter_hub.errors import AdapterHubError, IntegrityError, InvalidInputError, UnreachableError
from adapter_hub.exchange.hub_refs import open_hub_ref
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
from adapter_hub.reporting import Tell
from adapter_hub.stores.cache import Cache
from adapter_hub.stores.summary import sorted_locations


def lock(
    requirements: Sequence[str],
    *,
    registries: Sequence[Registry],
    cache: Cache,
    path: Path,
    tell: Tell | None = None,
) -> LockFile:
    """Resolve references anew, pull every version, verified, and write down what they are.

    Args:
        requirements: references to published adapters; exactly these are locked.
        registries: asked in order, see `open_registries`.
        cache: where the adapters land.
        path: the lock file, written in one step once everything is known, or not at all.
        tell: called with every warning, one line each.

    Raises:
        NotFoundError, StatusError, IntegrityError: as `pull`; for several references all of them.
        IntegrityError: a registry is an older copy than the one that `path` was locked from.
    """
    wanted = tuple(dict.fromkeys(requirements))
    if not wanted:
        raise InvalidInputError(f"{path}: nothing to lock; name adapters, like `adapter-hub lock mini/da`")
    for registry in registries:
        registry.refresh()  # also for exact versions, for which a pull settles for an older copy
    before = _readable(path)
    if before:
        refuse_older_copies(before, registries, path)
    after = _locked(wanted, {}, registries, cache, path, once(tell))
    write_lock(path, after)
    return after


def bring_up_to_date(
    path: Path,
    *,
    registries: Sequence[Registry],
    cache: Cache,
    allow_quarantined: str | None = None,
    tell: Tell | None = None,
) -> LockFile:
    """Lock anew what the requirements do not allow any more; everything else stays as it is locked.

    A version gives way if its requirement was changed by hand, or if its status forbids a new use of it
    and the requirement admits others. The file is written only if something gave way.

    Raises:
        NotFoundError, InvalidInputError: no sound lock file. Otherwise as `lock`.
    """
    before = read_lock(path)
    say = once(tell)
    registries = within_reach(registries, say)
    refuse_older_copies(before, registries, path)
    kept, repositories = {}, Repositories(cache, say)
    for text in dict.fromkeys(before.requirements):
        adapter = before.chosen(text)
        reason = None
        if adapter:
            asked = repositories.beside(registries, adapter)
            reason = _reason_to_go(text, adapter, asked, allow_quarantined)
        if adapter and not reason:
            kept[text] = adapter
        elif reason:
            say(f"{path}: {text} is locked anew: {reason}")
    if not before.staleness() and kept.keys() == set(before.requirements):
        return before
    after = _locked(before.requirements, kept, registries, cache, path, say)
    write_lock(path, after)
    return after


def refuse_older_copies(locked: LockFile, registries: Sequence[Registry], path: Path) -> None:
    """An older copy could hide a quarantine that this lock's maker already knew of."""
    now = {registry.registry_id: registry for registry in registries}
    for before in locked.registries:
        registry = now.get(before.registry_id)
        if registry and registry.sequence < before.sequence:
            raise IntegrityError(
                f"registry {registry.label}: its sequence is {registry.sequence}, {path} was locked from "
                f"{before.sequence}: an older copy; get the current one"
            )


def within_reach(registries: Sequence[Registry], say: Tell) -> list[Registry]:
    """Return the registries that can be asked, or of which there is a copy; what is locked needs none."""
    found = []
    for registry in registries:
        try:
            registry.refresh()
        except UnreachableError as error:
            say(f"{error}; what it says of statuses is not known")
        else:
            found.append(registry)
    return found


class Repositories:
    """What the repositories of `hf://` adapters say; a Hub that is out of reach is asked once."""

    def __init__(self, cache: Cache, say: Tell) -> None:
        self._cache, self._say = cache, say
        self._away = False

    def beside(self, registries: Sequence[Registry], adapter: LockedAdapter) -> Sequence[Registry]:
        """Return the registries, and for an `hf://` adapter what its own repository says besides."""
        if not adapter.hub or self._away:
            return registries
        ref = AdapterRef(adapter.name, adapter.version, digest=adapter.digest, hub=True)
        try:
            return open_hub_ref(ref, registries, self._cache, self._say, ask=True)[1]
        except UnreachableError as error:
            self._away = True
            self._say(f"{error}; statuses in repositories are not known")
            return registries


def once(tell: Tell | None) -> Tell:
    """Return a `tell` that says every line once."""
    said: set[str] = set()

    def say(line: str) -> None:
        if tell and line not in said:
            said.add(line)
            tell(line)

    return say


# making a lock


def _locked(
    requirements: Sequence[str],
    kept: Mapping[str, LockedAdapter],
    registries: Sequence[Registry],
    cache: Cache,
    path: Path,
    say: Tell,
) -> LockFile:
    adapters: dict[tuple[str, Version, bool], LockedAdapter] = {}
    problems: list[AdapterHubError] = []
    for text in requirements:
        with isolated(text, problems.append):
            adapter = kept.get(text) or _pin(text, registries, cache, path, say)
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
            "registries": tuple(_known(registries, pinned, path)),
            "adapters": tuple(chosen),
        }
    )
    if stale := lock_file.staleness():  # a registry or a repository gave something else than was asked for
        raise IntegrityError(f"{path} was not written", stale)
    return lock_file


def _pin(text: str, registries: Sequence[Registry], cache: Cache, path: Path, say: Tell) -> LockedAdapter:
    requirement = parse_requirement(text)
    artifact = pull(requirement, registries=registries, cache=cache, tell=say)
    manifest = artifact.manifest
    if requirement.hub:
        locations = [Location(store=f"hf://{manifest.name.partition('/')[0]}", repo=manifest.name)]
    else:
        locations = listed_places(artifact.digest, registries, path)
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
    """Return all ancestors of an artifact as a lock file lists them."""
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


def listed_places(digest: str, registries: Sequence[Registry], path: Path) -> list[Location]:
    """Return where the registries say that a version is, as it has to be written in the file `path`."""
    return [
        _as_written_in(path, location, registry)
        for registry in registries
        if (entry := registry.by_digest.get(digest))
        for location in entry[2].locations
        if not (registry.is_on_hub and is_folder_of_store(location.store))
    ]  # a folder that is named on the Hub is nobody's here


def _as_written_in(path: Path, location: Location, registry: Registry) -> Location:
    if not is_folder_of_store(location.store):
        return location
    return location.model_copy(update={"store": _label_from(path, registry.path.parent / location.store)})


def _label_from(path: Path, place: Path) -> str:
    """Return a path so that it stays right when the lock's folder moves as a whole, if that can be."""
    here, there = path.absolute().parent.resolve(), place.resolve()
    return f"./{there.relative_to(here).as_posix()}" if there.is_relative_to(here) else str(there)


def _readable(path: Path) -> LockFile | None:
    """Return the lock that is to be replaced; a damaged one may be replaced, too."""
    try:
        return read_lock(path)
    except AdapterHubError:
        return None


def _reason_to_go(
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
