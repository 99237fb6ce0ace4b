"""Sync: install exactly what a lock file says, from wherever it is still available.

    artifacts = sync(Path("adapters.lock"), Places())

What is locked comes from the cache, from where the registries say, or from where it was when it was
locked; its status is asked of the registries every time, so that a quarantine reaches every user.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from adapter_hub.artifact.contents import strangers
from adapter_hub.artifact.folder import Artifact, copy_artifact
from adapter_hub.errors import (
    AdapterHubError,
    ConflictError,
    IntegrityError,
    InvalidInputError,
    StatusError,
    few,
)
from adapter_hub.exchange.locations import ExpectedVersion, fetch_into_cache, from_first, open_beside
from adapter_hub.exchange.locking import (
    RepositoryStatuses,
    closure_of,
    listed_locations,
    refuse_older_copies,
    within_reach,
)
from adapter_hub.exchange.places import Places, warning_once
from adapter_hub.exchange.pulling import status_warnings
from adapter_hub.files.beneath import below, remove_below
from adapter_hub.files.locks import held
from adapter_hub.files.writing import remove_folder, sync_folder, temporary_beside
from adapter_hub.formats.lock_file import LockedAdapter, LockFile, read_lock
from adapter_hub.formats.manifest import MANIFEST_FILE
from adapter_hub.formats.registry_file import Location
from adapter_hub.isolation import isolated
from adapter_hub.registry.contract import Registry
from adapter_hub.registry.resolution import Verdict, judge, judge_ancestors
from adapter_hub.stores.cache import Cache

LOCK_SECONDS = 600.0


def sync(
    path: Path,
    places: Places,
    *,
    to: Path | None = None,
    allow_quarantined: str | None = None,
    failed: Callable[[str, AdapterHubError], None] | None = None,
) -> list[Artifact]:
    """Install exactly what a lock file says; the file is only read.

    Args:
        path: the lock file.
        places: registries, asked for statuses and locations, which need not be those that it was locked
            from; the cache where the adapters land; and who gets warnings. What is cached needs no store.
        to: copy each to a folder of its own below this one, named like the adapter; another version
            of the same adapter there is replaced.
        allow_quarantined: digest of a quarantined version to use anyway.
        failed: called with the reference and the error of each that cannot be installed.

    Returns:
        What was installed; every locked adapter was tried.

    Raises:
        NotFoundError, InvalidInputError: no sound lock file, or its requirements were edited since.
        IntegrityError: a registry is an older copy than the one it was locked from; without `failed`
            also if any adapter cannot be installed, with all the reasons.
    """
    locked = read_lock(path)
    if stale := locked.staleness():
        raise InvalidInputError(
            f"{path}: {few(stale)}; `adapter-hub sync` without --locked brings it up to date"
        )
    places = within_reach(warning_once(places.opened()))
    registries, cache = places.registries(), places.open_cache()
    refuse_older_copies(locked, registries, path)
    if to is not None:
        _check_folders(locked, path)
    for line in _about_registries(locked, registries):
        places.warn(line)
    installed: list[Artifact] = []
    problems: dict[str, AdapterHubError] = {}
    repositories = RepositoryStatuses(places)
    for adapter in locked.adapters:
        with isolated(adapter.ref, partial(problems.__setitem__, adapter.ref)):
            asked = repositories.with_own(adapter)
            _check_listing(adapter, locked, asked)
            for line in _judge(adapter, asked, allow_quarantined):
                places.warn(line)
            artifact = _install(adapter, path, asked, cache)
            for line in status_warnings(artifact, asked, allow_quarantined):
                places.warn(line)
            installed.append(artifact if to is None else _place(artifact, to))
        if failed and adapter.ref in problems:
            failed(adapter.ref, problems[adapter.ref])
    if problems and not failed:
        what = f"{path}: {len(problems)} of {len(locked.adapters)} adapters could not be installed"
        raise IntegrityError(what, [str(problem) for problem in problems.values()])
    return installed


def _about_registries(locked: LockFile, registries: Sequence[Registry]) -> Iterator[str]:
    for registry in registries:
        yield from registry.warnings
    asked = {registry.registry_id for registry in registries}
    for before in locked.registries:
        if before.registry_id not in asked:
            yield (
                f"registry {before.label}, from which this was locked, is not asked; its "
                f"statuses since sequence {before.sequence} are not known"
            )


def _install(adapter: LockedAdapter, path: Path, registries: Sequence[Registry], cache: Cache) -> Artifact:
    artifact = cache.get(adapter.digest) or _fetch(adapter, path, registries, cache)
    artifact.expect(adapter.name, adapter.version, str(path))
    if differences := _differences(adapter, artifact):
        hint = "the lock was edited: restore it, or rebuild it with `adapter-hub lock`"
        raise IntegrityError(f"{path}: {adapter.ref} is not what is locked", differences, hint)
    return artifact


def _check_listing(adapter: LockedAdapter, locked: LockFile, registries: Sequence[Registry]) -> None:
    """A (name, version) has one digest for ever, and does not vanish (invariant 1)."""
    for registry in registries:
        block = registry.adapters.get(adapter.name, {}).get(adapter.version)
        if block and block.digest != adapter.digest:
            raise IntegrityError(
                f"{adapter.ref}: {adapter.digest} is locked, but registry {registry.label} has "
                f"{block.digest}; a version never changes: restore the lock file, or ask another registry"
            )
        if why := registry.why_unreadable(adapter.name, adapter.version):
            raise InvalidInputError(
                f"{adapter.ref} in {registry.label}: its entry cannot be read ({why}), so its status is "
                "unknown; upgrade adapter_hub, or ask the registry's owner to mend it"
            )
    everybody_asked = {item.registry_id for item in locked.registries} <= {r.registry_id for r in registries}
    if adapter.hub or not everybody_asked or any(adapter.digest in r.by_digest for r in registries):
        return
    labels = ", ".join(item.label for item in locked.registries) or "the registry"
    raise IntegrityError(
        f"{adapter.ref} vanished: {labels} listed it when it was locked, and no registry does now; a "
        "published version never vanishes: get the current registry"
    )


def _judge(adapter: LockedAdapter, registries: Sequence[Registry], allowed: str | None) -> list[str]:
    """Return what the user should know; raise if the version's status, or an ancestor's, forbids the use."""
    entries = [registry.by_digest.get(adapter.digest) for registry in registries]
    block = next((entry[2] for entry in entries if entry), None)
    own = judge(adapter.ref, block, registries, allowed) if block else Verdict(None, ())
    closure = [item.digest for item in adapter.closure]
    inherited = judge_ancestors(adapter.ref, closure, registries, allowed)
    if refusal := own.refusal or inherited.refusal:
        raise StatusError(refusal)
    return list(dict.fromkeys((*own.warnings, *inherited.warnings)))


def _fetch(adapter: LockedAdapter, path: Path, registries: Sequence[Registry], cache: Cache) -> Artifact:
    locations = (*listed_locations(adapter.digest, registries, path), *adapter.locations)
    expected = ExpectedVersion(adapter.name, adapter.version, adapter.digest)

    def fetch(location: Location) -> Artifact:
        return fetch_into_cache(expected, open_beside(location, path, str(path), cache.folder), cache)

    return from_first(f"{adapter.ref} cannot be fetched", dict.fromkeys(locations), fetch, hint="")


def _differences(adapter: LockedAdapter, artifact: Artifact) -> list[str]:
    """Return where the rest of a locked block is not what its digest stands for."""
    manifest = artifact.manifest
    pairs = {
        "weights_digest": (adapter.weights_digest, manifest.weights_digest),
        "base_model": (adapter.base_model.to_json(), manifest.base_model.to_json()),
        "closure": (adapter.closure, closure_of(artifact)),
    }
    found = [f"another {field}" for field, (here, there) in pairs.items() if here != there]
    here, there = ({item.path: item for item in files} for files in (adapter.files, manifest.files))
    return found + [
        f"another {name}" for name in sorted({*here, *there}) if here.get(name) != there.get(name)
    ]


def _check_folders(locked: LockFile, path: Path) -> None:
    digests: dict[str, LockedAdapter] = {}
    for adapter in locked.adapters:
        first = digests.setdefault(adapter.name, adapter)
        if first.digest != adapter.digest:
            raise ConflictError(
                f"{path}: locks {first.ref} and {adapter.ref}, and --to has one folder for a name; "
                "leave out --to, or lock one of them"
            )


def _place(artifact: Artifact, root: Path) -> Artifact:
    """Copy an artifact below `root`; another version of the same adapter there is replaced, nothing else.

    Raises:
        ConflictError: something else is there, or the other version's folder holds files that are not its
            own.
        IntegrityError: the same version is, and was changed. InvalidInputError: a folder there is a link.
    """
    name = artifact.manifest.name
    folder = below(root, name)
    if not _is_replaceable(folder, artifact):
        return copy_artifact(artifact, folder)
    with held(root / ".lock", LOCK_SECONDS, str(folder)):  # no process removes what another just put there
        folder = below(root, name)
        if _is_replaceable(folder, artifact):
            new, old = temporary_beside(folder), temporary_beside(folder)
            copy_artifact(artifact, new)
            _swap(Artifact.open(folder), new, old, root)
    return copy_artifact(artifact, folder)


def _swap(there: Artifact, new: Path, old: Path, root: Path) -> None:
    """Let the folder `new` take the place of an artifact's, of which every file is removed under `old`.

    For a moment neither is there; what another process puts there in that moment stays.
    """
    listed = [entry.path for entry in there.manifest.files]
    others = strangers(there.path, listed)
    if not others:
        there.path.rename(old)
        others = strangers(old, listed)  # again, under a name that no other process looks for
        (old if others else new).rename(there.path)
    if others:
        remove_folder(new)
        raise ConflictError(
            f"{there.path}: holds {', '.join(others[:3])}{' and more' * (len(others) > 3)}, which is not "
            f"part of {there.ref} and would be lost: move it elsewhere, and sync again"
        )
    sync_folder(there.path.parent)
    place = old.relative_to(root).as_posix()
    remove_below(root, place, [*listed, MANIFEST_FILE])
    old.rmdir()


def _is_replaceable(folder: Path, artifact: Artifact) -> bool:
    try:
        there = Artifact.open(folder)
    except AdapterHubError:
        return False  # nothing, or nothing of ours
    return there.manifest.name == artifact.manifest.name and there.digest != artifact.digest
