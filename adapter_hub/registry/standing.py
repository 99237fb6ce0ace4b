"""The status of a version: the strictest that a registry gives it now, or that this machine ever saw.

    standings = Standings(registries)
    standings.of(digest, function_digest)

What registries say that forbids something is remembered on the way (see `status_memory`). A quarantine is
about what the bytes do, so it also holds for the same function under another name or version.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from weakref import WeakKeyDictionary

from adapter_hub.escaping import shown
from adapter_hub.formats.claims import Status, strictness
from adapter_hub.formats.registry_file import VersionBlock
from adapter_hub.paths import cache_folder
from adapter_hub.registry.contract import Registry
from adapter_hub.registry.status_memory import GivenStatus, StatusMemory, StatusStatement, statement

Entry = tuple[str, str, VersionBlock]  # name, version


@dataclass(frozen=True)
class Standing:
    """The status of a version.

    Attributes:
        ref: `namespace/name@version` of the version that was given the status.
        digest: of that version.
        status: the strictest.
        reason: as given with it.
        source: who said so earlier, if no registry that is asked says it now.
        other: whether that is another version, which does the same.
    """

    ref: str
    digest: str
    status: Status
    reason: str
    source: str = ""
    other: bool = False

    def __str__(self) -> str:
        reason = f" ({shown(self.reason)})" if self.reason else ""
        told = f", as {shown(self.source)} said" if self.source else ""
        return f"{self.ref} is {self.status}{reason}{told}"


@dataclass
class _Index:
    """What one state of a registry says that is not plainly `active`."""

    adapters: Mapping[str, Mapping[str, VersionBlock]]
    statements: list[StatusStatement] = field(default_factory=list)
    by_digest: dict[str, list[Entry]] = field(default_factory=dict)
    by_function: dict[str, list[Entry]] = field(default_factory=dict)  # quarantined


_indexes: WeakKeyDictionary[Registry, _Index] = WeakKeyDictionary()


class Standings:
    """The statuses that some registries give, and those that this machine saw before.

    Attributes:
        registries: those that are asked.
        memory: what was seen before; it remembers what the registries say.
    """

    def __init__(self, registries: Sequence[Registry]) -> None:
        """Read the registries, and remember what they forbid."""
        self.registries = registries
        self.memory = StatusMemory(registries[0].cache_folder if registries else cache_folder())
        self._indexes = [_index_of(registry) for registry in registries]
        for registry, index in zip(registries, self._indexes, strict=True):
            if not registry.is_embedded:  # it is always asked, and changes with the program alone
                self.memory.remember(index.statements)

    def of(self, digest: str, function_digest: str | None = None) -> Standing | None:
        """Return the status of the version with this digest, or None if nothing is known of it.

        Args:
            digest: of the version.
            function_digest: of what it does; by default as the registries that list it say.
        """
        found = list(self._listed(digest))
        function = function_digest or next(
            (entry[2].function_digest for entry in self._entries(digest)), None
        )
        if function is not None:
            found += self._doing_the_same(digest, function)
        found += (_remembered(told) for told in self.memory.about(digest))
        return max(found, key=lambda item: strictness(item.status), default=None)

    def _entries(self, digest: str) -> Iterator[Entry]:
        for registry in self.registries:
            if entry := registry.by_digest.get(digest):
                yield entry

    def _listed(self, digest: str) -> Iterator[Standing]:
        for index in self._indexes:  # one registry may list a digest twice
            yield from (_of_entry(entry) for entry in index.by_digest.get(digest, ()))
        yield from (_of_entry(entry) for entry in self._entries(digest))

    def _doing_the_same(self, digest: str, function: str) -> Iterator[Standing]:
        for index in self._indexes:
            for entry in index.by_function.get(function, ()):
                if entry[2].digest != digest:
                    yield _of_entry(entry, other=True)
        for told in self.memory.quarantines(function):
            if told.digest != digest:
                yield _remembered(told, other=True)


def standing(digest: str, registries: Sequence[Registry]) -> Standing | None:
    """Return the status of one version; for many, make `Standings` once.

    Args:
        digest: of the version.
        registries: those that are asked.
    """
    return Standings(registries).of(digest)


def _of_entry(entry: Entry, *, other: bool = False) -> Standing:
    name, version, block = entry
    return Standing(f"{name}@{version}", block.digest, block.status, block.reason or "", other=other)


def _remembered(told: StatusStatement, *, other: bool = False) -> Standing:
    """Return a remembered status; a withdrawal elsewhere does not mean that the files are gone here."""
    status: Status = "yanked" if told.status == "withdrawn" else told.status
    reason = "withdrawn" + f": {told.reason}" * bool(told.reason) if told.status != status else told.reason
    return Standing(told.ref, told.digest, status, reason, told.source, other)


def _index_of(registry: Registry) -> _Index:
    before = _indexes.get(registry)
    adapters = registry.adapters
    if before is not None and before.adapters is adapters:
        return before
    index = _indexes[registry] = _Index(adapters)
    for name, versions in adapters.items():
        for version, block in versions.items():
            if block.status != "active" or block.since is not None:
                _enter(index, registry, (name, version, block))
    return index


def _enter(index: _Index, registry: Registry, entry: Entry) -> None:
    name, version, block = entry
    said = GivenStatus(block.digest, block.function_digest, block.status, block.reason or "", block.since)
    told = statement(said, f"{name}@{version}", registry.label, registry.registry_id)
    if told:
        index.statements.append(told)
    if block.status != "active":
        index.by_digest.setdefault(block.digest, []).append(entry)
    if block.status == "quarantined":
        index.by_function.setdefault(block.function_digest, []).append(entry)
