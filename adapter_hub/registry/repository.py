"""The file `registry.json` in its dataset repository: the newest commit, the bytes, and a new commit.

    repo = RegistryRepo(RepoId.parse("hf://datasets/alice/registry"), HubClient())
    commit = repo.head()
    raw = repo.read(commit)
    repo.write(changed, parent=commit, message="…")      # StaleParentError if another writer was faster

What the bytes say is not looked at here.
"""

from __future__ import annotations

from adapter_hub.errors import IntegrityError, InvalidInputError, NotFoundError, UnreachableError
from adapter_hub.formats.registry_file import MAXIMUM_SIZE
from adapter_hub.hub import HubClient, RepoId

FILE, BRANCH = "registry.json", "main"
READS = 3  # how often other bytes may come than the Hub says to have


class RegistryRepo:
    """A dataset repository that holds a registry, or will.

    Attributes:
        id: its name; `str` of it is what messages call the registry.
        client: how it is reached.
    """

    def __init__(self, repo: RepoId, client: HubClient) -> None:
        """Name a repository without asking for it."""
        self.id, self.client = repo, client

    def head(self) -> str | None:
        """Return the newest commit, or None if there is no such repository.

        Raises:
            NotFoundError: it has no branch `main`. AccessError, UnreachableError.
        """
        try:
            branches = self.client.refs(self.id).branches
        except NotFoundError:
            return None
        if BRANCH not in branches:
            raise NotFoundError(f"registry {self.id}: the repository has no branch {BRANCH}")
        return branches[BRANCH]

    def read(self, commit: str) -> bytes | None:
        """Return the file in a commit, with the hash that the Hub says it has; None if there is no file.

        Args:
            commit: 40 hexadecimal digits.

        Raises:
            NotFoundError: no such commit. IntegrityError: other bytes came, every time.
            InvalidInputError: too large. AccessError, UnreachableError.
        """
        file = self.client.tree(self.id, commit).get(FILE)
        if file is None:
            return None
        if file.size > MAXIMUM_SIZE:
            raise InvalidInputError(f"registry {self.id}: {file.size} bytes, at most {MAXIMUM_SIZE} are read")
        for _ in range(READS):
            raw = self.client.read(self.id, commit, FILE, limit=MAXIMUM_SIZE)
            if file.holds(raw):
                return raw
        raise IntegrityError(
            f"registry {self.id}: {self.client.endpoint} delivers other bytes than it lists for "
            f"commit {commit[:12]}; try again, or tell its owner"
        )

    def write(self, raw: bytes, *, parent: str, message: str) -> str:
        """Commit the file on top of `parent`, read it back, and return the commit.

        Args:
            raw: the file.
            parent: the commit that it was made from.
            message: of the new commit.

        Raises:
            StaleParentError: another writer committed first; nothing was written.
            UnreachableError: it is unknown whether it was written. IntegrityError: other bytes are there.
            AccessError: no right to write.
        """
        commit = self.client.commit(self.id, additions={FILE: raw}, message=message, parent=parent)
        try:
            landed = self.read(commit)
        except NotFoundError as error:
            raise UnreachableError(f"registry {self.id}: commit {commit[:12]} is not visible yet") from error
        if landed != raw:
            raise IntegrityError(
                f"registry {self.id}: commit {commit[:12]} holds other bytes than were written; tell the "
                f"owner of {self.client.endpoint}"
            )
        return commit
