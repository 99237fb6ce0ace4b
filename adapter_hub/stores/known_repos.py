"""What this machine saw of repositories on a Hub: a tag that moves, or a new owner, is an error.

    known = KnownRepos(cache, "https://huggingface.co")
    known.check_tag(repo, "v1.0.0", commit, digest)    # IntegrityError, or remembered
    known.check_owner(repo, state)

A Hub keeps no tag from moving, and a deleted name can be taken by another user. The first sight is
trusted, as ssh trusts a host's key, and everything after it is compared.
"""

from __future__ import annotations

import time
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from adapter_hub.errors import ConflictError, IntegrityError
from adapter_hub.escaping import shown
from adapter_hub.formats.canonical import Count, Digest, Record, Text, sha256_hex
from adapter_hub.formats.reference import name_key
from adapter_hub.hub import RepoId, RepoState
from adapter_hub.registry.record_file import RecordFile

MAXIMUM_NOTE = 16 * 2**20  # bytes; a repository with 50 000 tags


class KnownTag(Record):
    """A tag as it was seen: its commit, and the digest of the manifest there."""

    commit: Text
    digest: Digest
    seen: Count


class KnownRepo(Record):
    """A repository as it was seen.

    Attributes:
        endpoint: the Hub's address.
        repo: like `hf://alice/da`.
        identity: what the Hub gives a repository when it is made; None if it was not asked for.
        tags: by name; `seen` is `time.time()` in whole seconds.
    """

    schema_: Annotated[Literal["known-repo/1"], Field(alias="schema")]
    endpoint: Text
    repo: Text
    identity: str | None = None
    tags: dict[str, KnownTag] = {}


class KnownRepos:
    """The memory of one Hub, in a folder of small files.

    Attributes:
        folder: where they are.
        endpoint: of the Hub.
    """

    def __init__(self, cache: Path, endpoint: str) -> None:
        """Name the memory without reading it."""
        self.folder, self.endpoint = cache / "remembered", endpoint

    def path(self, repo: RepoId) -> Path:
        """Return the file that remembers a repository, however its name is spelt."""
        return self.folder / f"hub-{sha256_hex(f'{self.endpoint} {name_key(str(repo))}'.encode())[:32]}.json"

    def recall(self, repo: RepoId) -> KnownRepo:
        """Return what was seen; nothing, if it was never seen.

        Args:
            repo: the repository.

        Raises:
            IntegrityError: the file is damaged; what it knew is not forgotten without a word.
        """
        known = self._file(repo).read()
        if known is None:
            return KnownRepo.model_validate(
                {"schema": "known-repo/1", "endpoint": self.endpoint, "repo": str(repo)}
            )
        if (known.endpoint, name_key(known.repo)) != (self.endpoint, name_key(str(repo))):
            raise self._damaged(repo, f"it is about {known.repo} on {known.endpoint}")
        return known

    def _file(self, repo: RepoId) -> RecordFile[KnownRepo]:
        refuse = partial(self._damaged, repo)
        return RecordFile(self.path(repo), KnownRepo, refuse, most=MAXIMUM_NOTE, cache=self.folder.parent)

    def _damaged(self, repo: RepoId, problem: str) -> IntegrityError:
        return IntegrityError(
            f"{repo}: what this machine saw of it is damaged, in {self.path(repo)}, so that a moved tag or a "
            "new owner would not be noticed; if you trust it as it is now, delete that file "
            f"({problem})"
        )

    def check_tag(self, repo: RepoId, tag: str, commit: str, digest: str) -> None:
        """Compare a tag with what was seen of it, and remember it.

        A tag at another commit with the same manifest is let through: the manifest pins every byte.

        Args:
            repo: the repository.
            tag: like `v1.0.0`.
            commit: that it names now.
            digest: of the manifest in that commit.

        Raises:
            IntegrityError: it names other content than before.
        """
        known = self.recall(repo).tags.get(tag)
        if known and known.digest != digest:
            raise IntegrityError(
                f"{repo} {tag}: the tag was moved",
                [
                    f"it named {known.digest} (commit {known.commit[:12]})",
                    f"now {digest} (commit {commit[:12]})",
                ],
                f"a version never changes: ask its owner; if this is meant, delete {self.path(repo)}",
            )
        now = int(time.time())
        if known is None or known.commit != commit or known.seen < now - 60:
            self._update(repo, tags={tag: KnownTag(commit=commit, digest=digest, seen=now)})

    def check_owner(self, repo: RepoId, state: RepoState, *, pinned: bool = False) -> bool:
        """Compare a repository's owner with the one trusted before.

        Args:
            repo: as it was asked for.
            state: what the Hub answers.
            pinned: whether the digest of the version is given, so that it does not matter whose it is now.

        Returns:
            Whether it is seen for the first time.

        Raises:
            IntegrityError: it has another owner, or was deleted and created again.
        """
        home = shown(state.id, 120)
        if not pinned and name_key(state.id.partition("/")[0]) != name_key(repo.namespace):
            raise IntegrityError(
                f"{repo}: the Hub answers with {home}: the repository was moved to another owner; if you "
                f"trust that one, name it as hf://{home}"
            )
        known = self.recall(repo).identity
        if known is not None and known != state.identity:
            raise IntegrityError(
                f"{repo}: is not the repository that was trusted before, it was deleted and created again "
                f"since, perhaps by another user; if you trust it now, delete {self.path(repo)}"
            )
        if known is None:
            self._update(repo, identity=state.identity)
        return known is None

    def _update(
        self, repo: RepoId, *, identity: str | None = None, tags: dict[str, KnownTag] | None = None
    ) -> None:
        with suppress(OSError, ConflictError):  # a cache that cannot be written, or is busy, forgets
            file = self._file(repo)
            with file.locked():
                before = self.recall(repo)
                changes = {"identity": identity or before.identity, "tags": {**before.tags, **(tags or {})}}
                file.write(before.model_copy(update=changes))
