"""A commit as the client sends it, one JSON value a line, and what it makes of the files."""

from __future__ import annotations

import base64
import json
import re
from typing import Any

from loopback_hub.answers import HubError, entry_not_found
from loopback_hub.model_card import errors_in
from loopback_hub.repository import Commit, File, Repository


def commit(repo: Repository, branch: str, body: bytes, author: str) -> Commit:
    """Compare and swap: refuse if the branch is not where the client thinks, else move it on."""
    try:
        lines = [json.loads(line) for line in body.splitlines() if line.strip()]
        header = next(line["value"] for line in lines if line["key"] == "header")
        operations = [(line["key"], line["value"]) for line in lines if line["key"] != "header"]
    except (ValueError, KeyError, TypeError, StopIteration):
        raise HubError(400, "The commit is not a list of JSON lines with a header") from None
    with repo.lock:
        refs = repo.refs()
        if branch not in refs.branches:
            raise HubError(404, f"Invalid rev id: {branch}", "RevisionNotFound")
        head = repo.commit(refs.branches[branch])
        check_parent(header.get("parentCommit"), head.oid)
        files = dict(head.files)
        for kind, value in operations:
            apply(repo, head, files, kind, value)
        check_paths(files)
        message = "\n\n".join(part for part in (header.get("summary"), header.get("description")) if part)
        made = repo.store(files, (head.oid,), message, author)
        repo.point("branches", branch, made.oid)
        return made


def check_parent(parent: str | None, head: str) -> None:
    if parent is None:
        return
    if re.fullmatch("[A-Fa-f0-9]{5,40}", parent) is None:
        raise HubError(400, f'"parentCommit" is not a commit: {parent}')
    if not head.startswith(parent.lower()):
        raise HubError(412, "A commit has happened since. Please refresh and try again.")


def apply(repo: Repository, head: Commit, files: dict[str, File], kind: str, value: dict[str, Any]) -> None:
    """Carry out one line of the commit."""
    path = value.get("path", "")
    if kind == "file":
        files[path] = regular_file(repo, path, value)
    elif kind == "lfsFile":
        files[path] = repo.lfs_file(value["oid"])  # a copy comes without a size
        if value.get("size", files[path].size) != files[path].size:
            raise HubError(400, f"{path}: the object {value['oid']} has another size")
    elif kind == "deletedFile":
        if files.pop(path, None) is None:
            raise HubError(404, f"A file with this name doesn't exist: {path}", "EntryNotFound")
    elif kind == "deletedFolder":
        inside = [name for name in files if name.startswith(path.rstrip("/") + "/")]
        if not inside:
            raise entry_not_found(path, head.oid)
        for name in inside:
            del files[name]
    else:
        raise HubError(400, f"Unknown key in the commit: {kind}")


def regular_file(repo: Repository, path: str, value: dict[str, Any]) -> File:
    content = value["content"].encode()
    if value.get("encoding") == "base64":
        content = base64.b64decode(content)
    if path == "README.md" and (wrong := errors_in(content.decode("utf-8", "replace"))):
        raise HubError(400, f"Invalid metadata in README.md: {'; '.join(wrong)}")
    return repo.keep(content)


def check_paths(files: dict[str, File]) -> None:
    for path in files:
        parts = path.split("/")
        if any(part in ("", ".", "..", ".git") for part in parts):
            raise HubError(400, f"Invalid path in the commit: {path!r}")
        for length in range(1, len(parts)):
            if "/".join(parts[:length]) in files:
                raise HubError(400, f"{path} lies below a file")


def squash(repo: Repository, branch: str, message: str, author: str) -> Commit:
    """Replace a branch's history by one commit with the same files."""
    with repo.lock:
        head = repo.resolve(branch)
        made = repo.store(dict(head.files), (), message, author)
        repo.point("branches", branch, made.oid)
        return made


def drop_objects(repo: Repository, digests: list[str], rewrite_history: bool) -> None:
    """Delete LFS objects for ever; with `rewrite_history` their entries too, so that all commits change."""
    with repo.lock:
        for sha256 in digests:
            repo.lfs_path(sha256).unlink(missing_ok=True)
        if not rewrite_history:
            return
        made: dict[str, str] = {}
        gone = set(digests)
        for what, pointers in (("branches", repo.refs().branches), ("tags", repo.refs().tags)):
            for name, tip in pointers.items():
                for old in reversed(list(repo.history(tip))):
                    if old.oid in made:
                        continue
                    files = {path: file for path, file in old.files.items() if file.sha256 not in gone}
                    parents = tuple(made[parent] for parent in old.parents)
                    unchanged = files == old.files and parents == old.parents
                    made[old.oid] = (
                        old.oid if unchanged else repo.store(files, parents, old.message, old.author).oid
                    )
                if made[tip] != tip:
                    repo.point(what, name, made[tip])
        repo.forget_commits({old for old, new in made.items() if old != new})
