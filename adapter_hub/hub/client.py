"""The requests that this library makes of a Hub: each with limits, retries, and one-line errors."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote, urljoin, urlsplit

from adapter_hub.errors import (
    ConflictError,
    IntegrityError,
    InvalidInputError,
    NotFoundError,
    StaleParentError,
    UnreachableError,
    few,
)
from adapter_hub.escaping import shown
from adapter_hub.files.beneath import write_below
from adapter_hub.hub.asked import Answers
from adapter_hub.hub.committing import XET_ENDPOINT, write_commit
from adapter_hub.hub.download import Source, download_files, scratch_folder
from adapter_hub.hub.names import (
    ExpectedFile,
    Refs,
    RemoteFile,
    RepoId,
    RepoState,
    check_commit,
    check_path,
    check_revision,
)
from adapter_hub.hub.responses import complaints_of, file_of, json_of, refs_of, rows_of, state_of
from adapter_hub.hub.retry import SLOWEST, RetryPolicy
from adapter_hub.hub.session import Limits, check_address, limited, origin_of, public, quiet_client
from adapter_hub.packages import package_versions
from adapter_hub.reporting import ReceivedBytes

if TYPE_CHECKING:
    from huggingface_hub import HfApi

Result = TypeVar("Result")
LIBRARY = "adapter-hub"  # as requests name it, with its version
MOST_ANSWER = 8 * 2**20  # bytes of one answer, unpacked; a page of a list has about 0.3 MB
MOST_ROWS = 100_000  # of a list: files of a commit, repositories
MOST_PAGES = 2_000
LIST_TIMES = 5  # how many requests' time all pages of a list may take


def _version() -> str:
    return package_versions((LIBRARY,)).get(LIBRARY, "checkout")


class HubClient:
    """A Hub, as its user sees it. Nothing is requested before a method is called.

    Attributes:
        retries: limits of time.
    """

    def __init__(
        self, endpoint: str | None = None, token: str | None = None, retries: RetryPolicy | None = None
    ) -> None:
        """Name a Hub.

        Args:
            endpoint: its address; HF_ENDPOINT or huggingface.co by default.
            token: of the user; by default the one that `hf auth login` stored, or HF_TOKEN.
            retries: limits of time; by default from the environment.
        """
        self._endpoint, self._token = endpoint, token
        self.retries = retries or RetryPolicy.from_environment()
        self._answers: Answers | None = None  # within one operation

    @contextmanager
    def asking_once(self) -> Iterator[None]:
        """Answer from memory what was asked before inside this block; blocks may be nested."""
        before = self._answers
        self._answers = before or Answers()
        try:
            yield
        finally:
            self._answers = before

    def ask_once(self) -> None:
        """Answer from memory what was asked before, from now on."""
        self._answers = self._answers or Answers()

    def forget(self, repo: RepoId | None = None) -> None:
        """Ask again where the branches and tags of a repository are, which others may have moved.

        Args:
            repo: the repository; None for all.
        """
        if self._answers is None:
            return
        if repo is None:
            self._answers.refs.clear()
        else:
            self._answers.refs.pop(repo, None)

    @cached_property
    def address(self) -> str:
        """The address as requests need it: with a user and a password, if there are any.

        Raises:
            InvalidInputError: HF_ENDPOINT is not an address.
        """
        return check_address(self._endpoint or os.environ.get("HF_ENDPOINT") or XET_ENDPOINT)

    @cached_property
    def endpoint(self) -> str:
        """The address as it is shown and remembered, without user, password and slash at the end."""
        return public(self.address)

    @property
    def offline(self) -> bool:
        """Whether HF_HUB_OFFLINE forbids requests."""
        from huggingface_hub import constants  # noqa: PLC0415 - 0.1 s that only the Hub's users pay

        return bool(constants.HF_HUB_OFFLINE)

    @cached_property
    def _api(self) -> HfApi:
        from huggingface_hub import HfApi  # noqa: PLC0415

        quiet_client()
        return HfApi(
            endpoint=self.address, token=self._token, library_name=LIBRARY, library_version=_version()
        )

    def _headers(self) -> dict[str, str]:
        from huggingface_hub.utils._headers import build_hf_headers  # noqa: PLC0415

        return build_hf_headers(token=self._token, library_name=LIBRARY, library_version=_version())

    def _ask(self, operation: Callable[[], Result], what: str, size: int = 0) -> Result:
        if self.offline:
            raise UnreachableError(f"{what}: HF_HUB_OFFLINE is set, and this needs a request; unset it")

        def within_limits() -> Result:
            seconds = self.retries.request + size / SLOWEST
            with limited(Limits(self.address, what, MOST_ANSWER, seconds)):
                return operation()

        quiet_client()
        return self.retries.run(within_limits, what, self.endpoint, size=size)

    def _get(
        self,
        path: str,
        what: str,
        read: Callable[[Any], Result],
        query: Mapping[str, Any] | None = None,
    ) -> tuple[Result, str | None]:
        """Return what `read` makes of an answer's JSON, and path and query of its next page, if any."""

        def get() -> tuple[Result, str | None]:
            from huggingface_hub.utils._http import get_session, hf_raise_for_status  # noqa: PLC0415

            url = self.address + path
            response = get_session().get(
                url, params=query, headers=self._headers(), timeout=self.retries.request
            )
            hf_raise_for_status(response)
            following = response.links.get("next", {}).get("url")
            found = read(json_of(response))
            return found, None if following is None else self._page_of(following, url, what)

        return self._ask(get, what)

    def _page_of(self, url: str, asked: str, what: str) -> str:
        """Return path and query of a list's next page, which has to be on the same Hub.

        A mirror may pass on what huggingface.co calls it.
        """
        absolute = urljoin(asked, url)
        own = origin_of(self.address)
        if origin_of(absolute) not in (own, origin_of(XET_ENDPOINT)):
            raise IntegrityError(
                f"{what}: {self.endpoint} says that the list continues at {shown(public(absolute), 100)}, "
                "where your token is not sent; tell its owner"
            )
        parts = urlsplit(absolute)
        path = parts.path.removeprefix(urlsplit(self.address).path)
        return f"{path}?{parts.query}" if parts.query else path

    def _rows(self, path: str, what: str, query: Mapping[str, Any]) -> Iterator[Any]:
        """Yield the rows of a list, page by page.

        Raises:
            IntegrityError: it has no end. UnreachableError: it takes too long.
        """
        until = time.monotonic() + LIST_TIMES * self.retries.request
        following: str | None = path
        rows = pages = 0
        while following is not None:
            if pages == MOST_PAGES:
                raise IntegrityError(
                    f"{what}: more than {MOST_PAGES} pages from {self.endpoint}; tell its owner"
                )
            if time.monotonic() > until:
                raise UnreachableError(f"{what}: {self.endpoint} took too long for {pages} pages")
            page, following = self._get(following, what, rows_of, query if pages == 0 else None)
            pages += 1
            for row in page:
                rows += 1
                if rows > MOST_ROWS:
                    raise IntegrityError(
                        f"{what}: more than {MOST_ROWS} rows from {self.endpoint}; tell its owner"
                    )
                yield row

    def _api_path(self, repo: RepoId, rest: str) -> str:
        return f"/api/{repo.kind}s/{repo.id}/{rest}"

    def refs(self, repo: RepoId) -> Refs:
        """Return the branches and tags of a repository.

        Args:
            repo: the repository.

        Raises:
            NotFoundError: no such repository, or it is private. AccessError, UnreachableError.
        """
        if self._answers is not None and repo in self._answers.refs:
            return self._answers.refs[repo]
        what = f"the refs of {repo}"
        refs, _ = self._get(self._api_path(repo, "refs"), what, lambda value: refs_of(value, what))
        if self._answers is not None:
            self._answers.refs[repo] = refs
        return refs

    def state(self, repo: RepoId, revision: str = "main") -> RepoState:
        """Return what the Hub says of a repository.

        Args:
            repo: the repository.
            revision: a branch, tag or commit.

        Raises:
            NotFoundError: no such repository or revision, or it is private. AccessError, UnreachableError.
            IntegrityError: the revision names no commit.
        """
        check_revision(revision)
        what = f"{repo}@{revision}"
        path = self._api_path(repo, f"revision/{quote(revision, safe='')}")
        state, _ = self._get(path, what, state_of)
        if not state.commit:
            raise IntegrityError(f"{what}: {self.endpoint} names no commit for it; tell its owner")
        return state

    def tree(self, repo: RepoId, commit: str) -> dict[str, RemoteFile]:
        """Return every file of a commit by its path.

        Args:
            repo: the repository.
            commit: 40 hexadecimal digits.

        Raises:
            NotFoundError: no such repository or commit. IntegrityError: a path that leads outside, an
                impossible size, or no end. AccessError, UnreachableError.
        """
        check_commit(commit)
        if self._answers is not None and (repo, commit) in self._answers.trees:
            return self._answers.trees[repo, commit]
        what = f"the files of {repo}@{commit[:12]}"
        path = self._api_path(repo, f"tree/{commit}")
        files: dict[str, RemoteFile] = {}
        for row in self._rows(path, what, {"recursive": "true", "expand": "false"}):
            file = file_of(row, what)
            if file is not None and files.setdefault(file.path, file) != file:
                raise IntegrityError(f"{what}: {shown(file.path, 120)} is listed twice; tell its owner")
        if self._answers is not None:
            self._answers.trees[repo, commit] = files
        return files

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
            return file.read_bytes()

    def download(
        self,
        repo: RepoId,
        commit: str,
        expected: Mapping[str, ExpectedFile | None],
        folder: Path,
        progress: ReceivedBytes | None = None,
        limit: int | None = None,
    ) -> None:
        """Download files of a commit into a folder; a file that is there and right is not requested again.

        Args:
            repo: the repository.
            commit: 40 hexadecimal digits.
            expected: by path, what each file has to be; None takes what comes.
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
        quiet_client()
        known = self._answers.known(repo, commit, expected) if self._answers is not None else {}
        for path, data in known.items():
            write_below(folder, check_path(path), data)
        source = Source(self.address, repo, commit, self._headers, self.retries)
        rest = {path: item for path, item in expected.items() if path not in known}
        download_files(source, rest, folder, progress, limit)
        if self._answers is not None:
            self._answers.keep(repo, {path: folder / path for path, item in rest.items() if item is None})

    def search(
        self,
        filters: Sequence[str] = (),
        author: str | None = None,
        text: str | None = None,
        limit: int | None = None,
    ) -> list[RepoState]:
        """Return the model repositories that carry all the tags, most downloaded first.

        Args:
            filters: tags that a repository has to have, all of them.
            author: a namespace; None for all.
            text: part of the name; None for all.
            limit: most results; None for all.

        Raises:
            UnreachableError.
        """
        query: dict[str, Any] = {"filter": list(filters), "author": author, "search": text, "limit": limit}
        query |= {"sort": "downloads", "full": "true", "cardData": "true"}
        asked = {key: value for key, value in query.items() if value}
        rows = self._rows("/api/models", "the Hub's list of models", asked)
        return [state_of(row) for row in islice(rows, limit)]

    # writing

    def check_card(self, repo: RepoId, card: str) -> None:
        """Ask whether the Hub takes a card, before a repository or branch is made for it.

        Args:
            repo: that it is for.
            card: a README.md with front matter.

        Raises:
            InvalidInputError: it does not, with its reasons. UnreachableError.
        """
        what = f"the card of {repo}"

        def ask() -> list[str]:
            from huggingface_hub.utils._http import get_session, hf_raise_for_status  # noqa: PLC0415

            response = get_session().post(
                f"{self.address}/api/validate-yaml",
                json={"repoType": repo.kind, "content": card},
                headers=self._headers(),
                timeout=self.retries.request,
            )
            if response.status_code == 404:  # a mirror without this call
                return []
            if response.status_code != 400:
                hf_raise_for_status(response)
            return complaints_of(response.json())

        if complaints := self._ask(ask, what):
            raise InvalidInputError(
                f"{what}: {self.endpoint} refuses it ({few(complaints)}); nothing was written "
                "there: make the adapter again with what the Hub takes"
            )

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

        Args:
            repo: the repository.
            additions: by path, the content or a file that holds it.
            deletions: paths that are there.
            message: of the commit.
            parent: 40 hexadecimal digits of the commit to build on.
            branch: that the commit goes to.

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
            head = check_commit(self._ask(write, f"a commit to {repo}", size))
        except (StaleParentError, UnreachableError) as error:
            self.forget(repo)
            if attempts < 2 and isinstance(error, StaleParentError):
                raise
            found = self._head_with(repo, branch, additions, deletions)
            if found is None or found == parent:
                raise
            return found
        if self._answers is not None:
            self._answers.moved(repo, branch, head)
            self._answers.keep(repo, additions)
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

        Args:
            repo: the repository.
            private: whether only its owner sees it; None leaves it to the Hub.

        Raises:
            AccessError: not this user's namespace, or a read-only token. UnreachableError.
        """
        self.forget(repo)
        self._ask(
            lambda: self._api.create_repo(repo.id, repo_type=repo.kind, private=private, exist_ok=True),
            f"making {repo}",
        )

    def create_tag(self, repo: RepoId, tag: str, commit: str) -> None:
        """Name a commit, for ever as far as this library goes.

        Args:
            repo: the repository.
            tag: its name, like `v1.0.0`.
            commit: 40 hexadecimal digits.

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
            self.forget(repo)
            if self.refs(repo).tags.get(tag) != commit:
                raise
        else:  # the client takes an answer for success without looking
            self.forget(repo)
            if (found := self.refs(repo).tags.get(tag)) != commit:
                raise ConflictError(f"tag {tag} of {repo}: names {found or 'nothing'}, expected {commit}")

    def delete_tag(self, repo: RepoId, tag: str) -> None:
        """Remove a tag if it is there; the commit stays.

        Args:
            repo: the repository.
            tag: its name.

        Raises:
            AccessError, UnreachableError.
        """
        self.forget(repo)
        try:
            self._ask(
                lambda: self._api.delete_tag(repo.id, tag=check_revision(tag), repo_type=repo.kind),
                f"tag {tag} of {repo}",
            )
        except NotFoundError:
            return

    def create_branch(self, repo: RepoId, branch: str, commit: str) -> None:
        """Start a branch at a commit, unless there is one of that name.

        Args:
            repo: the repository.
            branch: its name.
            commit: 40 hexadecimal digits.
        """
        self.forget(repo)
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
        """Remove a branch if it is there; commits with a tag stay.

        Args:
            repo: the repository.
            branch: its name.
        """
        self.forget(repo)
        try:
            self._ask(
                lambda: self._api.delete_branch(repo.id, branch=check_revision(branch), repo_type=repo.kind),
                f"branch {branch} of {repo}",
            )
        except NotFoundError:
            return

    def delete_contents(self, repo: RepoId, sha256s: Sequence[str]) -> None:
        """Remove the bytes of files in large-file storage for good; the commits that list them stay.

        Args:
            repo: the repository.
            sha256s: of the contents, as 64 hexadecimal digits.

        Raises:
            AccessError, NotFoundError, UnreachableError.
        """

        def delete() -> None:
            listed = self._api.list_lfs_files(repo.id, repo_type=repo.kind)
            found = [item for item in listed if item.oid in sha256s]
            self._api.permanently_delete_lfs_files(repo.id, found, rewrite_history=False, repo_type=repo.kind)

        self._ask(delete, f"removing files of {repo}")
