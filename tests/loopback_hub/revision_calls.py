"""Calls on branches, tags, commits and the files that they list."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import parse_qs

from loopback_hub import committing, xet
from loopback_hub.answers import Answer, HubError, entry_not_found, revision_not_found
from loopback_hub.call import Call
from loopback_hub.git_objects import tree_name
from loopback_hub.listing import lfs_of
from loopback_hub.repository import Commit, Repository

ALWAYS_LFS = re.compile(r"\.(safetensors|bin|flac|parquet)$")
LARGEST_REGULAR = 1_000_000
REF_NAME = re.compile(
    r"(?!.*(\.\.|//|@\{|\.lock(/|$)|/\.))[^\x00-\x20~^:?*\[\\\x7f./-][^\x00-\x20~^:?*\[\\\x7f]*(?<![./])"
)


def refs(call: Call) -> Answer:
    known = call.refs(call.seen())
    answer: dict[str, Any] = {"converts": []}
    for key, kind, pointers in (("branches", "heads", known.branches), ("tags", "tags", known.tags)):
        answer[key] = [
            {"name": name, "ref": f"refs/{kind}/{name}", "targetCommit": commit}
            for name, commit in sorted(pointers.items())
        ]
    if call.query.get("include_prs"):
        answer["pullRequests"] = []
    return Answer.json(answer)


def create_tag(call: Call) -> Answer:
    repo, _ = call.writable()
    return add_ref(call, repo, "tags", str(call.json().get("tag")), repo.resolve(call.part("revision")).oid)


def create_branch(call: Call) -> Answer:
    repo, _ = call.writable()
    start = repo.resolve(call.json().get("startingPoint") or "main").oid
    return add_ref(call, repo, "branches", call.part("revision"), start)


def add_ref(call: Call, repo: Repository, what: str, name: str, commit: str) -> Answer:
    if REF_NAME.fullmatch(name) is None:
        raise HubError(400, f"Invalid name of a reference: {name!r}")
    with repo.lock:
        if name in repo.meta[what]:
            kind = "Tag" if what == "tags" else "Branch"
            raise HubError(409, f"{kind} {name} already exists")
        repo.point(what, name, commit)
    return Answer.json({"name": name, "targetCommit": commit})


def delete_tag(call: Call) -> Answer:
    return remove_ref(call, "tags")


def delete_branch(call: Call) -> Answer:
    if call.part("revision") == "main":
        raise HubError(403, "The branch main cannot be deleted")
    return remove_ref(call, "branches")


def remove_ref(call: Call, what: str) -> Answer:
    repo, _ = call.writable()
    name = call.part("revision")
    with repo.lock:
        if name not in repo.meta[what]:
            raise revision_not_found(name)
        repo.point(what, name, None)
    return Answer.json({})


# --- listings


def tree(call: Call) -> Answer:
    repo = call.seen()
    commit = call.commit(repo)
    folder = call.part("path").strip("/")
    rows = items_below(repo, commit, folder, call.asked("recursive"), call.asked("expand"))
    if folder and not rows:
        raise entry_not_found(folder, commit.oid)
    return call.page(xet.mark(call.world.xet, rows))


def items_below(
    repo: Repository, commit: Commit, folder: str, recursive: bool, expand: bool
) -> list[dict[str, Any]]:
    head = f"{folder}/" if folder else ""
    paths = set()
    for path in commit.files:
        if path.startswith(head):
            parts = path.removeprefix(head).split("/")
            paths |= {
                head + "/".join(parts[: length + 1]) for length in range(len(parts) if recursive else 1)
            }
    return [item(repo, commit, path, expand) for path in sorted(paths)]


def item(repo: Repository, commit: Commit, path: str, expand: bool) -> dict[str, Any]:
    """Describe a file or a folder of a commit."""
    if path in commit.files:
        file = commit.files[path]
        row = {"type": "file", "oid": file.oid, "size": file.size, "path": path, **lfs_of(file, "oid")}
    else:
        row = {"type": "directory", "oid": content_of(commit, path), "size": 0, "path": path}
    if expand:
        last = commit
        for older in repo.history(commit.oid):
            if content_of(older, path) != content_of(commit, path):
                break
            last = older
        row["lastCommit"] = {"id": last.oid, "title": last.title, "date": last.date}
    return row


def content_of(commit: Commit, path: str) -> str | None:
    """Return git's name of what lies there."""
    if path in commit.files:
        return commit.files[path].oid
    head = f"{path}/"
    inside = {
        name.removeprefix(head): file.oid for name, file in commit.files.items() if name.startswith(head)
    }
    return tree_name(inside) if inside else None


def paths_info(call: Call) -> Answer:
    repo = call.seen()
    commit = call.commit(repo)
    if "json" in call.headers.get("content-type", ""):
        asked = call.json()
    else:
        form = parse_qs(call.body.decode())
        asked = {"paths": form.get("paths", []), "expand": form.get("expand", [""])[0].lower() == "true"}
    found = [path.strip("/") for path in asked["paths"] if content_of(commit, path.strip("/")) is not None]
    rows = [item(repo, commit, path, bool(asked.get("expand"))) for path in found]
    return Answer.json(xet.mark(call.world.xet, rows))


def commits(call: Call) -> Answer:
    repo = call.seen()
    rows = [
        {
            "id": commit.oid,
            "title": commit.title,
            "message": commit.message.partition("\n")[2].strip(),
            "authors": [{"user": commit.author, "avatar": ""}],
            "date": commit.date,
        }
        for commit in repo.history(call.commit(repo).oid)
    ]
    return call.page(rows)


# --- changes


def preupload(call: Call) -> Answer:
    """Say for every file whether it has to go through LFS, and what lies there now."""
    repo, _ = call.writable()
    here = call.commit(repo).files
    rows = []
    for file in call.json().get("files", []):
        large = ALWAYS_LFS.search(file["path"]) is not None or file["size"] > LARGEST_REGULAR
        row = {"path": file["path"], "uploadMode": "lfs" if large else "regular", "shouldIgnore": False}
        if file["path"] in here:
            row["oid"] = here[file["path"]].etag
        rows.append(row)
    return Answer.json({"files": rows})


def commit(call: Call) -> Answer:
    repo, user = call.writable()
    if call.world.xet:
        xet.take_in(call.world.xet, repo, call.body)
    made = committing.commit(repo, call.part("revision"), call.body, user.name)
    url = f"{call.url_of(repo)}/commit/{made.oid}"
    return Answer.json({"success": True, "commitOid": made.oid, "commitUrl": url, "hookOutput": ""})


def super_squash(call: Call) -> Answer:
    repo, user = call.writable()
    if call.part("revision") not in repo.refs().branches:
        raise revision_not_found(call.part("revision"))
    message = call.json().get("message") or "Super-squash"
    made = committing.squash(repo, call.part("revision"), message, user.name)
    return Answer.json({"commitOid": made.oid})
