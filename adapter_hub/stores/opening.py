"""Opening a store by the name that a user or a registry gives it.

store = open_store("./store", registry.path)
store.push(artifact)
store.fetch("mini/da", "1.0.0", folder)
"""

from __future__ import annotations

from pathlib import Path

from adapter_hub import embedded
from adapter_hub.embedded import EMBEDDED
from adapter_hub.errors import InvalidInputError
from adapter_hub.formats.reference import HUB, is_address, is_hub
from adapter_hub.reporting import ReceivedBytes
from adapter_hub.stores.contract import Store
from adapter_hub.stores.folder import FolderStore


def open_store(
    label: str,
    registry: Path,
    *,
    cache: Path | None = None,
    progress: ReceivedBytes | None = None,
    private: bool | None = None,
) -> Store:
    """Return the store that a registry's location names.

    Args:
        label: `Location.store`.
        registry: the registry file; relative labels start from its folder.
        cache: folder for what a remote store needs on this machine; the user's by default.
        progress: called with the number of bytes that arrived from a remote store, from several threads.
        private: for repositories on the Hub that a push makes; None for the account's default.

    Raises:
        InvalidInputError: a kind of store that this program cannot open.
    """
    if label == EMBEDDED:
        return FolderStore(embedded.store_path())
    if is_hub(label):
        from adapter_hub.stores.hub import HubStore  # noqa: PLC0415 - folders need no Hub's client

        return HubStore(label.removeprefix(HUB).rstrip("/"), cache=cache, progress=progress, private=private)
    if is_address(label):
        raise InvalidInputError(f"store {label}: expected a folder, or hf://namespace")
    return FolderStore(registry.parent / label)
