"""What is on the Hub and how it is named: repositories, revisions, files.

>>> str(RepoId.parse("hf://datasets/alice/registry"))
'hf://datasets/alice/registry'
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Self

from adapter_hub.errors import IntegrityError, InvalidInputError
from adapter_hub.files.reading import file_sha256, open_regular
from adapter_hub.formats.canonical import sha256_hex
from adapter_hub.formats.reference import HUB, is_hub, is_repository_id

MOST_TEXTS, LONGEST_TEXT = 200, 200  # of tags, languages, base models: how many, how many characters
MAXIMUM_REPO = 96  # characters, as the Hub allows
_COMMIT = re.compile(r"[0-9a-f]{40}")
_REVISION = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_./-]*[A-Za-z0-9_-])?")


def check_commit(commit: str) -> str:
    """Return `commit` if it is the full id of one.

    Raises:
        InvalidInputError: it is not; the client would take it for the name of a file to write.
    """
    if not _COMMIT.fullmatch(commit):
        raise InvalidInputError(f"commit {commit[:60]!r}: expected 40 hexadecimal digits")
    return commit


def check_pin(repo: str, revision: str) -> str:
    """Return the commit that a data set is read at.

    Args:
        repo: `namespace/name`, for the message.
        revision: as the user gave it.

    Raises:
        InvalidInputError: a branch or tag, whose content changes; the message says how to get the commit.
    """
    try:
        return check_commit(revision)
    except InvalidInputError:
        raise InvalidInputError(
            f"revision {revision[:60]!r} of {repo}: expected a commit's 40 hexadecimal digits, so that it "
            f"stays the same; `git ls-remote https://huggingface.co/datasets/{repo}` prints those of main "
            "and refs/convert/parquet"
        ) from None


def check_revision(revision: str) -> str:
    """Return the name of a branch or tag, or a commit, if it is safe to pass on.

    Raises:
        InvalidInputError: the client checks no revision and writes files that are named like it.
    """
    unsafe = ".." in revision or "//" in revision or "/." in revision or revision.endswith(".lock")
    if len(revision) > 200 or unsafe or not _REVISION.fullmatch(revision):
        raise InvalidInputError(
            f"revision {revision[:60]!r}: expected a branch, a tag or a commit's 40 digits"
        )
    return revision


def check_path(path: str) -> str:
    """Return the path of a file in a repository if it stays inside the folder that it is downloaded to.

    Raises:
        IntegrityError: a Hub could let the client write elsewhere, which does not look.
    """
    parts = path.split("/")
    outside = any(part in ("", ".", "..") or len(part.encode("utf-8", "replace")) > 255 for part in parts)
    if outside or "\\" in path or not path.isprintable() or len(path) > 1000:
        raise IntegrityError(f"a file called {path[:120]!r} on the Hub: not a path inside a repository")
    return path


@dataclass(frozen=True)
class RepoId:
    """A repository on the Hub.

    Attributes:
        id: `namespace/name`.
        kind: `model` or `dataset`.
    """

    id: str
    kind: Literal["model", "dataset"] = "model"

    def __post_init__(self) -> None:
        if len(self.id) > MAXIMUM_REPO or not is_repository_id(self.id):
            raise InvalidInputError(
                f"repository {self.id[:120]!r}: expected namespace/name, like openai/whisper-small"
            )

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `hf://namespace/name` or `hf://datasets/namespace/name`.

        Raises:
            InvalidInputError: something else.
        """
        rest = text.removeprefix(HUB).rstrip("/")
        if not is_hub(text):
            raise InvalidInputError(f"{text!r}: expected hf://namespace/name or hf://datasets/namespace/name")
        if rest.startswith("datasets/"):
            return cls(rest.removeprefix("datasets/"), "dataset")
        return cls(rest.removeprefix("models/"))

    @property
    def namespace(self) -> str:
        """The user or the organisation."""
        return self.id.partition("/")[0]

    def __str__(self) -> str:
        return f"{HUB}{'datasets/' if self.kind == 'dataset' else ''}{self.id}"


@dataclass(frozen=True)
class Refs:
    """The branches and tags of a repository, with the commits that they name."""

    branches: Mapping[str, str]
    tags: Mapping[str, str]


@dataclass(frozen=True)
class RepoState:
    """What the Hub says of a repository.

    Attributes:
        id: its name now, which is another one after a move.
        identity: what changes when a repository is deleted and created again under the same name.
        commit: that the asked revision names.
        private: only for those with access.
        gated: False, or how access is granted.
        tags: the Hub's own, by which repositories are found.
        card: the card's metadata.
        downloads: in the last month.
        updated: RFC 3339.
    """

    id: str
    identity: str
    commit: str
    private: bool = False
    gated: bool | str = False
    tags: tuple[str, ...] = ()
    card: Mapping[str, Any] = field(default_factory=dict)
    downloads: int = 0
    updated: str = ""

    def card_texts(self, key: str) -> tuple[str, ...]:
        """Return the texts that the card has under `key`: one, several in a list, or none."""
        return texts_of(self.card.get(key))

    @property
    def languages(self) -> tuple[str, ...]:
        """The languages that the card names, each by the longest tag: not `da` beside `da-DK`."""
        tags = self.card_texts("language_bcp47")
        covered = {tag.replace("_", "-").partition("-")[0].lower() for tag in tags}
        return (*tags, *(code for code in self.card_texts("language") if code not in covered))


def text_of(value: Any) -> str:
    """Return a text of an answer, cut; nothing if it is none."""
    return value[:LONGEST_TEXT] if isinstance(value, str) else ""


def texts_of(value: Any) -> tuple[str, ...]:
    """Return the texts of a list, or the one text; everything else in it is left out."""
    items = value if isinstance(value, list) else [value]
    return tuple(text for item in items[:MOST_TEXTS] if (text := text_of(item)))


@dataclass(frozen=True)
class ExpectedFile:
    """What a file has to be.

    Attributes:
        size: in bytes.
        sha256: of the content as 64 hexadecimal digits; None where only git's hash is known.
        git_oid: git's id of the content, where there is no sha256.
    """

    size: int
    sha256: str | None
    git_oid: str | None = None

    def is_at(self, path: Path) -> bool:
        """Tell whether `path` is that file."""
        return path.is_file() and not path.is_symlink() and self.holds(path)

    def holds(self, content: bytes | Path) -> bool:
        """Tell whether this content is what is expected."""
        size = len(content) if isinstance(content, bytes) else content.stat().st_size
        if size != self.size:
            return False
        if self.sha256 is not None:
            return sha256_of(content) == self.sha256
        return self.git_oid is not None and git_oid_of(content) == self.git_oid


@dataclass(frozen=True)
class RemoteFile:
    """A file in a commit.

    Attributes:
        path: in the repository.
        size: in bytes.
        sha256: of the content as 64 hexadecimal digits, for a file in large-file storage; None for others.
        git_oid: git's id of the content, or of the pointer to it.
    """

    path: str
    size: int
    sha256: str | None
    git_oid: str

    @property
    def expected(self) -> ExpectedFile:
        """What a download of it has to be, by the hash that the Hub keeps."""
        return ExpectedFile(self.size, self.sha256, None if self.sha256 else self.git_oid)

    def holds(self, content: bytes | Path) -> bool:
        """Tell whether the Hub says that it holds this content, by the hash that it keeps."""
        return self.expected.holds(content)


def git_oid_of(content: bytes | Path) -> str:
    """Return git's id of bytes or of a file's content."""
    size = len(content) if isinstance(content, bytes) else content.stat().st_size
    digest = hashlib.sha1(f"blob {size}\0".encode(), usedforsecurity=False)
    if isinstance(content, bytes):
        digest.update(content)
    else:
        with open_regular(content) as file:
            while block := file.read(2**20):
                digest.update(block)
    return digest.hexdigest()


def sha256_of(content: bytes | Path) -> str:
    """Return the sha256 of bytes or of a file's content as 64 hexadecimal digits."""
    return sha256_hex(content) if isinstance(content, bytes) else file_sha256(content)
