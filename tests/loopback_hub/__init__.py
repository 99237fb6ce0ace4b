"""A Hugging Face Hub on loopback for the real client, with content on disk and faults on demand.

with LoopbackHub(folder) as hub:
    HfApi(endpoint=hub.endpoint, token=hub.token("alice")).create_repo("alice/pl")

By hand: `PYTHONPATH=tests python -m loopback_hub FOLDER` serves it and prints the environment to export.
"""

from __future__ import annotations

from loopback_hub.endpoints import ALL, ENDPOINTS, Endpoint
from loopback_hub.exchange_log import Entry
from loopback_hub.faults import Fault
from loopback_hub.hub import LoopbackHub

__all__ = ["ALL", "ENDPOINTS", "Endpoint", "Entry", "Fault", "LoopbackHub"]
