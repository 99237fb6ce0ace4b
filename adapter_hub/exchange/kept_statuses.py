"""Statuses that a registry keeps although its stores say them no more.

A store's status.json only grows. Where it was emptied, shortened or replaced, what a registry said, and this
machine remembers that it said, stays until an entry of a later time takes it back.
"""

from __future__ import annotations

from typing import Any

from adapter_hub.escaping import shown
from adapter_hub.formats.claims import Status, strictness
from adapter_hub.formats.registry_file import Adapters, VersionBlock
from adapter_hub.formats.times import is_ahead
from adapter_hub.registry.contract import Registry
from adapter_hub.registry.status_memory import StatusMemory


def keep_statuses(rebuilt: Adapters, registry: Registry) -> dict[str, str]:
    """Give blocks that were made from stores the status that the registry gave them, if that is stricter.

    Args:
        rebuilt: is changed in place.
        registry: as it was before.

    Returns:
        For every version that keeps its status a line that says so, by `namespace/name@version`.
    """
    memory, lines = StatusMemory(registry.cache_folder), {}
    for name, versions in rebuilt.items():
        for version, block in versions.items():
            before = registry.adapters.get(name, {}).get(version)
            said = [_of(before)] if before and before.digest == block.digest else []
            said += [
                {"status": told.status, "reason": told.reason or None, "since": told.since}
                for told in memory.about(block.digest)
                if told.source == registry.label
            ]
            strictest = max(said, key=lambda item: strictness(item["status"]), default=None)
            if strictest and _loosens(block, strictest["status"], strictest["since"]):
                versions[version] = block.model_copy(update=strictest)
                reason = f" ({shown(strictest['reason'])})" if strictest["reason"] else ""
                lines[f"{name}@{version}"] = (
                    f"{name}@{version} stays {strictest['status']}{reason}: the registry said so, and no "
                    "later entry in the stores' status.json takes it back"
                )
    return lines


def _of(block: VersionBlock) -> dict[str, Any]:
    return {"status": block.status, "reason": block.reason, "since": block.since}


def _loosens(block: VersionBlock, status: Status, since: str | None) -> bool:
    if strictness(block.status) >= strictness(status):
        return False
    taken_back = block.since is not None and not is_ahead(block.since) and block.since > (since or "")
    return not taken_back
