"""A store in a folder: a disk, a shared drive, or the catalogue that ships with the package.

    <store>/<namespace>/<name>/<version>/adapter.json …       the artifact
    <store>/<namespace>/<name>/evaluations/<weights>/<sha256>.json
    <store>/<namespace>/<name>/status.json  README.md

Whatever has its final name is whole: pushes go to a temporary name, are verified and flushed, and then
renamed. Reading takes no lock.
"""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

from adapter_hub import embedded
from adapter_hub.artifact.contents import check_size, strangers
from adapter_hub.artifact.folder import ANCESTORS, Artifact, copy_artifact
from adapter_hub.embedded import EMBEDDED
from adapter_hub.errors import (
    AdapterHubError,
    ConflictError,
    IntegrityError,
    InvalidInputError,
    NotFoundError,
    StatusError,
)
from adapter_hub.files.beneath import below, remove_below, write_below
from adapter_hub.files.locks import held
from adapter_hub.files.reading import read_bounded
from adapter_hub.files.writing import TEMPORARY, make_folder, sync_folder
from adapter_hub.formats.claims import EvaluationReport, StatusEntry
from adapter_hub.formats.manifest import MANIFEST_FILE, Manifest
from adapter_hub.formats.reference import VERSION_PATTERN, check_name, check_version, other_spelling
from adapter_hub.formats.registry_file import Location
from adapter_hub.formats.versions import sort_versions
from adapter_hub.stores.claim_files import (
    CARD_FILE,
    EVALUATIONS,
    MAXIMUM_CLAIM,
    STATUS_FILE,
    check_about,
    parse_report,
    parse_statuses,
    report_path,
    statuses_with,
)
from adapter_hub.stores.contract import Claim, Claims, ReadableClaims

LOCK_SECONDS = 60.0


class FolderStore:
    """A store in a folder, which the first push makes.

    Attributes:
        path: the folder.
    """

    def __init__(self, path: Path) -> None:
        """Name a store without touching it."""
        self.path = path

    @property
    def is_embedded(self) -> bool:
        """Whether this is the store of the embedded catalogue."""
        return self.path.resolve() == embedded.store_path().resolve()

    def label(self, registry: Path) -> str:
        """Return `embedded`, a path relative to the registry's folder if it is inside, or an absolute one."""
        here, there = registry.parent.resolve(), self.path.resolve()
        if self.is_embedded:
            return EMBEDDED
        return f"./{there.relative_to(here).as_posix()}" if there.is_relative_to(here) else str(there)

    def location(self, name: str, version: str, registry: Path) -> Location:
        """Return how a registry file writes down where a version is; see `Store.location`."""
        return Location(store=self.label(registry), path=f"{name}/{version}")

    def asking_once(self) -> AbstractContextManager[None]:
        """Read the disk as often as need be."""
        return nullcontext()

    def ask_again(self) -> None:
        """Do nothing: the disk is always read."""

    def names(self) -> list[str]:
        """Return the names that have at least one version, sorted."""
        found = [f"{path.parent.name}/{path.name}" for path in self.path.glob("*/*") if path.is_dir()]
        return sorted(name for name in found if _is_name(name) and self._has_versions(name))

    def _has_versions(self, name: str) -> bool:
        try:
            return bool(self.versions(name))
        except InvalidInputError:  # something is there, behind a link; asking for it by name raises
            return True

    def versions(self, name: str) -> list[str]:
        """Return the versions from oldest to newest, withdrawn ones included."""
        folder = self._folder(name)
        found = folder.iterdir() if folder.is_dir() else ()
        return sort_versions(
            path.name
            for path in found
            if re.fullmatch(VERSION_PATTERN, path.name) and (path / MANIFEST_FILE).is_file()
        )

    def manifest(self, name: str, version: str) -> tuple[Manifest, str]:
        """Return the manifest of a version and its digest; see `Store.manifest`."""
        artifact = self._open(name, version)
        return artifact.manifest, artifact.digest

    def push(self, artifact: Artifact, card: str = "", *, restore: bool = False) -> bool:
        """Take an artifact in; see `Store.push`. The card is beside the versions, `present` writes it."""
        name, version = artifact.manifest.name, artifact.manifest.version
        self._refuse_withdrawn(name, version)
        self._refuse_other_spelling(name)
        folder = self._folder(name, version)
        if restore:
            with self._locked():
                _set_aside(folder, artifact.digest)
        is_missing = not folder.exists()
        copy_artifact(artifact, folder)
        return is_missing

    def fetch(
        self, name: str, version: str, folder: Path, *, digest: str | None = None, size: int | None = None
    ) -> Artifact:
        """Copy a version to `folder`; see `Store.fetch`."""
        artifact = self._expected(name, version, digest)
        check_size(artifact.manifest, size, str(artifact.path))
        return copy_artifact(artifact, folder)

    def found(self, name: str, version: str, digest: str) -> Artifact:
        """Return a version where it is, verified; see `Store.fetch` for what may be raised.

        Args:
            name: of the adapter, `namespace/name`.
            version: of it, like `1.2.0`.
            digest: of its manifest.
        """
        artifact = self._expected(name, version, digest)
        artifact.verify()
        return artifact

    def _expected(self, name: str, version: str, digest: str | None) -> Artifact:
        self._refuse_withdrawn(name, version)
        artifact = self._open(name, version)
        if digest is not None and artifact.digest != digest:
            raise IntegrityError(
                f"{artifact.path}: holds {artifact.ref} with digest {artifact.digest}, expected {digest}"
            )
        return artifact

    def attach(self, name: str, claim: Claim) -> None:
        """Add a report or a status entry; see `Store.attach`."""
        if isinstance(claim, StatusEntry):
            self.attach_statuses(name, [claim])
        else:
            self._attach_report(name, claim)

    def attach_statuses(self, name: str, entries: Sequence[StatusEntry], *, known: bool = False) -> None:
        """Add status entries at once; see `Store.attach_statuses`."""
        versions = set() if known else {entry.version for entry in entries}
        digests = {version: self.manifest(name, version)[1] for version in versions}
        for entry in entries:
            check_about(name, entry, digests.get(entry.version, entry.digest))
        with self._locked():
            data = statuses_with(self._statuses(name), entries)
            if data is not None:
                write_below(self.path, f"{name}/{STATUS_FILE}", data)

    def claims(self, name: str) -> Claims:
        """Return all claims about the versions of `name`; see `Store.claims`."""
        return self.readable_claims(name).all_sound(f"claims about {name} in {self.path}")

    def readable_claims(self, name: str) -> ReadableClaims:
        """Return the claims about the versions of `name` that can be read; see `Store.readable_claims`."""
        reports, problems = [], []
        folder = self._folder(name)
        for path in sorted(self._folder(name, EVALUATIONS).glob("*/*.json")):
            try:
                relative = path.relative_to(folder).as_posix()
                below(folder, relative)
                reports.append(parse_report(_read(path), relative, str(path)))
            except AdapterHubError as error:
                problems.append(str(error))
        try:
            return ReadableClaims(Claims(tuple(reports), self._statuses(name)), tuple(problems))
        except AdapterHubError as error:
            return ReadableClaims(Claims(tuple(reports)), tuple(problems), str(error))

    def withdraw(self, name: str, version: str) -> tuple[str, ...]:
        """Remove the files of a version; see `Store.withdraw`."""
        artifact = self._open(name, version)
        listed = [entry.path for entry in artifact.manifest.files]
        own = [path for path in listed if not path.startswith(f"{ANCESTORS}/")]
        remove_below(self.path, f"{name}/{version}", own)
        return tuple(strangers(artifact.path, listed))

    def present(self, name: str, version: str, card: str) -> None:
        """Replace the README.md of an adapter by the card of one of its versions; see `Store.present`."""
        path = self._folder(name) / CARD_FILE
        data = card.encode()
        try:
            same = read_bounded(path, len(data), follow=False) == data
        except (FileNotFoundError, InvalidInputError):
            same = False
        if not same:
            write_below(self.path, f"{name}/{CARD_FILE}", data)

    def _folder(self, name: str, *inner: str) -> Path:
        return below(self.path, check_name(name), *inner)

    def _refuse_other_spelling(self, name: str) -> None:
        there = (f"{path.parent.name}/{path.name}" for path in self.path.glob("*/*"))
        if other := other_spelling(name, there):
            raise ConflictError(
                f"store {self.path}: has {other}, and many disks make no difference between that and {name}"
            )

    def _open(self, name: str, version: str) -> Artifact:
        folder = self._folder(name, check_version(version))
        if not (folder / MANIFEST_FILE).exists():
            raise NotFoundError(f"store {self.path}: no {name}@{version}")
        artifact = Artifact.open(folder)
        if (artifact.manifest.name, artifact.manifest.version) != (name, version):
            raise IntegrityError(f"{folder}: holds {artifact.ref}, expected {name}@{version}")
        return artifact

    def _refuse_withdrawn(self, name: str, version: str) -> None:
        last = Claims(statuses=self._statuses(name)).status_of(version)
        if last and last.status == "withdrawn":
            raise StatusError(f"{name}@{version} was withdrawn ({last.reason}): its files were removed")

    def _statuses(self, name: str) -> tuple[StatusEntry, ...]:
        path = self._folder(name) / STATUS_FILE
        return parse_statuses(_read(path), str(path)) if os.path.lexists(path) else ()

    def _attach_report(self, name: str, report: EvaluationReport) -> None:
        known = [self.manifest(name, version)[0].function_digest for version in self.versions(name)]
        path = report_path(report, known, f"store {self.path}")
        if not self._folder(name, path).exists():
            write_below(self.path, f"{name}/{path}", report.to_bytes())

    @contextmanager
    def _locked(self) -> Iterator[None]:
        make_folder(self.path)
        with held(self.path / ".lock", LOCK_SECONDS, f"store {self.path}"):
            yield


def _set_aside(folder: Path, digest: str) -> None:
    """Give another name to a version's folder that is not, whole, the version with this digest."""
    if not folder.exists():
        return
    try:
        there = Artifact.open(folder)
        if there.digest == digest:
            there.verify()
            return
    except AdapterHubError:
        pass
    folder.rename(folder.with_name(f"{folder.name}.damaged-{secrets.token_hex(4)}"))
    sync_folder(folder.parent)


def _is_name(name: str) -> bool:
    try:
        return not name.startswith(TEMPORARY) and bool(check_name(name))
    except InvalidInputError:
        return False


def _read(path: Path) -> bytes:
    try:
        return read_bounded(path, MAXIMUM_CLAIM, follow=False)
    except InvalidInputError as error:
        raise IntegrityError(str(error)) from None
