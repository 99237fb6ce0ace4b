"""What a registry is: the index of versions, wherever it is kept.

    registry: Registry = open_registry("hf://datasets/alice/registry")
    registry.adapters["mini/da"]["1.0.0"].status

Three things are one: a file (`FileRegistry`), a file that people share over the Hub (`HubRegistry`), and a
single repository on the Hub, read as if it were a registry (`RepositoryRegistry` of `exchange`). The first
two can be written to.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from adapter_hub.errors import InvalidInputError
from adapter_hub.formats.registry_file import Adapters, LoadedRegistry, VersionBlock

if TYPE_CHECKING:
    from adapter_hub.registry.memory import Memory

FRESH_SECONDS = 24 * 3600.0  # an older copy of what is on the Hub may miss a quarantine


class Registry(Protocol):
    """The versions that exist: their digest, lineage, locations, scores and status.

    What is listed is read when first asked for, so that every property but the flags may raise what
    `refresh` raises.
    """

    @property
    def path(self) -> Path:
        """The file, to which paths of locations are relative; of what is on the Hub: this machine's copy."""

    @property
    def label(self) -> str:
        """What messages call it, and what `--registry` takes."""

    @property
    def cache_folder(self) -> Path:
        """The folder that remembers what this machine saw of registries and statuses."""

    @property
    def is_on_hub(self) -> bool:
        """Whether others see the same over the Hub, so that folders of this machine mean nothing in it."""

    @property
    def is_embedded(self) -> bool:
        """Whether this is the catalogue that ships with the package."""

    @property
    def is_repository(self) -> bool:
        """Whether this is a single repository that the user named.

        Then its entries are made from what the repository holds, so they cannot differ from it, and no
        other registry decides about its name.
        """

    @property
    def is_copy(self) -> bool:
        """Whether what was read is a copy that may be out of date, because the Hub was not asked yet."""

    @property
    def adapters(self) -> Mapping[str, Mapping[str, VersionBlock]]:
        """Every readable version: name, then version, then block."""

    @property
    def unreadable(self) -> Mapping[tuple[str, str], str]:
        """Why, by `(name, version)`, an entry cannot be used: such entries are skipped, and preserved.

        The version is empty where that is so for all of a name.
        """

    @property
    def by_digest(self) -> Mapping[str, tuple[str, str, VersionBlock]]:
        """Name, version and block by the version's digest; of several with one digest, the strictest."""

    @property
    def registry_id(self) -> str:
        """The id that stays when the registry moves."""

    @property
    def sequence(self) -> int:
        """How often the registry was written."""

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a user should know of what was read, one line each: above all the age of a copy."""

    def why_unreadable(self, name: str, version: str) -> str:
        """Return why the entry of a version cannot be read; empty if it can, or if there is none.

        Args:
            name: `namespace/name`.
            version: like `1.2.0`.
        """

    def settle_for_copy(self) -> None:
        """Use an existing copy of what is on the Hub without asking whether it is the newest."""

    def refresh(self) -> None:
        """Read the newest state.

        Raises:
            InvalidInputError: damaged, or written by a later program.
            IntegrityError: not the one seen before.
            NotFoundError, UnreachableError: on the Hub, there is none, or it cannot be asked.
        """


class WritableRegistry(Registry, Protocol):
    """A registry that versions can be listed in."""

    @property
    def default_store(self) -> str:
        """The store that goes with it unless another is named."""

    @property
    def memory(self) -> Memory:
        """What this machine saw of it before."""

    @property
    def renewal(self) -> str:
        """Why it starts over under a new id, once it may be mended; empty if it does not have to."""

    def mend(self) -> None:
        """From now on, let what cannot be read or written any more start over, with all that is readable."""

    def locked(self) -> AbstractContextManager[None]:
        """Bring it up to date and, where that is possible, keep other writers out. May be nested.

        Raises:
            InvalidInputError: read-only.
            ConflictError: another process held the lock for too long.
            UnreachableError: the Hub cannot be asked.
        """

    def update(self, change: Callable[[Adapters], None]) -> bool:
        """Change the blocks and write the file once, or not at all if nothing changed.

        Args:
            change: gets name → version → block to modify in place. The registry then is in the state that
                this changes; if others write at the same time it is called again, on their state. If it
                raises, nothing is written.

        Returns:
            Whether it was written.

        Raises:
            IntegrityError: a published version would change its digest or vanish.
            InvalidInputError: read-only, or a block breaks the rules.
            ConflictError: others kept the registry locked, or kept being faster.
            AccessError, UnreachableError: the Hub refuses, or it is not known whether it was written.
        """


class Listing(ABC):
    """What registries share: the index, as the state says that was read last."""

    @abstractmethod
    def _state(self) -> LoadedRegistry:
        """Return the state, read now if none was."""

    @property
    def adapters(self) -> Mapping[str, Mapping[str, VersionBlock]]:
        """See `Registry`."""
        return self._state().file.adapters

    @property
    def unreadable(self) -> Mapping[tuple[str, str], str]:
        """See `Registry`."""
        return self._state().unreadable

    @property
    def by_digest(self) -> Mapping[str, tuple[str, str, VersionBlock]]:
        """See `Registry`."""
        return self._state().by_digest

    @property
    def registry_id(self) -> str:
        """See `Registry`."""
        return self._state().file.registry_id

    @property
    def sequence(self) -> int:
        """See `Registry`."""
        return self._state().file.sequence

    def why_unreadable(self, name: str, version: str) -> str:
        """See `Registry`."""
        unreadable = self.unreadable
        return unreadable.get((name, version)) or unreadable.get((name, "")) or ""


def read_only_error(label: str) -> InvalidInputError:
    """Return the error for a registry that may not be written to."""
    return InvalidInputError(f"registry {label} is read-only; name one to write to with --registry FILE")
