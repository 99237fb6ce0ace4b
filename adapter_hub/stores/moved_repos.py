"""Repositories with another name than the adapter in them: moved by their owner, or copied by another user.

A manifest never changes, so it keeps the name that the repository had when it was published. The Hub sends
those who ask for that name on to where the repository is now: if it does, the adapter is the one of that
name. A copy belongs to another user: it is accepted only if its digest is named.
"""

from __future__ import annotations

from adapter_hub.errors import AccessError, AdapterHubError, IntegrityError, NotFoundError
from adapter_hub.formats.manifest import Manifest
from adapter_hub.hub import HubClient, RepoId


def was_called(client: HubClient, now: RepoId, before: str) -> bool:
    """Tell whether the Hub answers for a name with the repository that is called `now`.

    Args:
        client: of the Hub.
        now: the repository under its present name.
        before: the name to ask for.

    Raises:
        UnreachableError: it cannot be asked.
    """
    try:
        there, here = client.state(RepoId(before)), client.state(now)
    except (NotFoundError, AccessError):
        return False
    return there.id == here.id == now.id and there.identity == here.identity != ""


def another_name(client: HubClient, repo: RepoId, manifest: Manifest, digest: str) -> AdapterHubError:
    """Return the error for a repository that holds an adapter of another name, with the next step.

    Args:
        client: of the Hub.
        repo: the repository.
        manifest: of the adapter in it.
        digest: of that manifest.
    """
    version = manifest.version
    return IntegrityError(
        f"{repo} v{version}: holds {manifest.ref}, of another repository, and {client.endpoint} does not say "
        f"that it was moved here; pull it from there (hf://{manifest.ref}), or, if you trust this copy, name "
        f"its digest: hf://{repo.id}@{version}#{digest}"
    )
