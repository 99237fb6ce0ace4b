"""Stores and clients on the loopback Hub, impatient enough for tests."""

from __future__ import annotations

from pathlib import Path

from loopback_hub import LoopbackHub

from adapter_hub.hub import HubClient, RetryPolicy
from adapter_hub.stores.hub import HubStore

IMPATIENT = RetryPolicy(request=10.0, total=10.0, first_wait=0.02)


def hub_client(hub: LoopbackHub, user: str = "test") -> HubClient:
    return HubClient(hub.endpoint, hub.token(user), IMPATIENT)


def hub_store(hub: LoopbackHub, user: str = "test", cache: Path | None = None) -> HubStore:
    return HubStore(user, client=hub_client(hub, user), cache=cache)
