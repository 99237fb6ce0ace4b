"""Which registries a user means: a file or one on the Hub, and after it the embedded catalogue.

    registry = open_registry("hf://datasets/alice/registry")
    resolve(AdapterRef.parse("mini/da"), open_registries(None)).block.digest

`--registry`, else ADAPTER_HUB_REGISTRY, else ./registry.json if present, else the user's data folder.
Opening reads nothing and asks nobody.
"""

from __future__ import annotations

from pathlib import Path

from adapter_hub import embedded
from adapter_hub.paths import is_address, registry_path, registry_text
from adapter_hub.registry import Registry


def open_registry(
    explicit: str | None = None,
    *,
    cache: Path | None = None,
    read_only: bool = False,
    private: bool | None = None,
) -> Registry:
    """Return the registry that the user means.

    Args:
        explicit: a file, or `hf://datasets/namespace/name`; by default see above.
        cache: folder for what was seen, and for copies of registries on the Hub; the user's by default.
        read_only: refuse to write.
        private: for one on the Hub that the first write makes; None for the account's default.

    Raises:
        InvalidInputError: neither of the two.
    """
    text = registry_text(explicit)
    if text and is_address(text):
        from adapter_hub.hub_registry import HubRegistry  # noqa: PLC0415 - files need none of it

        return HubRegistry(text, read_only=read_only, cache=cache, private=private)
    return Registry(registry_path(explicit), read_only, cache=cache)


def open_registries(explicit: str | None = None, *, cache: Path | None = None) -> tuple[Registry, ...]:
    """Return the registries to ask, in order: the user's, then the embedded catalogue (read-only)."""
    own = open_registry(explicit, cache=cache)
    if own.is_embedded:
        return (own,)
    return (own, Registry(embedded.registry_path(), read_only=True, cache=cache))
