"""Stores keep artifacts, and beside them the claims about them: evaluation reports and statuses.

    store = open_store("./store", registry.path)
    store.push(artifact)
    store.fetch("mini/da", "1.0.0", folder)

A store knows nothing of the registry; `adapter_hub.exchange` is the only place where the two meet.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol

from adapter_hub.artifact.folder import Artifact
from adapter_hub.errors import IntegrityError
from adapter_hub.formats.claims import EvaluationReport, StatusEntry, strictness
from adapter_hub.formats.manifest import Manifest
from adapter_hub.formats.registry_file import Location
from adapter_hub.formats.times import is_ahead

Claim = EvaluationReport | StatusEntry


@dataclass(frozen=True)
class Claims:
    """What is claimed about the versions of one name.

    Attributes:
        reports: by their file's name, which is the sha256 of its bytes.
        statuses: in order of time, not in the order given; those of one time, as given. One that is
            dated ahead of this clock has the place of the one before it.
    """

    reports: tuple[EvaluationReport, ...] = ()
    statuses: tuple[StatusEntry, ...] = ()

    def __post_init__(self) -> None:
        """Sort: what comes late, from a mirror, must not undo what happened after it."""
        object.__setattr__(self, "statuses", tuple(_in_time(self.statuses)))

    @cached_property
    def by_version(self) -> Mapping[str, Sequence[StatusEntry]]:
        """The entries of every version that has any."""
        found: dict[str, list[StatusEntry]] = {}
        for entry in self.statuses:
            found.setdefault(entry.version, []).append(entry)
        return found

    def with_statuses(self, entries: Iterable[StatusEntry]) -> Claims:
        """Return the claims with more status entries, but those that say what was so at their time.

        Args:
            entries: to add.
        """
        old, idle = set(self.statuses), set()
        new = [entry for entry in dict.fromkeys(entries) if entry not in old]
        merged = Claims(self.reports, (*self.statuses, *new))
        for of_version in merged.by_version.values():
            before: StatusEntry | None = None
            for entry in of_version:
                if entry not in old and before and _says(before) == _says(entry):
                    idle.add(entry)
                before = _counting(before, entry)
        kept = tuple(entry for entry in merged.statuses if entry not in idle)
        return self if len(kept) == len(self.statuses) else Claims(self.reports, kept)

    def status_of(self, version: str) -> StatusEntry | None:
        """Return the entry that counts for a version: the latest, or its withdrawal, which is final.

        One that is dated ahead of this clock counts only where it is stricter than those before it.

        Args:
            version: like `1.2.0`.
        """
        counts: StatusEntry | None = None
        for entry in self.by_version.get(version, ()):
            counts = _counting(counts, entry)
        return counts

    def published(self, version: str) -> str | None:
        """Return the time of a version's first entry, which publishing adds.

        Args:
            version: like `1.2.0`.
        """
        entries = self.by_version.get(version, ())
        return next((entry.time for entry in entries if not is_ahead(entry.time)), None)

    def reports_on(self, function_digest: str) -> tuple[EvaluationReport, ...]:
        """Return the reports on what has this function digest.

        Args:
            function_digest: of a version.
        """
        return tuple(r for r in self.reports if r.subject.function_digest == function_digest)


def _in_time(entries: Iterable[StatusEntry]) -> list[StatusEntry]:
    keyed, time = [], ""
    for entry in entries:
        time = time if is_ahead(entry.time) else entry.time
        keyed.append((time, entry))
    return [entry for _, entry in sorted(keyed, key=lambda item: item[0])]


def _counting(before: StatusEntry | None, entry: StatusEntry) -> StatusEntry:
    """Return which of two successive entries of a version counts."""
    if before is None:
        return entry
    looser = strictness(entry.status) < strictness(before.status)
    final = before.status == "withdrawn" and entry.status != "withdrawn"
    return before if final or (looser and is_ahead(entry.time)) else entry


def _says(entry: StatusEntry) -> tuple[str, str]:
    return entry.status, entry.reason


@dataclass(frozen=True)
class ReadableClaims:
    """The claims about a name that could be read, and what could not.

    Attributes:
        claims: the sound ones.
        problems: of damaged reports, one line each.
        status_problem: why the statuses could not be read, which then are unknown and not `active`.
    """

    claims: Claims
    problems: tuple[str, ...] = ()
    status_problem: str = ""

    def all_sound(self, where: str) -> Claims:
        """Return the claims, if every one is sound.

        Args:
            where: for the message.

        Raises:
            IntegrityError: with every problem.
        """
        if self.problems:
            raise IntegrityError(where, self.problems)
        if self.status_problem:
            raise IntegrityError(self.status_problem)
        return self.claims


class Store(Protocol):
    """What every store can do; versions never change, claims are only added."""

    def asking_once(self) -> AbstractContextManager[None]:
        """Answer from memory what was asked before inside the block, for the length of one operation.

        What this process writes counts at once. What others write is noticed where it matters: a write on
        top of something else than what is there is refused and planned again.
        """

    def ask_again(self) -> None:
        """Take nothing that may have changed from memory, as others have written meanwhile."""

    def names(self) -> list[str]:
        """Return the names of all adapters, sorted."""

    def versions(self, name: str) -> list[str]:
        """Return the versions of an adapter from oldest to newest, withdrawn ones included.

        Args:
            name: of the adapter, `namespace/name`.
        """

    def manifest(self, name: str, version: str) -> tuple[Manifest, str]:
        """Return the manifest of a version and its digest.

        Args:
            name: of the adapter, `namespace/name`.
            version: of it, like `1.2.0`.

        Raises:
            NotFoundError: the store does not have it. IntegrityError: another version is in its place.
        """

    def push(self, artifact: Artifact, card: str = "", *, restore: bool = False) -> bool:
        """Take an artifact in; on return it is there, whole and verified. The same bytes again are fine.

        Args:
            artifact: it goes in as it is.
            card: the README.md of this version, for stores that keep one with every version.
            restore: this is what was published under its version, so damaged or other bytes in its place
                are replaced; a folder keeps them beside it, a Hub in its history.

        Returns:
            Whether it had to be written; False if all of it was there.

        Raises:
            IntegrityError: it is not sound. ConflictError: the version exists with other bytes.
            StatusError: the version was withdrawn.
        """

    def fetch(
        self, name: str, version: str, folder: Path, *, digest: str | None = None, size: int | None = None
    ) -> Artifact:
        """Copy a version to `folder`, which appears whole and verified or not at all.

        Args:
            name: of the adapter.
            version: of it.
            folder: where it goes.
            digest: that it has to have.
            size: bytes that all its files may have.

        Raises:
            NotFoundError: the store does not have it. IntegrityError: not sound, not `digest`, or larger.
            StatusError: withdrawn, its files are gone.
        """

    def attach(self, name: str, claim: Claim) -> None:
        """Add a report or a status entry; adding the same again does nothing.

        Args:
            name: of the adapter, `namespace/name`.
            claim: about one of its versions.

        Raises:
            NotFoundError: the store has no version that the claim is about.
        """

    def attach_statuses(self, name: str, entries: Sequence[StatusEntry], *, known: bool = False) -> None:
        """Add status entries at once; those that say nothing new are left out.

        Args:
            name: of the adapter.
            entries: about its versions.
            known: the versions are known from a registry, even if their bytes here are lost.

        Raises:
            NotFoundError, IntegrityError: about no version, or about other bytes. InvalidInputError: dated
            ahead of this clock, or more than a status file may hold.
        """

    def claims(self, name: str) -> Claims:
        """Return all claims about the versions of `name`.

        Args:
            name: of the adapter, `namespace/name`.

        Raises:
            IntegrityError: a claim is damaged or in a wrong place; all of them.
        """

    def readable_claims(self, name: str) -> ReadableClaims:
        """Return the claims about the versions of `name` that can be read, and what cannot.

        Args:
            name: of the adapter, `namespace/name`.
        """

    def withdraw(self, name: str, version: str) -> tuple[str, ...]:
        """Remove the files that a version lists; its manifest and its ancestors' stay.

        Args:
            name: of the adapter, `namespace/name`.
            version: of it, like `1.2.0`.

        Returns:
            Other files in its folder, which are not part of it and stay.
        """

    def present(self, name: str, version: str, card: str) -> None:
        """Make a version what people see who ask for the name alone, with its card as README.md.

        Args:
            name: of the adapter, `namespace/name`.
            version: of it, like `1.2.0`.
            card: Markdown with front matter.
        """

    def label(self, registry: Path) -> str:
        """Return how a registry file names this store; `open_store` opens it by that.

        Args:
            registry: path of the registry file.
        """

    def location(self, name: str, version: str, registry: Path) -> Location:
        """Return how a registry file writes down where a version is.

        Args:
            name: of the adapter, `namespace/name`.
            version: of it, like `1.2.0`.
            registry: path of the registry file, to which a folder's path is relative.
        """
