"""Publish, pull, lock, sync, mirror, attach, retire, rebuild: the only place where registry and store meet.

    publish("out/mini-da", registry=registry, store=store)
    artifact = pull("mini/da", registries=open_registries(None), cache=Cache(cache_folder()))

Bytes first, index second (invariant 4): a crash at any point leaves no registry entry without bytes,
and saying the same again finishes what was begun.
"""

from __future__ import annotations

from adapter_hub.exchange.claiming import attach, retire
from adapter_hub.exchange.hub_refs import open_hub_ref
from adapter_hub.exchange.locking import bring_up_to_date, lock
from adapter_hub.exchange.mirroring import Mirrored, mirror
from adapter_hub.exchange.publishing import Published, publish
from adapter_hub.exchange.pulling import pull
from adapter_hub.exchange.rebuilding import check, rebuild
from adapter_hub.exchange.syncing import sync

__all__ = [
    "Mirrored",
    "Published",
    "attach",
    "bring_up_to_date",
    "check",
    "lock",
    "mirror",
    "open_hub_ref",
    "publish",
    "pull",
    "rebuild",
    "retire",
    "sync",
]
