"""One commit, as the client writes it; see `HubClient.commit` for what makes it safe to repeat."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adapter_hub.hub.names import RepoId

if TYPE_CHECKING:
    from huggingface_hub import HfApi

XET_ENDPOINT = "https://huggingface.co"  # the only Hub that is known to speak Xet, which the client prefers


def write_commit(
    api: HfApi,
    repo: RepoId,
    additions: Mapping[str, bytes | Path],
    deletions: Sequence[str],
    message: str,
    place: tuple[str, str],
) -> str:
    """Upload and commit once; return the commit, or the present one if nothing had to change.

    Args:
        api: the client.
        repo: the repository.
        additions: content by path.
        deletions: paths that are there.
        message: of the commit.
        place: the parent commit, and the branch.
    """
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete  # noqa: PLC0415 - 0.1 s

    operations: list[Any] = [CommitOperationDelete(path) for path in deletions]
    with ExitStack() as stack:
        for path, content in additions.items():
            source: Any = content
            if isinstance(content, bytes):
                source = io.BytesIO(content)
            elif api.endpoint != XET_ENDPOINT:  # an open file makes the client use plain HTTP
                source = stack.enter_context(content.open("rb"))
            operations.append(CommitOperationAdd(path, source))
        done = api.create_commit(
            repo.id,
            operations,
            commit_message=message,
            repo_type=repo.kind,
            revision=place[1],
            parent_commit=place[0],
        )
    return str(done.oid)
