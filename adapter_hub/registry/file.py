"""A registry in a file, `registry.json`.

    registry = FileRegistry(Path("registry.json"))
    registry.adapters["mini/da"]["1.0.0"].status

Writers take turns through a lock file beside it, read again inside the lock, and replace the file in
one step, so that a crash leaves the state before or after, and none of several publishers is lost.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from adapter_hub import embedded
from adapter_hub.errors import ConflictError
from adapter_hub.files.locks import lock_file
from adapter_hub.files.reading import read_bounded
from adapter_hub.files.writing import make_folder, resolved, write_atomically
from adapter_hub.formats.registry_file import (
    MAXIMUM_SIZE,
    Adapters,
    LoadedRegistry,
    check_next_sequence,
)
from adapter_hub.paths import cache_folder
from adapter_hub.registry.contract import Listing, read_only_error
from adapter_hub.registry.memory import Memory
from adapter_hub.registry.states import new_registry, next_state, read_or_mend

if TYPE_CHECKING:
    from filelock import BaseFileLock

LOCK_SECONDS = 600.0  # how long a writer waits for its turn


class FileRegistry(Listing):
    """A registry file; read when first asked, and again before every write.

    Attributes:
        path: the file; missing means empty, the first write makes it.
        read_only: True for the embedded catalogue as a fallback.
    """

    is_on_hub = is_repository = is_copy = False

    def __init__(self, path: Path, read_only: bool = False, *, cache: Path | None = None) -> None:
        """Name a registry file without reading it.

        Args:
            path: the file.
            read_only: refuse `update`.
            cache: folder in which seen versions are remembered; the user's by default.
        """
        self.path, self.read_only = path, read_only
        self._cache = cache
        self._loaded: LoadedRegistry | None = None
        self._own_lock: tuple[int, BaseFileLock] | None = None
        self._not_remembered = ""  # why what was seen could not be written down
        self._mending = False
        self._renewal = ""

    @property
    def label(self) -> str:
        """What messages call it, and what `--registry` takes: the path."""
        return str(self.path)

    @property
    def default_store(self) -> str:
        """The folder `store` beside the file."""
        return str(self.path.parent / "store")

    @property
    def is_embedded(self) -> bool:
        """Whether this is the catalogue that ships with the package."""
        return self.path.resolve() == embedded.registry_path().resolve()

    @property
    def cache_folder(self) -> Path:
        """The folder that remembers what this machine saw of registries and statuses."""
        return self._cache or cache_folder()

    @property
    def memory(self) -> Memory:
        """What this machine saw of it before."""
        return Memory(self.cache_folder, str(self.path.absolute()), self.label)

    @property
    def warnings(self) -> tuple[str, ...]:
        """That what was seen could not be remembered, if so."""
        self._state()
        return (self._not_remembered,) if self._not_remembered else ()

    @property
    def renewal(self) -> str:
        """Why it starts over under a new id, once it may be mended; empty if it does not have to."""
        self._state()
        return self._renewal

    def mend(self) -> None:
        """From now on, let what cannot be read or written any more start over, with all that is readable."""
        self._mending, self._loaded = True, None

    def settle_for_copy(self) -> None:
        """Do nothing: a file is not a copy."""

    def refresh(self) -> None:
        """Read the file again.

        Raises:
            InvalidInputError: damaged, or written by a later program.
            IntegrityError: not the one seen before.
        """
        loaded = self._read()
        if loaded.raw and not self._renewal and not self.is_embedded:
            memory = self.memory
            if memory.problems(loaded):
                # a publisher may have finished between the two reads; what was remembered by then is in it
                loaded = self._read()
                if problems := memory.problems(loaded):
                    raise memory.refuse(problems, loaded.file.registry_id)
            self._not_remembered = memory.keep(loaded)
        self._loaded = loaded

    def _state(self) -> LoadedRegistry:
        if self._loaded is None:
            self.refresh()
        assert self._loaded is not None
        return self._loaded

    def _read(self) -> LoadedRegistry:
        try:
            raw = read_bounded(self.path, MAXIMUM_SIZE, where=f"registry {self.label}")
        except (FileNotFoundError, NotADirectoryError):
            return new_registry()
        loaded, self._renewal = read_or_mend(raw, self.label, mending=self._mending)
        return loaded

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
            InvalidInputError: read-only. ConflictError: another process held the lock for too long.
        """
        from filelock import Timeout  # noqa: PLC0415

        if self.read_only:
            raise read_only_error(self.label)
        make_folder(self.path.parent)
        try:
            lock = self._lock().acquire()
        except Timeout:
            raise ConflictError(
                f"registry {self.label}: another process has been writing for {LOCK_SECONDS:.0f} s; try again"
            ) from None
        with lock:
            self.refresh()
            check_next_sequence(self._state(), self.label)
            yield

    def update(self, change: Callable[[Adapters], None]) -> bool:
        """Change the blocks and write the file once, or not at all if nothing changed.

        See `WritableRegistry.update`; no other process can write meanwhile, so `change` is called once.
        """
        with self.locked():
            exists, path = self.path.exists(), resolved(self.path)
            if not exists and not self._mending and not self.is_embedded:
                self.memory.refuse_loss()
            anyway = not exists or bool(self._renewal)
            after = next_state(self._state(), change, self.label, anyway=anyway)
            if after is None:
                return False
            if self._renewal:  # nothing is thrown away that may still be of use
                write_atomically(damaged_path(path), read_bounded(path, MAXIMUM_SIZE))
            write_atomically(path, after.raw)
            self._loaded, self._renewal = after, ""
            if not self.is_embedded:
                self._not_remembered = self.memory.keep(after)
            return True


def damaged_path(path: Path) -> Path:
    """Return where a registry file that started over is kept as it was.

    Args:
        path: of the registry file.
    """
    return path.with_name(f"{path.name}.damaged")
