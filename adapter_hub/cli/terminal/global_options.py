"""What the global options of the command line say, and what every command makes of them.

    @click.pass_obj
    def show(settings: GlobalOptions, ref: str) -> None:
        resolved = resolve(AdapterRef.parse(ref), settings.registries())

Opening is left to methods, so that a command pays only for what it uses.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict, Unpack

from adapter_hub.cli.terminal.echo import confirm, echo_warning

if TYPE_CHECKING:
    from adapter_hub.formats.reference import AdapterRef
    from adapter_hub.registry.contract import Registry, WritableRegistry
    from adapter_hub.stores.cache import Cache
    from adapter_hub.stores.contract import Store
    from adapter_hub.transcription.transcriber import Transcriber


class LoadOptions(TypedDict, total=False):
    """What a command may say about the transcriber that it needs, as `adapter_hub.load` takes it."""

    language: str | None
    decode_language: str | None
    base_model: str | None
    threshold: float
    adapters: Sequence[str]
    languages: Sequence[str]
    fallback: str | None
    allow_quarantined: str | None


@dataclass(frozen=True)
class GlobalOptions:
    """The global options; None stands for the default.

    Attributes:
        registry: path of the registry file, or `hf://datasets/namespace/name`.
        store: path of the store's folder, or `hf://namespace`.
        cache: path of the cache's folder.
        device: torch's name of the device.
        dtype: float32, float16 or bfloat16.
    """

    registry: str | None = None
    store: str | None = None
    cache: str | None = None
    device: str | None = None
    dtype: str | None = None

    @cached_property
    def named_registry(self) -> str:
        """The registry that the user means, decided (and, on a terminal, asked) once for a command."""
        from adapter_hub.registry.opening import registry_in_force

        can_answer = sys.stdin.isatty() and sys.stderr.isatty()
        return registry_in_force(self.registry, echo_warning, confirm if can_answer else None)

    def registries(self) -> tuple[Registry, ...]:
        """Return the registries to look names up in: the user's, then the embedded catalogue."""
        from adapter_hub.registry.opening import open_registries

        return open_registries(self.named_registry, cache=self._cache_folder())

    def own_registry(self, *, private: bool | None = None) -> WritableRegistry:
        """Return the registry that commands write to; one on the Hub is made by the first write."""
        from adapter_hub.registry.opening import open_registry

        return open_registry(self.named_registry, cache=self._cache_folder(), private=private or None)

    def own_store(self, *, private: bool | None = None) -> Store:
        """Return the store that commands write to: the named one, or the one that the registry goes with."""
        from adapter_hub.formats.reference import is_address
        from adapter_hub.paths import store_path, store_text
        from adapter_hub.stores.folder import FolderStore
        from adapter_hub.stores.opening import open_store

        registry = self.own_registry()
        text = store_text(self.store) or registry.default_store
        if is_address(text):
            return open_store(text, registry.path, cache=self._cache_folder(), private=private or None)
        return FolderStore(store_path(text, registry.path))

    def open_ref(
        self, ref: AdapterRef, registries: tuple[Registry, ...]
    ) -> tuple[AdapterRef, tuple[Registry, ...]]:
        """Return a reference and the registries to look it up in; `hf://` adds its repository to them.

        That is asked for its statuses; while it cannot be, what is in the cache is shown with a warning.
        """
        if not ref.hub:
            return ref, registries
        from adapter_hub.exchange import open_hub_ref

        return open_hub_ref(ref, registries, self.open_cache(), echo_warning, fresh=True)

    def load(self, ref: str, **how: Unpack[LoadOptions]) -> Transcriber:
        """Return a transcriber for an adapter, `auto` or `base-model`; warnings go to stderr."""
        from adapter_hub.transcription.opening import load

        return load(
            ref,
            device=self.device,
            dtype=self.dtype,
            registry=self.named_registry,
            cache=self.cache,
            tell=echo_warning,
            **how,
        )

    def open_cache(self) -> Cache:
        """Return the cache of pulled adapters."""
        from adapter_hub.stores.cache import Cache

        return Cache(self._cache_folder())

    def _cache_folder(self) -> Path:
        from adapter_hub.paths import cache_folder

        return cache_folder(self.cache)
