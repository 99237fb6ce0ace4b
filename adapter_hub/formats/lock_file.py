"""`adapters.lock`: which adapters an application uses, to the byte.

    lock = read_lock(Path("adapters.lock"))
    lock.adapters[0].digest
    lock.to_text() == Path("adapters.lock").read_text()     # for a file that this program wrote

It is committed beside the application, like any lock file: two-space indent, sorted keys, adapters
sorted by name. Only `requirements` is for hands to edit; `adapter-hub sync` brings the rest up to date.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self

from packaging.version import Version
from pydantic import FailFast, Field, model_validator

from adapter_hub.errors import DamagedFileError, InvalidInputError, NewerFormatError, NotFoundError
from adapter_hub.files.reading import read_bounded
from adapter_hub.files.writing import resolved, write_atomically
from adapter_hub.formats.canonical import Count, Digest, Record, Text, check_schema, read_json
from adapter_hub.formats.manifest import MAXIMUM_FILES, BaseModelPin, FileEntry, Name, VersionText
from adapter_hub.formats.reference import AdapterRef, name_key, parse_source
from adapter_hub.formats.registry_file import Location

LOCK_SCHEMA = "lock/1"
MAXIMUM_SIZE = 32 * 2**20  # bytes; an adapter takes about 2 kB


class LockedRegistry(Record):
    """A registry that listed the adapters, as it was when they were locked.

    Attributes:
        registry_id: of the registry.
        label: where it was: `embedded`, a path (from the lock's folder if it starts with `./`), or on the
            Hub.
        sequence: that it had.
    """

    registry_id: Text
    label: Text
    sequence: Count


class LockedAncestor(Record):
    """A version that a locked adapter was made from, directly or not.

    Attributes:
        name: of the ancestor.
        version: of the ancestor.
        digest: of its manifest.
    """

    name: Name
    version: VersionText
    digest: Digest


class LockedAdapter(Record):
    """One adapter version, to the byte.

    Attributes:
        name: of the adapter.
        version: of the adapter.
        digest: of its manifest.
        weights_digest: as in the manifest.
        hub: whether it was asked for as `hf://…`, past the registries.
        base_model: as in the manifest.
        files: as in the manifest.
        closure: every ancestor, sorted by name, version and digest; the quarantine of any of them counts.
        locations: where its bytes were; a path that starts with `./` begins at the lock's folder.
    """

    name: Name
    version: VersionText
    digest: Digest
    weights_digest: Digest
    hub: bool
    base_model: BaseModelPin
    files: Annotated[tuple[FileEntry, ...], Field(min_length=1, max_length=MAXIMUM_FILES), FailFast()]
    closure: tuple[LockedAncestor, ...] = ()
    locations: tuple[Location, ...] = ()

    @property
    def ref(self) -> str:
        """`namespace/name@version`."""
        return f"{self.name}@{self.version}"

    def meets(self, requirement: AdapterRef) -> bool:
        """Tell whether this version is one that a requirement asks for.

        Args:
            requirement: a parsed line of `requirements`.
        """
        if (name_key(requirement.name), requirement.hub) != (name_key(self.name), self.hub):
            return False
        if requirement.digest is not None and requirement.digest != self.digest:
            return False
        by_digest_alone = requirement.digest and not (requirement.version or requirement.compatible)
        return bool(by_digest_alone) or requirement.admits(self.version)


class LockFile(Record):
    """The whole file.

    Attributes:
        schema: of the file.
        requirements: references as the user wrote them.
        registries: those that listed the adapters or their ancestors.
        adapters: sorted by name and version, each once.
    """

    schema_: Annotated[Literal["lock/1"], Field(alias="schema")]
    requirements: tuple[Text, ...]
    registries: tuple[LockedRegistry, ...] = ()
    adapters: tuple[LockedAdapter, ...] = ()

    values_read: ClassVar[int] = 1_000_000  # about 50 an adapter

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for text in self.requirements:
            parse_requirement(text)
        keys = [(adapter.name, Version(adapter.version), adapter.hub) for adapter in self.adapters]
        if keys != sorted(set(keys)):
            raise ValueError("adapters must be sorted by name and version, each once")
        return self

    def to_text(self) -> str:
        """Return the file's one spelling."""
        return json.dumps(self.to_json(), indent=2, sort_keys=True, ensure_ascii=False) + "\n"

    def chosen(self, requirement: str) -> LockedAdapter | None:
        """Return the newest locked version that meets a requirement, or None.

        Args:
            requirement: a line of `requirements`.
        """
        ref = parse_requirement(requirement)
        return next((adapter for adapter in reversed(self.adapters) if adapter.meets(ref)), None)

    def staleness(self) -> list[str]:
        """Return how requirements and adapters disagree, which is how a hand-edited file is noticed."""
        chosen = {text: self.chosen(text) for text in self.requirements}
        unmet = [f"nothing is locked for {text}" for text, adapter in chosen.items() if adapter is None]
        refs = {adapter.ref for adapter in chosen.values() if adapter}
        strangers = [adapter.ref for adapter in self.adapters if adapter.ref not in refs]
        return unmet + [f"no requirement asks for {ref}" for ref in strangers]


def parse_requirement(text: str) -> AdapterRef:
    """Read a requirement: a reference to a published adapter.

    Args:
        text: as the user wrote it.

    Raises:
        InvalidInputError: not a reference, or an artifact's folder, which only this machine has.
    """
    source = parse_source(text)
    if isinstance(source, Path):
        raise InvalidInputError(f"{text}: a folder cannot be locked; publish the artifact, and lock its name")
    return source


def read_lock(path: Path) -> LockFile:
    """Read a lock file.

    Args:
        path: of the file.

    Raises:
        NotFoundError: there is none. NewerFormatError: a later program wrote it.
        DamagedFileError: it is something else, with how to get a new one.
    """
    try:
        raw = read_bounded(path, MAXIMUM_SIZE)
    except (FileNotFoundError, NotADirectoryError):
        raise NotFoundError(f"{path}: no such lock file; `adapter-hub lock REF...` makes one") from None
    damaged = "restore it, or rebuild it with `adapter-hub lock REF...`"
    try:
        tree = read_json(raw, str(path), values=LockFile.values_read)
        check_schema(tree.get("schema") if isinstance(tree, dict) else None, LOCK_SCHEMA, str(path))
        return LockFile.parse(raw, str(path))
    except NewerFormatError:
        raise
    except InvalidInputError as error:
        raise DamagedFileError(str(error), damaged) from None


def write_lock(path: Path, lock: LockFile) -> bool:
    """Write a lock file in one step, unless it says this already; return whether it was written.

    Args:
        path: of the file; a link is followed.
        lock: its content.

    Raises:
        InvalidInputError: another kind of file is there.
    """
    data = lock.to_text().encode()
    if path.exists():
        before = read_bounded(path, MAXIMUM_SIZE)
        if before == data:
            return False
        if before.strip() and b'"lock/' not in before:  # a damaged lock may be replaced, a README may not
            raise InvalidInputError(f"{path}: exists and is not a lock file; name another with --file")
    write_atomically(resolved(path), data)
    return True
