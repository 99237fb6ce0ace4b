"""Where adapters are looked up, cached and published: one record for the verbs, the commands and `load`.

    pull("mini/da", Places())                                    # the user's own registry and cache
    publish("out/mini-da", Places("./registry.json", "./store"))

Names are opened when they are first needed, so a command pays only for what it uses. An object that is
already open can be given instead of a name.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, cast

from adapter_hub import embedded
from adapter_hub.embedded import EMBEDDED
from adapter_hub.errors import InvalidInputError
from adapter_hub.formats.reference import is_address, is_folder_of_store
from adapter_hub.paths import cache_folder, store_path, store_text
from adapter_hub.reporting import Ask, Tell

if TYPE_CHECKING:
    from adapter_hub.formats.registry_file import Adapters
    from adapter_hub.registry.contract import Registry, WritableRegistry
    from adapter_hub.stores.cache import Cache
    from adapter_hub.stores.contract import Store


@dataclass(frozen=True, eq=False)
class Places:
    """Registries, store, cache and device; None stands for the default.

    Attributes:
        registry: path of the registry file, or `hf://datasets/namespace/name`; an open one; or several open
            ones, which are asked in order. The embedded catalogue is asked last, except after several.
        store: path of the store's folder, or `hf://namespace`; or an open one.
        cache: path of the cache's folder, or an open one.
        device: torch's name of the device.
        dtype: float32, float16 or bfloat16.
        private: whether repositories that are made on the Hub are private; False for the account's default.
        tell: called with every warning, one line each.
        ask: puts a yes-or-no question to the user; None where no user can answer.
    """

    registry: str | Path | WritableRegistry | Sequence[Registry] | None = None
    store: str | Path | Store | None = None
    cache: str | Path | Cache | None = None
    device: str | None = None
    dtype: str | None = None
    private: bool = False
    tell: Tell | None = None
    ask: Ask | None = None

    def warn(self, line: str) -> None:
        """Pass a warning to `tell`, if there is one.

        Args:
            line: for the user.
        """
        if self.tell:
            self.tell(line)

    @cached_property
    def named_registry(self) -> str:
        """The registry that the user means, decided (and, on a terminal, asked) once."""
        from adapter_hub.registry.opening import registry_in_force

        assert self.registry is None or isinstance(self.registry, str | Path)
        named = None if self.registry is None else str(self.registry)
        return registry_in_force(named, self.tell or warnings.warn, self.ask)

    def registries(self) -> tuple[Registry, ...]:
        """Return the registries to look names up in: the user's, then the embedded catalogue."""
        if isinstance(self.registry, Sequence) and not isinstance(self.registry, str):
            return tuple(self.registry)
        own = self.own_registry()
        if own.is_embedded:
            return (own,)
        from adapter_hub.registry.file import FileRegistry

        return (own, FileRegistry(embedded.registry_path(), read_only=True, cache=self.cache_folder))

    def own_registry(self) -> WritableRegistry:
        """Return the registry that is written to: the first; one on the Hub is made by the first write.

        Raises:
            InvalidInputError: no registry, or a single repository.
        """
        if self.registry is None or isinstance(self.registry, str | Path):
            from adapter_hub.registry.opening import open_registry

            return open_registry(self.named_registry, cache=self.cache_folder, private=self.private or None)
        if not isinstance(self.registry, Sequence):
            return self.registry
        first = next(iter(self.registries()), None)
        if first is None or first.is_repository:
            raise InvalidInputError("no registry to write to; name one with --registry FILE")
        return cast("WritableRegistry", first)

    def own_store(self) -> Store:
        """Return the store that is written to: the named one, or the one that the registry goes with."""
        if not (self.store is None or isinstance(self.store, str | Path)):
            return self.store
        from adapter_hub.stores.folder import FolderStore
        from adapter_hub.stores.opening import open_store

        registry = self.own_registry()
        text = store_text(None if self.store is None else str(self.store)) or registry.default_store
        if is_address(text):
            return open_store(text, registry.path, cache=self.cache_folder, private=self.private or None)
        return FolderStore(store_path(text, registry.path))

    def open_cache(self) -> Cache:
        """Return the cache of pulled adapters."""
        from adapter_hub.stores.cache import Cache

        return self.cache if isinstance(self.cache, Cache) else Cache(self.cache_folder)

    @property
    def cache_folder(self) -> Path:
        """The cache's folder, which need not exist."""
        if self.cache is None or isinstance(self.cache, str | Path):
            return cache_folder(None if self.cache is None else str(self.cache))
        return self.cache.folder

    def opened(self) -> Places:
        """Return the same with registries and cache open, so that all steps of one operation share them."""
        return replace(self, registry=self.registries(), cache=self.open_cache())

    def asking(self, registries: Sequence[Registry]) -> Places:
        """Return the same places with other registries to ask.

        Args:
            registries: open ones, in order.
        """
        return replace(self, registry=tuple(registries))


def warning_once(places: Places) -> Places:
    """Return the same places with a `tell` that passes on every warning once.

    Args:
        places: with the `tell` to call.
    """
    said: set[str] = set()

    def tell(line: str) -> None:
        if line not in said:
            said.add(line)
            places.warn(line)

    return replace(places, tell=tell)


def check_pair(registry: WritableRegistry, store: Store) -> None:
    """Refuse to mix the embedded catalogue with others, or a registry on the Hub with a folder.

    Args:
        registry: that is written to.
        store: that is written to, and gets an entry in it.

    Raises:
        InvalidInputError: with the option to give.
    """
    from adapter_hub.registry.trust import is_catalogue

    label = store.label(registry.path)
    into_embedded = label == EMBEDDED
    if not into_embedded and (
        registry.is_embedded or (not registry.is_on_hub and is_catalogue(registry.path))
    ):
        raise InvalidInputError(
            f"registry {registry.label} is the embedded catalogue, which is written to only when its store "
            f"is named (--store {embedded.store_path()}); name another registry with --registry FILE"
        )
    if into_embedded and not registry.is_embedded:
        raise InvalidInputError(
            f"store {embedded.store_path()} belongs to the embedded catalogue; name its registry too "
            f"(--registry {embedded.registry_path()}), or another store"
        )
    if registry.is_on_hub and is_folder_of_store(label):
        raise InvalidInputError(
            f"registry {registry.label} is on the Hub, whose users do not see the folder {label}; name a "
            f"store on the Hub (--store {registry.default_store}), or a registry file"
        )


def update_entry(registry: WritableRegistry, store: Store, change: Callable[[Adapters], None]) -> None:
    """Write to the registry what was written to the store, which is asked again if others were faster.

    Args:
        registry: that is written to, within its turn.
        store: that `change` reads.
        change: see `WritableRegistry.update`; also for what is raised.
    """
    before = registry.sequence

    def with_the_newest(adapters: Adapters) -> None:
        if registry.sequence != before:
            store.ask_again()
        change(adapters)

    registry.update(with_the_newest)


@contextmanager
def registry_turn(registry: WritableRegistry, store: Store) -> Iterator[None]:
    """Bring a registry up to date and, where that costs others little, keep them from writing to it.

    A push to a folder is short, so the process that checks first may push first. One to the Hub may take
    minutes; then, and in a registry that cannot be locked, `update`'s `change` has to check again if the
    registry's sequence has changed meanwhile.

    Args:
        registry: that is written to.
        store: that is written to before it.

    Raises:
        InvalidInputError: read-only. ConflictError: another process held the lock for too long.
        UnreachableError: a registry on the Hub cannot be asked.
    """
    with registry.locked():
        if not is_address(store.label(registry.path)):
            yield
            return
    with store.asking_once():
        yield
