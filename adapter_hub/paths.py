"""Where things are kept by default.

registry = registry_path(None)
store = store_path(None, registry)
"""

from __future__ import annotations

import os
from pathlib import Path

from platformdirs import user_cache_path, user_data_path

from adapter_hub.errors import InvalidInputError
from adapter_hub.formats.reference import expanded, is_address


def cache_folder(explicit: str | None = None) -> Path:
    """Return where pulled adapters are kept: `explicit`, else ADAPTER_HUB_CACHE, else the user's cache.

    Args:
        explicit: as the user named it, or None.
    """
    chosen = explicit or os.environ.get("ADAPTER_HUB_CACHE")
    return _absolute(chosen) if chosen else user_cache_path("adapter_hub")


def registry_text(explicit: str | None) -> str | None:
    """Return what the user calls the registry: `explicit`, else ADAPTER_HUB_REGISTRY, or None.

    Args:
        explicit: as the user named it, or None.
    """
    return explicit or os.environ.get("ADAPTER_HUB_REGISTRY") or None


def registry_path(explicit: str | None) -> Path:
    """Return the user's registry file, which need not exist yet.

    `explicit`, else ADAPTER_HUB_REGISTRY, else the one in the user's data folder.

    Args:
        explicit: as the user named it, or None.

    Raises:
        InvalidInputError: a folder was named, or something that is not a file.
    """
    chosen = registry_text(explicit)
    if chosen and is_address(chosen):
        raise InvalidInputError(
            f"registry {chosen}: expected a file, or hf://datasets/namespace/name on the Hub"
        )
    path = _absolute(chosen) if chosen else user_data_path("adapter_hub") / "registry.json"
    if path.is_dir():
        raise InvalidInputError(f"registry {path}: is a folder; name the file, like {path / 'registry.json'}")
    return path


def store_text(explicit: str | None) -> str | None:
    """Return what the user calls the store: `explicit`, else ADAPTER_HUB_STORE, or None.

    Args:
        explicit: as the user named it, or None.
    """
    return explicit or os.environ.get("ADAPTER_HUB_STORE") or None


def store_path(explicit: str | None, registry: Path) -> Path:
    """Return the folder store: `explicit`, else ADAPTER_HUB_STORE, else `store` beside `registry`.

    Args:
        explicit: as the user named it, or None.
        registry: path of the registry file.

    Raises:
        InvalidInputError: something that is not a folder.
    """
    chosen = store_text(explicit)
    if chosen and is_address(chosen):
        raise InvalidInputError(f"store {chosen}: expected a folder, or hf://namespace on the Hub")
    return _absolute(chosen) if chosen else registry.parent / "store"


def _absolute(text: str) -> Path:
    return expanded(text).absolute()
