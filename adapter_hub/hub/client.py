"""The requests that this library makes of a Hub: each with limits, retries, and one-line errors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from adapter_hub.errors import ConflictError, NotFoundError, StaleParentError, UnreachableError
from adapter_hub.hub.committing import write_commit
from adapter_hub.hub.names import RepoId, check_commit, check_revision
from adapter_hub.hub.reading import HubReader


class HubClient(HubReader):
    """A Hub, as its user sees it. Nothing is requested before a method is called."""

    def commit(
        self,
        repo: RepoId,
        *,
        additions: Mapping[str, bytes | Path],
        deletions: Sequence[str] = (),
        message: str,
        parent: str,
        branch: str = "main",
    ) -> str:
        """Write and remove files in one commit on top of `parent`, or not at all.

        An answer that was lost is looked up: if the branch holds what was asked for, that is success.

        Returns:
            The commit; the branch's present one if nothing had to change.

        Raises:
            StaleParentError: the branch has another commit by now; nothing was written.
            AccessError, NotFoundError, UnreachableError.
        """
        check_commit(parent)
        check_revision(branch)
        size = sum(
            len(item) if isinstance(item, bytes) else item.stat().st_size for item in additions.values()
        )
        attempts = 0

        def write() -> str:
            nonlocal attempts
            attempts += 1
            return write_commit(self._api, repo, additions, deletions, message, (parent, branch))

        try:
            return check_commit(self._ask(write, f"a commit to {repo}", size))
        except (StaleParentError, UnreachableError) as error:
            if attempts < 2 and isinstance(error, StaleParentError):
                raise
            head = self._head_with(repo, branch, additions, deletions)
            if head is None or head == parent:
                raise
            return head

    def _head_with(
        self, repo: RepoId, branch: str, additions: Mapping[str, bytes | Path], deletions: Sequence[str]
    ) -> str | None:
        """Return the branch's commit if it holds the additions and not the deletions."""
        try:
            head = self.refs(repo).branches.get(branch)
            if head is None:
                return None
            tree = self.tree(repo, head)
        except (UnreachableError, NotFoundError):
            return None
        there = all(path in tree and tree[path].holds(content) for path, content in additions.items())
        return head if there and not any(path in tree for path in deletions) else None

    def create_repo(self, repo: RepoId, private: bool | None = None) -> None:
        """Make a repository unless it is there; an existing one keeps its visibility.

        Raises:
            AccessError: not this user's namespace, or a read-only token. UnreachableError.
        """
        self._ask(
            lambda: self._api.create_repo(repo.id, repo_type=repo.kind, private=private, exist_ok=True),
            f"making {repo}",
        )

    def create_tag(self, repo: RepoId, tag: str, commit: str) -> None:
        """Name a commit, for ever as far as this library goes.

        Raises:
            ConflictError: the tag exists at another commit. AccessError, NotFoundError, UnreachableError.
        """
        check_revision(tag)
        check_commit(commit)
        try:
            self._ask(
                lambda: self._api.create_tag(repo.id, tag=tag, revision=commit, repo_type=repo.kind),
                f"tag {tag} of {repo}",
            )
        except (ConflictError, UnreachableError):
            if self.refs(repo).tags.get(tag) != commit:
                raise
        else:  # the client takes an answer for success without looking
            if (found := self.refs(repo).tags.get(tag)) != commit:
                raise ConflictError(f"tag {tag} of {repo}: names {found or 'nothing'}, expected {commit}")

    def delete_tag(self, repo: RepoId, tag: str) -> None:
        """Remove a tag if it is there; the commit stays, for whoever knows it.

        Raises:
            AccessError, UnreachableError.
        """
        try:
            self._ask(
                lambda: self._api.delete_tag(repo.id, tag=check_revision(tag), repo_type=repo.kind),
                f"tag {tag} of {repo}",
            )
        except NotFoundError:
            return

    def create_branch(self, repo: RepoId, branch: str, commit: str) -> None:
        """Start a branch at a commit, unless there is one of that name."""
        self._ask(
            lambda: self._api.create_branch(
                repo.id,
                branch=check_revision(branch),
                revision=check_commit(commit),
                repo_type=repo.kind,
                exist_ok=True,
            ),
            f"branch {branch} of {repo}",
        )

    def delete_branch(self, repo: RepoId, branch: str) -> None:
        """Remove a branch if it is there; commits with a tag stay."""
        try:
            self._ask(
                lambda: self._api.delete_branch(repo.id, branch=check_revision(branch), repo_type=repo.kind),
                f"branch {branch} of {repo}",
            )
        except NotFoundError:
            return

    def delete_contents(self, repo: RepoId, sha256s: Sequence[str]) -> None:
        """Remove the bytes of files in large-file storage for good; the commits that list them stay.

        Raises:
            AccessError, NotFoundError, UnreachableError.
        """

        def delete() -> None:
            listed = self._api.list_lfs_files(repo.id, repo_type=repo.kind)
            found = [item for item in listed if item.oid in sha256s]
            self._api.permanently_delete_lfs_files(repo.id, found, rewrite_history=False, repo_type=repo.kind)

        self._ask(delete, f"removing files of {repo}")
