"""The index `registry.json`: which versions exist, their digest, lineage, place, scores and status.

    registry = Registry(Path("registry.json"))
    registry.adapters["mini/da"]["1.0.0"].status

Writers take turns through a lock file beside it, read again inside the lock, and replace the file in
one step, so that a crash leaves the state before or after, and none of several publishers is lost.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from adapter_hub import embedded
from adapter_hub.errors import ConflictError, IntegrityError, InvalidInputError
from adapter_hub.files.locks import lock_file
from adapter_hub.files.reading import read_bounded
from adapter_hub.files.writing import make_folder, resolved, write_atomically
from adapter_hub.formats.claims import strictness
from adapter_hub.formats.registry_file import (
    Adapters,
    BaseModelLink,
    LoadedRegistry,
    Location,
    ParentLink,
    RegistryFile,
    Score,
    VersionBlock,
    check_next_sequence,
    parse_registry,
    with_adapters,
)
from adapter_hub.paths import cache_folder
from adapter_hub.registry.memory import Memory
from adapter_hub.registry.mending import mended_registry, new_registry
from adapter_hub.registry.promises import broken_promises

if TYPE_CHECKING:
    from filelock import BaseFileLock

__all__ = [
    "Adapters",
    "BaseModelLink",
    "Location",
    "ParentLink",
    "Registry",
    "RegistryFile",
    "Score",
    "VersionBlock",
]

MAXIMUM_SIZE = 64 * 2**20  # bytes; 20 000 versions are 25 MB and take 300 MB of memory
LOCK_SECONDS = 600.0  # how long a writer waits for its turn
FRESH_SECONDS = 24 * 3600.0  # an older copy of a remote registry may miss a quarantine


class Registry:
    """A registry file; read when first asked, and again before every write.

    Attributes:
        path: the file; missing means empty, the first write makes it. Of a registry on the Hub: the copy.
        read_only: True for the embedded catalogue as a fallback.
    """

    def __init__(
        self,
        path: Path,
        read_only: bool = False,
        *,
        cache: Path | None = None,
        copied_at: float | None = None,
    ) -> None:
        """Name a registry file without reading it.

        Args:
            path: the file.
            read_only: refuse `update`.
            cache: folder in which seen versions are remembered; the user's by default.
            copied_at: for a copy of a remote registry: when it was fetched, as `time.time()`.
        """
        self.path, self.read_only = path, read_only
        self._cache, self._copied_at = cache, copied_at
        self._loaded: LoadedRegistry | None = None
        self._index: tuple[LoadedRegistry, dict[str, tuple[str, str, VersionBlock]]] | None = None
        self._own_lock: tuple[int, BaseFileLock] | None = None
        self._forgetful = ""  # why what was seen could not be written down
        self._mending = False
        self._renewal = ""

    @property
    def label(self) -> str:
        """What messages call it, and what `--registry` takes."""
        return str(self.path)

    @property
    def default_store(self) -> str:
        """The store that goes with it unless another is named."""
        return str(self.path.parent / "store")

    @property
    def is_on_hub(self) -> bool:
        """Whether others share it over the Hub, so that folders of this machine mean nothing in it."""
        return False

    @property
    def is_copy(self) -> bool:
        """Whether what was read is a copy, of which nobody has asked yet whether it is the newest."""
        return False

    @property
    def is_derived(self) -> bool:
        """Whether its entries are made on the way from what a store holds, so that they cannot differ."""
        return False

    speaks_for_itself = False  # True for one repository that the user named

    @property
    def is_embedded(self) -> bool:
        """Whether this is the catalogue that ships with the package."""
        return self.path.resolve() == embedded.registry_path().resolve()

    @property
    def adapters(self) -> Mapping[str, Mapping[str, VersionBlock]]:
        """Every readable version: name, then version, then block."""
        return self._state().file.adapters

    @property
    def unreadable(self) -> Mapping[tuple[str, str], str]:
        """Why, by `(name, version)` of the entries that cannot be used: skipped, and preserved.

        The version is empty where that is so for all of a name.
        """
        return self._state().unreadable

    def why_unreadable(self, name: str, version: str) -> str:
        """Return why the entry of a version cannot be read; empty if it can, or if there is none."""
        unreadable = self.unreadable
        return unreadable.get((name, version)) or unreadable.get((name, "")) or ""

    @property
    def renewal(self) -> str:
        """Why it begins anew under an id of its own, once it may be mended; empty if it does not have to."""
        self._state()
        return self._renewal

    def mend(self) -> None:
        """From now on, let what cannot be read or written any more begin anew, with all that is readable."""
        self._mending, self._loaded = True, None

    @property
    def memory(self) -> Memory:
        """What this machine saw of it before."""
        return Memory(self.cache_folder, self._place, self.label)

    @property
    def _place(self) -> str:
        return str(self.path.absolute())

    @property
    def cache_folder(self) -> Path:
        """The folder of what this machine saw of registries, and was told by them."""
        return self._cache or cache_folder()

    @property
    def registry_id(self) -> str:
        """The id that stays when the file moves."""
        return self._state().file.registry_id

    @property
    def sequence(self) -> int:
        """How often the registry was written."""
        return self._state().file.sequence

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a user should know of this copy: above all its age, if it is one of a remote registry."""
        self._state()
        warnings = [self._forgetful] if self._forgetful else []
        age = 0.0 if self._copied_at is None else time.time() - self._copied_at
        if age > FRESH_SECONDS:
            hours = f"{age / 3600:.0f} hours old"
            warnings.append(f"the copy of registry {self.label} is {hours}; statuses may have changed since")
        return tuple(warnings)

    @property
    def by_digest(self) -> Mapping[str, tuple[str, str, VersionBlock]]:
        """Name, version and block by the version's digest; of several with one digest, the strictest."""
        state = self._state()
        if self._index is None or self._index[0] is not state:
            entries = [
                (name, version, block)
                for name, versions in state.file.adapters.items()
                for version, block in versions.items()
            ]
            entries.sort(key=lambda entry: strictness(entry[2].status))
            self._index = (state, {entry[2].digest: entry for entry in entries})
        return self._index[1]

    def reload(self) -> None:
        """Read the file again.

        Raises:
            InvalidInputError: damaged or newer than this program. IntegrityError: not the one seen before.
        """
        loaded = self._read()
        if loaded.raw and not self._renewal and not self.is_embedded:
            loaded = self._check_memory(loaded)
        self._loaded = loaded

    def refresh(self) -> None:
        """Take notice of what others wrote; see `reload` for what may be raised."""
        self.reload()

    def settle_for_copy(self) -> None:
        """Use an existing copy of a remote registry without asking whether it is the newest."""

    def _state(self) -> LoadedRegistry:
        if self._loaded is None:
            self.reload()
        assert self._loaded is not None
        return self._loaded

    def _read(self) -> LoadedRegistry:
        try:
            raw = read_bounded(self.path, MAXIMUM_SIZE, where=f"registry {self.label}")
        except (FileNotFoundError, NotADirectoryError):
            return new_registry()
        return self._parse(raw)

    def _parse(self, raw: bytes) -> LoadedRegistry:
        if not self._mending:
            return parse_registry(raw, self.label)
        loaded, self._renewal = mended_registry(raw, self.label)
        return loaded

    def _check_memory(self, loaded: LoadedRegistry) -> LoadedRegistry:
        memory = self.memory
        if memory.problems(loaded):
            # a publisher may have finished between the two reads; what was remembered by then is in the file
            loaded = self._read()
            if problems := memory.problems(loaded):
                raise memory.refuse(problems, loaded.file.registry_id)
        self._remember(loaded, memory)
        return loaded

    def _remember(self, loaded: LoadedRegistry, memory: Memory | None = None) -> None:
        try:
            (memory or self.memory).keep(loaded)
            self._forgetful = ""
        except OSError as error:  # a read-only home or a full disk must not keep anyone from reading
            self._forgetful = f"could not write down which versions registry {self.label} has: {error}"

    def _lock(self) -> BaseFileLock:
        if self._own_lock is None or self._own_lock[0] != os.getpid():  # a lock cannot be inherited by fork
            path = resolved(self.path)
            lock = lock_file(path.with_name(f"{path.name}.lock"), LOCK_SECONDS)
            self._own_lock = (os.getpid(), lock)
        return self._own_lock[1]

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other writers out; the state inside is the newest. May be nested.

        Raises:
            InvalidInputError: read-only. ConflictError: somebody held the lock for too long.
        """
        from filelock import Timeout  # noqa: PLC0415

        self._refuse_read_only()
        make_folder(self.path.parent)
        try:
            lock = self._lock().acquire()
        except Timeout:
            raise ConflictError(
                f"registry {self.label}: another process has been writing for {LOCK_SECONDS:.0f} s; try again"
            ) from None
        with lock:
            self.reload()
            check_next_sequence(self._state(), self.label)
            yield

    def _refuse_read_only(self) -> None:
        if self.read_only:
            raise InvalidInputError(
                f"registry {self.label} is read-only; name one to write to with --registry FILE"
            )

    def update(self, change: Callable[[Adapters], None]) -> bool:
        """Change the blocks and write the file once, or not at all if nothing changed.

        Args:
            change: gets name → version → block to modify in place. The registry then is in the state that
                this changes; somebody else's write may call for it again. What it raises, nothing is written.

        Returns:
            Whether it was written.

        Raises:
            IntegrityError: a published version would change its digest or vanish.
        """
        with self.locked():
            after = self._changed(change, self.path.exists())
            if after is None:
                return False
            path = resolved(self.path)
            if self._renewal:  # nothing is thrown away that somebody could still make something of
                write_atomically(damaged_path(path), read_bounded(path, MAXIMUM_SIZE))
            write_atomically(path, after.raw)
            self._loaded, self._renewal = after, ""
            if not self.is_embedded:
                self._remember(after)
            return True

    def _changed(self, change: Callable[[Adapters], None], exists: bool) -> LoadedRegistry | None:
        """Return the state to write, or None if it is the one that is there."""
        before = self._state()
        adapters: Adapters = {name: dict(versions) for name, versions in before.file.adapters.items()}
        change(adapters)
        adapters = {name: versions for name, versions in adapters.items() if versions}
        if adapters == before.file.adapters and exists and not self._renewal:
            return None
        self._refuse_empty_place(exists)
        if broken := broken_promises(before.file.adapters, adapters):
            raise IntegrityError(f"registry {self.label}: published versions never change", broken)
        after = with_adapters(before, adapters, self.label)
        if len(after.raw) > MAXIMUM_SIZE:
            raise InvalidInputError(
                f"registry {self.label}: would have {len(after.raw)} bytes, and at most {MAXIMUM_SIZE} are "
                "read; name another registry with --registry"
            )
        return after

    def _refuse_empty_place(self, exists: bool) -> None:
        """Where a registry was seen, nothing but a rebuild begins another."""
        if exists or self._mending or self.is_embedded:
            return
        if problem := self.memory.gone():
            raise IntegrityError(
                f"registry {self.label}: {problem}; restore it, or run `adapter-hub registry rebuild`, which "
                "makes it anew from the stores"
            )


def damaged_path(path: Path) -> Path:
    """Return where a registry file that was begun anew is kept as it was."""
    return path.with_name(f"{path.name}.damaged")
