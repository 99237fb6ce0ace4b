"""Mirror: the same versions, with their ancestors and the claims about them, in another store.

    for item in mirror(["mini/da"], source=open_store("embedded", here), target=FolderStore(folder)):
        print(item.ref, item.outcome)

For sites without a network, for moving house, and back again. Saying it again finishes what was
interrupted and copies nothing twice; make the target's registry (`registry rebuild`) once it is finished.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from adapter_hub.embedded import EMBEDDED
from adapter_hub.errors import (
    AccessError,
    AdapterHubError,
    ConflictError,
    InvalidInputError,
    NotFoundError,
    UnreachableError,
)
from adapter_hub.exchange.holdings import write_card
from adapter_hub.exchange.places import Places
from adapter_hub.exchange.statuses import StatusCopy
from adapter_hub.formats.manifest import Manifest
from adapter_hub.formats.reference import AdapterRef, parse_source
from adapter_hub.isolation import isolated
from adapter_hub.registry.status_memory import GivenStatus, StatusMemory, statement
from adapter_hub.stores.contract import Claims, Store

Outcome = Literal["copied", "present", "withdrawn", "failed"]


@dataclass(frozen=True)
class Mirrored:
    """What became of one version.

    Attributes:
        ref: `namespace/name@version`.
        outcome: `present` if the target had it; `withdrawn` if its files are gone from the source, so that
            there is nothing to copy.
        claims: how many reports and statuses were added.
        problem: why it failed, one line.
    """

    ref: str
    outcome: Outcome
    claims: int = 0
    problem: str = ""


Progress = Callable[[Mirrored, int, int], None]  # a version that is finished; how many are; of how many


def mirror(
    refs: Sequence[AdapterRef | str] = (),
    places: Places | None = None,
    *,
    source: Store,
    target: Store,
    withdraw: bool = False,
    progress: Progress | None = None,
) -> list[Mirrored]:
    """Copy versions from store to store, each verified from the bytes up, ancestors first.

    Of a version that both have, the stricter status counts: what the source says never loosens the
    target's, see `adapter_hub.exchange.statuses`. What was withdrawn at the source is not copied, and the
    target's files stay unless `withdraw` is given.

    Args:
        refs: a name means all its versions; none means everything that the source holds.
        places: the cache, which remembers the statuses that were seen, and who gets warnings; the
            user's by default.
        source: is only read.
        target: gets what it does not have.
        withdraw: remove the files of versions that the source says are withdrawn from the target, too.
        progress: called after every version.

    Returns:
        What became of each version, ancestors included; one that failed does not keep the others back.

    Raises:
        NotFoundError: the source has nothing like that. InvalidInputError: not a reference to a store, or
            the target is the embedded catalogue. UnreachableError, AccessError: a store cannot be used.
    """
    if target.label(Path("registry.json").absolute()) == EMBEDDED:
        raise InvalidInputError("the embedded catalogue ships with the package; mirror to another store")
    wanted = _wanted(refs, source)
    run = _Run(source, target, withdraw, places or Places())
    for name, version in wanted:
        run.mirror(name, version)
        if progress:
            done = list(run.outcomes.values())
            progress(done[-1], len(done), len({*wanted, *run.outcomes}))
    held = {name for (name, _), item in run.outcomes.items() if item.outcome in ("copied", "present")}
    for name in sorted(held):
        write_card(name, target)
    return list(run.outcomes.values())


def _wanted(refs: Sequence[AdapterRef | str], source: Store) -> list[tuple[str, str]]:
    if not refs:
        found = [(name, version) for name in source.names() for version in source.versions(name)]
        if not found:
            raise NotFoundError("nothing to mirror: the source holds no adapters (namespace/name/version/…)")
        return found
    found = []
    for item in refs:
        ref = parse_source(item)
        if isinstance(ref, Path):
            raise InvalidInputError(f"{item}: a folder; publish it, a mirror copies what is published")
        if ref.hub:
            raise InvalidInputError(
                f"{ref}: name the store with --from hf://namespace, and the adapter without"
            )
        versions = source.versions(ref.name)
        admitted = [version for version in versions if _admits(ref, version, source)]
        if not admitted:
            there = f"it has {', '.join(versions)}" if versions else "it has no version of this name"
            raise NotFoundError(f"{ref}: not in the source; {there}")
        found += [(ref.name, version) for version in admitted]
    return list(dict.fromkeys(found))


def _admits(ref: AdapterRef, version: str, source: Store) -> bool:
    if (ref.version or ref.compatible) and not ref.admits(version):
        return False
    return ref.digest is None or source.manifest(ref.name, version)[1] == ref.digest


class _Run:
    """One run of a mirror: what it has done, and what it knows of the two stores."""

    def __init__(self, source: Store, target: Store, withdraw: bool, places: Places) -> None:
        self.source, self.target, self.withdraw, self.tell = source, target, withdraw, places.warn
        self._memory = StatusMemory(places.cache_folder)
        self.outcomes: dict[tuple[str, str], Mirrored] = {}
        self._at_source: dict[str, Claims] = {}
        self._at_target: dict[str, Claims] = {}
        self._versions: dict[tuple[int, str], list[str]] = {}

    def mirror(self, name: str, version: str) -> None:
        """Mirror one version, unless this run did so already."""
        if (name, version) in self.outcomes:
            return
        ref = f"{name}@{version}"

        def failed(error: AdapterHubError) -> None:
            self.outcomes[name, version] = Mirrored(ref, "failed", problem=str(error))

        with isolated(ref, failed, through=(UnreachableError, AccessError)):  # the next would meet those, too
            manifest, digest = self.source.manifest(name, version)
            # before any byte is copied: its status has to be sound
            claims = self._claims(self.source, self._at_source, name)
            outcome = self._copy(manifest, digest, claims)
            added = 0 if outcome == "withdrawn" else self._add_claims(manifest, digest, claims)
            self.outcomes[name, version] = Mirrored(ref, outcome, added)

    def _copy(self, manifest: Manifest, digest: str, claims: Claims) -> Outcome:
        name, version = manifest.name, manifest.version
        held = self._held(name, version)
        if held not in (None, digest):
            raise ConflictError(
                f"{manifest.ref}: the target has it with other bytes ({held}, the source's are {digest}); "
                "a version never changes: find out which of the two is the published one"
            )
        for parent in manifest.parents:
            self._mirror_ancestor(manifest.ref, parent.name, parent.version, parent.digest)
        if held:
            return "present"
        last = claims.status_of(version)
        if last and last.status == "withdrawn":
            self.tell(
                f"{manifest.ref} was withdrawn ({last.reason}): its files are gone, so it is not mirrored"
            )
            return "withdrawn"
        from adapter_hub.cards import render_card  # noqa: PLC0415 - the template engine is for writers only

        with tempfile.TemporaryDirectory(prefix="adapter-hub-") as scratch:
            artifact = self.source.fetch(name, version, Path(scratch, "artifact"), digest=digest)
            ancestors = sorted(artifact.ancestors().items(), key=lambda item: item[1].created)
            for ancestor, its in ancestors:  # also those beyond a parent that the source does not have
                self._mirror_ancestor(manifest.ref, its.name, its.version, ancestor)
            self.target.push(
                artifact, render_card(manifest, claims.reports, last, store=self.target.label(Path()))
            )
        self._versions_in(self.target, name).append(version)
        return "copied"

    def _mirror_ancestor(self, child: str, name: str, version: str, digest: str) -> None:
        if version in self._versions_in(self.source, name):
            if not self._can_hold(name):
                self.tell(
                    f"{name}@{version}, an ancestor of {child}, cannot be in the target; its manifest can"
                )
            elif self.source.manifest(name, version)[1] == digest:
                self.mirror(name, version)
            else:
                self.tell(f"{name}@{version} in the source is not what {child} was made from; it is left out")
        held = self._held(name, version)
        if held not in (None, digest):
            raise ConflictError(
                f"{child} was made from {name}@{version} with digest {digest}, but the target's has {held}; "
                "a version never changes: find out which of the two is the published one"
            )

    def _add_claims(self, manifest: Manifest, digest: str, claims: Claims) -> int:
        """Add what the source says and the target does not; statuses first, all of them at once."""
        name, version = manifest.name, manifest.version
        known = self._claims(self.target, self._at_target, name)
        self._remember(manifest, digest, claims)
        entries = StatusCopy(manifest.ref, version, self.withdraw, self.tell).entries(claims, known)
        if entries:
            self.target.attach_statuses(name, entries)
        found = claims.reports_on(manifest.function_digest)
        reports = [report for report in found if report not in known.reports]
        for report in reports:
            self.target.attach(name, report)
        known = Claims((*known.reports, *reports), (*known.statuses, *entries))
        self._at_target[name] = known
        if self.withdraw and _is_withdrawn(version, claims) and _is_withdrawn(version, known):
            self.target.withdraw(name, version)
        return len(entries) + len(reports)

    def _remember(self, manifest: Manifest, digest: str, claims: Claims) -> None:
        """Remember the source's status on this machine; see `adapter_hub.registry.status_memory`."""
        last = claims.status_of(manifest.version)
        if last and last.digest == digest:
            told = statement(
                GivenStatus(digest, manifest.function_digest, last.status, last.reason, last.time),
                manifest.ref,
                f"store {self.source.label(Path('/registry.json'))}",
            )
            self._memory.remember([told] if told else [])

    def _held(self, name: str, version: str) -> str | None:
        """Return the digest of a version at the target, or None."""
        if version not in self._versions_in(self.target, name):
            return None
        return self.target.manifest(name, version)[1]

    def _versions_in(self, store: Store, name: str) -> list[str]:
        key = (id(store), name)
        if key not in self._versions:
            try:
                self._versions[key] = store.versions(name)
            except InvalidInputError:  # a name that this store can never have, like another namespace's
                self._versions[key] = []
        return self._versions[key]

    def _can_hold(self, name: str) -> bool:
        try:
            self.target.versions(name)
        except InvalidInputError:
            return False
        return True

    def _claims(self, store: Store, remembered: dict[str, Claims], name: str) -> Claims:
        if name not in remembered:
            remembered[name] = store.claims(name)
        return remembered[name]


def _is_withdrawn(version: str, claims: Claims) -> bool:
    last = claims.status_of(version)
    return last is not None and last.status == "withdrawn"
