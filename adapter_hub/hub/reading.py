"""The requests that only read: each with limits, retries, and one-line errors."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from adapter_hub.errors import (
    IntegrityError,
    UnreachableError,
)
from adapter_hub.hub.committing import XET_ENDPOINT, hush
from adapter_hub.hub.downloading import Progress, download_files, scratch_folder
from adapter_hub.hub.names import (
    Refs,
    RemoteFile,
    RepoId,
    RepoState,
    Wanted,
    check_commit,
    check_path,
    check_revision,
    state_of,
)
from adapter_hub.hub.patience import Patience

if TYPE_CHECKING:
    from huggingface_hub import HfApi

Result = TypeVar("Result")


class HubReader:
    """A Hub, as its readers see it. Nothing is requested before a method is called.

    Attributes:
        patience: limits of time.
    """

    def __init__(
        self, endpoint: str | None = None, token: str | None = None, patience: Patience | None = None
    ) -> None:
        """Name a Hub.

        Args:
            endpoint: its address; HF_ENDPOINT or huggingface.co by default.
            token: of the user; by default the one that `hf auth login` stored, or HF_TOKEN.
            patience: limits of time; by default from the environment.
        """
        self._endpoint, self._token = endpoint, token
        self.patience = patience or Patience.from_environment()

    @cached_property
    def endpoint(self) -> str:
        """The address, without a slash at the end."""
        if self._endpoint is not None:
            return self._endpoint.rstrip("/")
        return os.environ.get("HF_ENDPOINT", "").rstrip("/") or XET_ENDPOINT

    @property
    def offline(self) -> bool:
        """Whether HF_HUB_OFFLINE forbids requests."""
        from huggingface_hub import constants  # noqa: PLC0415 - 0.1 s that only the Hub's users pay

        return bool(constants.HF_HUB_OFFLINE)

    @cached_property
    def _api(self) -> HfApi:
        from huggingface_hub import HfApi  # noqa: PLC0415

        hush()
        return HfApi(endpoint=self.endpoint, token=self._token, library_name="adapter-hub")

    def _ask(self, operation: Callable[[], Result], what: str, size: int = 0) -> Result:
        if self.offline:
            raise UnreachableError(f"{what}: HF_HUB_OFFLINE is set, and this needs a request; unset it")
        return self.patience.persist(operation, what, self.endpoint, size=size)

    def refs(self, repo: RepoId) -> Refs:
        """Return the branches and tags of a repository.

        Raises:
            NotFoundError: no such repository, or it is private. AccessError, UnreachableError.
        """
        found = self._ask(
            lambda: self._api.list_repo_refs(repo.id, repo_type=repo.kind), f"the refs of {repo}"
        )
        return Refs(
            {ref.name: check_commit(ref.target_commit) for ref in found.branches},
            {ref.name: check_commit(ref.target_commit) for ref in found.tags},
        )

    def state(self, repo: RepoId, revision: str = "main") -> RepoState:
        """Return what the Hub says of a repository.

        Raises:
            NotFoundError: no such repository or revision, or it is private. AccessError, UnreachableError.
        """
        check_revision(revision)
        info = self._ask(
            lambda: self._api.repo_info(repo.id, repo_type=repo.kind, revision=revision), f"{repo}@{revision}"
        )
        return state_of(info)

    def tree(self, repo: RepoId, commit: str) -> dict[str, RemoteFile]:
        """Return every file of a commit by its path.

        Raises:
            NotFoundError: no such repository or commit. IntegrityError: a path that leads outside.
            AccessError, UnreachableError.
        """
        from huggingface_hub.hf_api import RepoFile  # noqa: PLC0415

        check_commit(commit)
        rows = self._ask(
            lambda: list(
                self._api.list_repo_tree(repo.id, repo_type=repo.kind, revision=commit, recursive=True)
            ),
            f"the files of {repo}@{commit[:12]}",
        )
        return {
            check_path(row.path): RemoteFile(
                row.path, row.size, row.lfs.sha256 if row.lfs else None, row.blob_id
            )
            for row in rows
            if isinstance(row, RepoFile)
        }

    def read(self, repo: RepoId, commit: str, path: str, *, limit: int) -> bytes:
        """Return the content of a small file in a commit.

        Args:
            repo: the repository.
            commit: 40 hexadecimal digits.
            path: in the repository.
            limit: bytes; a larger file is refused.

        Raises:
            NotFoundError: no such file. IntegrityError: larger. AccessError, UnreachableError.
        """
        with scratch_folder() as scratch:
            self.download(repo, commit, {path: None}, Path(scratch), limit=limit)
            file = Path(scratch, path)
            if file.stat().st_size > limit:
                raise IntegrityError(f"{repo}@{commit[:12]} {path}: larger than {limit} bytes")
            return file.read_bytes()

    def download(
        self,
        repo: RepoId,
        commit: str,
        wanted: Mapping[str, Wanted | None],
        folder: Path,
        progress: Progress | None = None,
        limit: int | None = None,
    ) -> None:
        """Bring files of a commit into a folder; what is there already and right is not asked for again.

        Args:
            repo: the repository.
            commit: 40 hexadecimal digits.
            wanted: by path, what each file has to be; None takes what comes.
            folder: made if missing; it keeps finished files if this fails.
            progress: called with the number of bytes that arrived.
            limit: bytes of a file of which nothing is expected; a larger one is refused.

        Raises:
            NotFoundError: a file is not there. IntegrityError: other bytes came, every time.
            AccessError, UnreachableError. OSError: the disk is full or not writable.
        """
        check_commit(commit)
        if self.offline:
            raise UnreachableError(
                f"{repo}: HF_HUB_OFFLINE is set, and this is not in the cache; unset it once"
            )
        download_files(self._api, self.patience, (repo, commit), wanted, folder, progress, limit)

    def snapshot(self, repo: RepoId, revision: str, commit: str, files: Sequence[RemoteFile]) -> Path:
        """Bring files of a commit into the client's own cache, which other programs share.

        A file that is not what the Hub says it has is asked for once more.

        Args:
            repo: the repository.
            revision: branch or tag, under which it is found in the cache later; or the commit.
            commit: that the revision names.
            files: of its tree.

        Returns:
            The folder of the commit in that cache.

        Raises:
            IntegrityError: a file is not that. NotFoundError, AccessError, UnreachableError.
        """
        paths, size = [file.path for file in files], sum(file.size for file in files)
        force = False
        for _ in range(2):

            def bring(force: bool = force) -> str:
                return self._api.snapshot_download(
                    repo.id,
                    repo_type=repo.kind,
                    revision=revision,
                    allow_patterns=paths,
                    force_download=force,
                )

            folder = Path(self._ask(bring, f"{repo}@{commit[:12]}", size))
            if folder.name != commit:
                raise UnreachableError(f"{repo}: {revision} was moved to {folder.name} meanwhile; try again")
            wrong = [file.path for file in files if not file.holds(folder / file.path)]
            if not wrong:
                return folder
            force = True
        raise IntegrityError(f"{repo}@{commit[:12]} on {self.endpoint}", [f"{p}: other bytes" for p in wrong])

    def search(
        self,
        filters: Sequence[str] = (),
        author: str | None = None,
        text: str | None = None,
        limit: int | None = None,
    ) -> list[RepoState]:
        """Return the model repositories that carry all the tags, most downloaded first.

        Raises:
            UnreachableError.
        """
        rows = self._ask(
            lambda: list(
                self._api.list_models(
                    filter=list(filters) or None,
                    author=author,
                    search=text,
                    limit=limit,
                    sort="downloads",
                    cardData=True,
                    full=True,
                )
            ),
            "the Hub's list of models",
        )
        return [state_of(row) for row in rows]
