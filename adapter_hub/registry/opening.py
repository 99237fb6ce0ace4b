"""Which registry a user means: a file, or one on the Hub.

    registry = open_registry("hf://datasets/alice/registry")
    resolve(AdapterRef.parse("mini/da"), (open_registry(),)).block.digest

`--registry`, else ADAPTER_HUB_REGISTRY, else ./registry.json if the user trusts it (see `trust`), else the
one in the user's data folder. Opening makes no request.
"""

from __future__ import annotations

import warnings
from pathlib import Path

from adapter_hub.formats.reference import is_address
from adapter_hub.paths import registry_path, registry_text
from adapter_hub.registry.contract import WritableRegistry
from adapter_hub.registry.file import FileRegistry
from adapter_hub.registry.trust import registry_here
from adapter_hub.reporting import Ask, Tell


def registry_in_force(explicit: str | None, tell: Tell, ask: Ask | None = None) -> str:
    """Return how to name the registry that the user means, so that it is decided once.

    Args:
        explicit: as the user named it, or None.
        tell: called with a line where a registry in the current folder is not used.
        ask: puts a question to the user; None if there is nobody to answer.
    """
    text = registry_text(explicit)
    return text or str(registry_here(tell, ask) or registry_path(None))


def open_registry(
    explicit: str | None = None,
    *,
    cache: Path | None = None,
    read_only: bool = False,
    private: bool | None = None,
) -> WritableRegistry:
    """Return the registry that the user means.

    Args:
        explicit: a file, or `hf://datasets/namespace/name`; by default see above.
        cache: folder for what was seen, and for copies of registries on the Hub; the user's by default.
        read_only: refuse to write.
        private: for one on the Hub that the first write makes; None for the account's default.

    Raises:
        InvalidInputError: neither of the two.
    """
    text = registry_in_force(explicit, warnings.warn)
    if is_address(text):
        from adapter_hub.registry.on_hub import HubRegistry  # noqa: PLC0415 - files need none of it

        return HubRegistry(text, read_only=read_only, cache=cache, private=private)
    return FileRegistry(registry_path(text), read_only, cache=cache)
