"""Publish, pull, lock, sync, mirror, attach, retire, rebuild: the only place where registry and store meet.

    places = Places("./registry.json", "./store")
    publish("out/mini-da", places)
    artifact = pull("mini/da", places)

Bytes first, index second (invariant 4): a crash at any point leaves no registry entry without bytes,
and running the same again finishes what was begun. A verb is imported when it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from adapter_hub.exchange.claiming import attach, retire
    from adapter_hub.exchange.hub_refs import open_hub_ref
    from adapter_hub.exchange.listing import list_versions
    from adapter_hub.exchange.locking import lock, update_lock
    from adapter_hub.exchange.mirroring import Mirrored, mirror
    from adapter_hub.exchange.places import Places
    from adapter_hub.exchange.publishing import Published, publish
    from adapter_hub.exchange.pulling import pull
    from adapter_hub.exchange.rebuilding import check, rebuild
    from adapter_hub.exchange.syncing import sync

__all__ = [
    "Mirrored",
    "Places",
    "Published",
    "attach",
    "check",
    "list_versions",
    "lock",
    "mirror",
    "open_hub_ref",
    "publish",
    "pull",
    "rebuild",
    "retire",
    "sync",
    "update_lock",
]

_HOMES = {
    "Mirrored": "mirroring",
    "Places": "places",
    "Published": "publishing",
    "attach": "claiming",
    "update_lock": "locking",
    "check": "rebuilding",
    "list_versions": "listing",
    "lock": "locking",
    "mirror": "mirroring",
    "open_hub_ref": "hub_refs",
    "publish": "publishing",
    "pull": "pulling",
    "rebuild": "rebuilding",
    "retire": "claiming",
    "sync": "syncing",
}


def __getattr__(name: str) -> Any:
    """Import a verb, and what it needs, when it is first used."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = globals()[name] = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
