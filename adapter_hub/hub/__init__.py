"""The Hugging Face Hub, through its own client and with what that leaves out.

    client = HubClient()
    commit = client.refs(RepoId("alice/da")).tags["v1.0.0"]
    client.download(RepoId("alice/da"), commit, {"adapter.json": None}, folder)

The client of `huggingface_hub` has no time limit on most calls, gives up on most of them at the first
failure, checks no revision's name, and never hashes what it downloads. Every request of this library
goes through here, so that limits, retries, messages and checks are in one place.
"""

from __future__ import annotations

from adapter_hub.hub.client import HubClient
from adapter_hub.hub.downloading import make_way, scratch_folder
from adapter_hub.hub.names import (
    Refs,
    RemoteFile,
    RepoId,
    RepoState,
    Wanted,
    check_commit,
    check_pin,
    check_revision,
)
from adapter_hub.hub.patience import Patience

__all__ = [
    "HubClient",
    "Patience",
    "Refs",
    "RemoteFile",
    "RepoId",
    "RepoState",
    "Wanted",
    "check_commit",
    "check_pin",
    "check_revision",
    "make_way",
    "scratch_folder",
]
