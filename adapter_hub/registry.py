"""The index `registry.json`: which versions exist, their digest, lineage, place, scores and status.

    registry = Registry(Path("registry.json"))
    registry.adapters["mini/da"]["1.0.0"].status

Writers take turns through a lock file beside it, read again inside the lock, and replace the file in
one step, so that a crash leaves the state before or after, and none of several publishers is lost.
"""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from adapter_hub import embedded
from adapter_hub.errors import ConflictError, IntegrityError, InvalidInputError
from adapter_hub.paths import cache_folder, make_folder, write_atomically
from adapter_hub.registry_file import (
    Adapters,
    BaseModelLink,
    LoadedRegistry,
    Location,
    ParentLink,
    RegistryFile,
    Score,
    VersionBlock,
    empty_registry,
    parse_registry,
    registry_bytes,
    with_adapters,
)
from adapter_hub.remembered import Remembered, differences_from, memory_path, recall, refuse, remember

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

MAXIMUM_SIZE = 256 * 2**20  # bytes; 20 000 versions are 25 MB
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
    def is_embedded(self) -> bool:
        """Whether this is the catalogue that ships with the package."""
        return self.path.resolve() == embedded.registry_path().resolve()

    @property
    def adapters(self) -> Mapping[str, Mapping[str, VersionBlock]]:
        """Every readable version: name, then version, then block."""
        return self._state().file.adapters

    @property
    def unreadable(self) -> tuple[tuple[str, str], ...]:
        """`(name, version)` of blocks that a later program wrote: skipped, and preserved."""
        return self._state().unreadable

    @property
    def _cache_folder(self) -> Path:
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
        """Name, version and block by the version's digest."""
        state = self._state()
        if self._index is None or self._index[0] is not state:
            self._index = (
                state,
                {
                    block.digest: (name, version, block)
                    for name, versions in state.file.adapters.items()
                    for version, block in versions.items()
                },
            )
        return self._index[1]

    def reload(self) -> None:
        """Read the file again.

        Raises:
            InvalidInputError: damaged or newer than this program. IntegrityError: not the one seen before.
        """
        loaded = self._read()
        if loaded.file.sequence and not self.is_embedded:
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
            size = self.path.stat().st_size
        except (FileNotFoundError, NotADirectoryError):
            return new_registry()
        if size > MAXIMUM_SIZE:
            raise InvalidInputError(f"registry {self.label}: {size} bytes, at most {MAXIMUM_SIZE} are read")
        return parse_registry(self.path.read_bytes(), self.label)

    def _check_memory(self, loaded: LoadedRegistry) -> LoadedRegistry:
        folder = self._cache_folder
        memory = recall(folder, loaded.file.registry_id)
        if memory and differences_from(memory, loaded):
            # a publisher may have finished between the two reads; what was remembered by then is in the file
            loaded = self._read()
            if problems := differences_from(memory, loaded):
                raise refuse(self.label, problems, memory_path(folder, loaded.file.registry_id))
        self._remember(loaded, memory)
        return loaded

    def _remember(self, loaded: LoadedRegistry, memory: Remembered | None) -> None:
        try:
            remember(self._cache_folder, loaded, memory)
            self._forgetful = ""
        except OSError as error:  # a read-only home or a full disk must not keep anyone from reading
            self._forgetful = f"could not write down which versions registry {self.label} has: {error}"

    def _lock(self) -> BaseFileLock:
        from filelock import FileLock  # noqa: PLC0415 - readers need none

        if self._own_lock is None or self._own_lock[0] != os.getpid():  # a lock cannot be inherited by fork
            path = self.path.with_name(f"{self.path.name}.lock")
            self._own_lock = (os.getpid(), FileLock(path, timeout=LOCK_SECONDS))
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
            write_atomically(self.path, registry_bytes(after.tree))
            self._loaded = after
            if not self.is_embedded:
                self._remember(after, None)
            return True

    def _changed(self, change: Callable[[Adapters], None], exists: bool) -> LoadedRegistry | None:
        """Return the state to write, or None if it is the one that is there."""
        before = self._state()
        adapters: Adapters = {name: dict(versions) for name, versions in before.file.adapters.items()}
        change(adapters)
        adapters = {name: versions for name, versions in adapters.items() if versions}
        if adapters == before.file.adapters and exists:
            return None
        if broken := _broken_promises(before.file.adapters, adapters):
            raise IntegrityError(f"registry {self.label}: published versions never change", broken)
        return with_adapters(before, adapters)


def new_registry() -> LoadedRegistry:
    """Return a registry without versions, with an id of its own."""
    return empty_registry(str(uuid.uuid4()))


def _broken_promises(before: Mapping[str, Mapping[str, VersionBlock]], after: Adapters) -> list[str]:
    problems = []
    for name, versions in before.items():
        for version, block in versions.items():
            now = after.get(name, {}).get(version)
            if now is None:
                problems.append(f"{name}@{version} would vanish")
            elif now.digest != block.digest:
                problems.append(f"{name}@{version} would become {now.digest}, it is {block.digest}")
    return problems
