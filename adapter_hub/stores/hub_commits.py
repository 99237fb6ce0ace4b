"""Commits to an adapter's repository: a version, what `main` shows, claims; each planned on what is there.

Of two that write at once the parent commit tells which was first: the second plans again. Nothing here trusts
that a commit went through because the Hub said so: versions are read back before they get their tag.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from adapter_hub.artifact.folder import ANCESTORS, MAXIMUM_MANIFEST, Artifact
from adapter_hub.errors import (
    ConflictError,
    IntegrityError,
    InvalidInputError,
    NotFoundError,
    StaleParentError,
    StatusError,
)
from adapter_hub.formats.canonical import digest_of, hex_of
from adapter_hub.formats.manifest import MANIFEST_FILE, Manifest
from adapter_hub.formats.reference import VERSION_PATTERN
from adapter_hub.formats.versions import preferred
from adapter_hub.hub import HubClient, Refs, RemoteFile, RepoId, scratch_folder
from adapter_hub.stores.claim_files import CARD_FILE, EVALUATIONS, STATUS_FILE

TAG = "adapter-hub"  # of every repository that this library made, by which they are found
PLAIN_CARD = f"---\ntags:\n- {TAG}\n---\n"  # until a rendered one takes its place
GIT_ATTRIBUTES = ".gitattributes"  # the Hub's own: which files are in large-file storage
RACES = (
    60  # how often another writer may be faster; 8 at once need 7 rounds at worst, and claims come between
)


@dataclass(frozen=True)
class Repository:
    """A repository to write to.

    Attributes:
        client: of the Hub.
        repo: its name.
        read_back: downloads a commit and compares it with an artifact, raises if they differ.
    """

    client: HubClient
    repo: RepoId
    read_back: Callable[[Artifact, str], None]

    def rounds(self) -> Iterator[Refs]:
        """Yield the refs, again and again with pauses, for as long as it makes sense to plan again.

        Raises:
            ConflictError: another writer was faster every time.
        """
        for attempt in range(RACES):
            if attempt:
                time.sleep(self.client.retries.pause(min(attempt - 1, 2)))
                self.client.forget(self.repo)
            yield self.client.refs(self.repo)
        raise ConflictError(f"{self.repo}: another writer was faster {RACES} times; try again later")

    def write_claims(self, plan: Callable[[str], Mapping[str, bytes]], message: str) -> None:
        """Add files to `main`; `plan` says which, given the commit that is there.

        Args:
            plan: returns the files to add by path, given the commit on `main`; none if there is nothing to
                add.
            message: of the commit.
        """
        for refs in self.rounds():
            head = main_of(self.repo, refs)
            if not (additions := plan(head)):
                return
            try:
                self.client.commit(self.repo, additions=additions, message=message, parent=head)
            except StaleParentError:
                continue
            return


def versions_of(refs: Refs) -> list[str]:
    """Return the versions that have a tag, in no order.

    Args:
        refs: branches and tags of a repository.
    """
    return [tag[1:] for tag in refs.tags if re.fullmatch(f"v{VERSION_PATTERN}", tag)]


def main_of(repo: RepoId, refs: Refs) -> str:
    """Return the commit on `main`.

    Args:
        repo: for the message.
        refs: its branches and tags.

    Raises:
        NotFoundError: there is no such branch.
    """
    if "main" not in refs.branches:
        raise NotFoundError(f"{repo}: has no branch main; make one from its newest commit")
    return refs.branches["main"]


def publish_version(repository: Repository, artifact: Artifact, card: str, restore: bool = False) -> bool:
    """Commit an artifact as the whole tree, claims apart; read it back; tag it.

    Whatever of this was done before is not done again. A version that is older than the one on `main`, or
    a pre-release, goes to a branch of its own for as long as it has no tag, so that `main` keeps the newest;
    its name has the bytes' digest, so that publishers of other bytes do not meet there.

    Args:
        repository: to write to.
        artifact: the version.
        card: its README.md.
        restore: replace a tag that names something else, or damaged bytes.

    Returns:
        Whether it had to be written; False if its tag was there and named these bytes.

    Raises:
        ConflictError: the version is there with other bytes. IntegrityError: the Hub keeps something else.
    """
    client, repo = repository.client, repository.repo
    version, tag = artifact.manifest.version, f"v{artifact.manifest.version}"
    additions = _files(artifact, card)
    side = f"publishing-{tag}-{hex_of(artifact.digest)[:12]}"
    for refs in repository.rounds():
        if tag in refs.tags:
            if side in refs.branches:  # left by a publisher that was killed, or is slower
                client.delete_branch(repo, side)
            try:
                _check_same(repository, artifact, refs.tags[tag])
            except (ConflictError, IntegrityError, NotFoundError, InvalidInputError):
                if not restore:
                    raise
                client.delete_tag(repo, tag)
                continue
            return False
        branch, parent = _place_for(repository, version, side, refs)
        if branch not in refs.branches:
            client.check_card(repo, card or PLAIN_CARD)
            client.create_branch(repo, branch, parent)
        commit = _commit(repository, artifact, additions, branch, parent)
        if commit is None:
            continue
        repository.read_back(artifact, commit)
        try:
            client.create_tag(repo, tag, commit)
        except ConflictError:
            continue  # another publisher of this version was faster: is it the same?
        if branch != "main":
            client.delete_branch(repo, branch)
        return True
    raise AssertionError  # rounds end with an error


def _place_for(repository: Repository, version: str, side: str, refs: Refs) -> tuple[str, str]:
    """Return the branch to commit a version to, and the commit to put it on: `main`, or `side`."""
    main = main_of(repository.repo, refs)
    if preferred([*versions_of(refs), version]) == version:
        return "main", main
    return side, refs.branches.get(side, main)


def _commit(
    repository: Repository,
    artifact: Artifact,
    additions: Mapping[str, bytes | Path],
    branch: str,
    parent: str,
) -> str | None:
    """Commit an artifact as the whole tree; return the commit, or None if another writer was faster."""
    client, repo = repository.client, repository.repo
    tree = client.tree(repo, parent)
    deletions = _leftovers(tree, additions)
    if deletions and MANIFEST_FILE not in tree:
        raise ConflictError(
            f"{repo}: holds something else than an adapter ({', '.join(deletions[:3])}), which a publish "
            "would remove; publish under another name, or empty it first"
        )
    try:
        commit = client.commit(
            repo,
            additions=additions,
            deletions=deletions,
            message=f"{artifact.ref}",
            parent=parent,
            branch=branch,
        )
    except StaleParentError:
        return None
    except NotFoundError:
        if branch == "main":
            raise
        return None  # another publisher of the same has finished with the branch
    # if an answer was lost, another writer may have written before it was looked up
    return None if _leftovers(client.tree(repo, commit), additions) else commit


def _files(artifact: Artifact, card: str) -> dict[str, bytes | Path]:
    files: dict[str, bytes | Path] = {
        entry.path: artifact.path / entry.path for entry in artifact.manifest.files
    }
    files[MANIFEST_FILE] = artifact.path / MANIFEST_FILE
    return {**files, CARD_FILE: (card or PLAIN_CARD).encode()}


def _leftovers(tree: Mapping[str, RemoteFile], additions: Mapping[str, bytes | Path]) -> list[str]:
    """Return what has to go so that the tree is the additions and the claims, and nothing else."""
    kept = {GIT_ATTRIBUTES, STATUS_FILE, CARD_FILE, *additions}
    return sorted(path for path in tree if path not in kept and not path.startswith(f"{EVALUATIONS}/"))


def _check_same(repository: Repository, artifact: Artifact, commit: str) -> None:
    raw = repository.client.read(repository.repo, commit, MANIFEST_FILE, limit=MAXIMUM_MANIFEST)
    if digest_of(raw) != artifact.digest:
        raise ConflictError(
            f"{artifact.ref}: {repository.repo} has it with digest {digest_of(raw)}, not {artifact.digest}; "
            "a version never changes: publish the new bytes as a new version"
        )
    repository.read_back(artifact, commit)


def show_version(
    repository: Repository,
    version: str,
    commit: str,
    card: str,
    fetch: Callable[[Path], Artifact],
) -> None:
    """Make `main` show a version and its card; nothing is written if it does.

    Args:
        repository: to write to.
        version: the one to show.
        commit: that its tag names.
        card: its README.md.
        fetch: fetches the version to a folder; called if `main` holds another.
    """
    client, repo = repository.client, repository.repo
    for refs in repository.rounds():
        head = main_of(repo, refs)
        tree = client.tree(repo, head)
        with scratch_folder() as scratch:
            additions: dict[str, bytes | Path] = {CARD_FILE: card.encode()}
            deletions: list[str] = []
            if tree.get(MANIFEST_FILE) != client.tree(repo, commit).get(MANIFEST_FILE):
                try:
                    additions = _files(fetch(Path(scratch) / "artifact"), card)
                    deletions = _leftovers(tree, additions)
                except StatusError:
                    pass  # withdrawn, and no other is left: the card says so
            elif CARD_FILE in tree and tree[CARD_FILE].holds(card.encode()):
                return
            try:
                client.commit(
                    repo,
                    additions=additions,
                    deletions=deletions,
                    message=f"Show version {version}",
                    parent=head,
                )
            except StaleParentError:
                continue
        return


def withdraw_version(
    repository: Repository, manifest: Manifest, commit: str, kept_elsewhere: set[str]
) -> None:
    """Remove a version's files from `main` and its weights from the Hub's storage for good.

    Commit and tag stay and list the files still; their bytes are gone. What another version needs, too,
    stays, and so do small text files, which git keeps in its history.

    Args:
        repository: to write to.
        manifest: of the version.
        commit: that its tag names.
        kept_elsewhere: sha256 of the files of other versions.
    """
    client, repo = repository.client, repository.repo
    at_tag = client.tree(repo, commit)
    for refs in repository.rounds():
        head = main_of(repo, refs)
        tree = client.tree(repo, head)
        if tree.get(MANIFEST_FILE) != at_tag.get(MANIFEST_FILE):
            break
        listed = [entry.path for entry in manifest.files if not entry.path.startswith(f"{ANCESTORS}/")]
        if not (deletions := [path for path in listed if path in tree]):
            break
        try:
            message = f"Withdraw version {manifest.version}"
            client.commit(repo, additions={}, deletions=deletions, message=message, parent=head)
        except StaleParentError:
            continue
        break
    contents = {file.sha256 for file in at_tag.values() if file.sha256} - kept_elsewhere
    if contents:
        client.delete_contents(repo, sorted(contents))
