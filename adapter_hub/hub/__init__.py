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
from adapter_hub.hub.download import clear_path, scratch_folder
from adapter_hub.hub.names import (
    ExpectedFile,
    Refs,
    RemoteFile,
    RepoId,
    RepoState,
    check_commit,
    check_pin,
    check_revision,
)
from adapter_hub.hub.retry import RetryPolicy

__all__ = [
    "ExpectedFile",
    "HubClient",
    "Refs",
    "RemoteFile",
    "RepoId",
    "RepoState",
    "RetryPolicy",
    "check_commit",
    "check_pin",
    "check_revision",
    "clear_path",
    "scratch_folder",
]
