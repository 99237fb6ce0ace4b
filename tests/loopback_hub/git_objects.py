"""Names of contents as git gives them: blobs, LFS pointers, trees and commits, 40 hex digits each."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence


def object_name(kind: str, content: bytes) -> str:
    return hashlib.sha1(f"{kind} {len(content)}\0".encode() + content, usedforsecurity=False).hexdigest()


def blob_name(content: bytes) -> str:
    return object_name("blob", content)


def pointer(sha256: str, size: int) -> bytes:
    """Return what git keeps in place of a file whose content is in LFS."""
    return f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size}\n".encode()


def tree_name(blobs: Mapping[str, str]) -> str:
    """Return the name of the tree that holds these blobs (path -> name)."""
    entries: dict[str, tuple[bytes, str]] = {}
    folders: dict[str, dict[str, str]] = {}
    for path, name in blobs.items():
        head, slash, rest = path.partition("/")
        if slash:
            folders.setdefault(head, {})[rest] = name
        else:
            entries[head] = (b"100644", name)
    for head, inside in folders.items():
        entries[head] = (b"40000", tree_name(inside))
    # git sorts a folder as if its name ended in a slash
    order = sorted(entries, key=lambda entry: entry.encode() + (b"/" if entry in folders else b""))
    rows = (
        entries[head][0] + b" " + head.encode() + b"\0" + bytes.fromhex(entries[head][1]) for head in order
    )
    return object_name("tree", b"".join(rows))


def commit_name(tree: str, parents: Sequence[str], author: str, date: str, message: str) -> str:
    lines = [f"tree {tree}", *(f"parent {parent}" for parent in parents), f"author {author} {date}"]
    return object_name("commit", "\n".join([*lines, "", message]).encode())
