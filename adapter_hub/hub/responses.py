"""The Hub's responses, checked field by field: they come from outside.

A field that something is decided by (a commit, a path, a size) is an error if it is anything else. One that
is only shown (tags, a card's language) is left out.
"""

from __future__ import annotations

import re
from typing import Any

from adapter_hub.errors import IntegrityError
from adapter_hub.escaping import shown
from adapter_hub.hub.names import (
    LONGEST_TEXT,
    MOST_TEXTS,
    Refs,
    RemoteFile,
    RepoState,
    check_path,
    text_of,
    texts_of,
)

MOST_SIZE = 2**50  # bytes of a file
_HEX = {40: re.compile(r"[0-9a-f]{40}"), 64: re.compile(r"[0-9a-f]{64}")}


class MalformedResponseError(LookupError):
    """A response that is not built as the Hub builds it; the next one may be."""


def json_of(response: Any) -> Any:
    """Return the JSON of a response that says that all is well.

    Args:
        response: of the client.

    Raises:
        MalformedResponseError: it is something else, like a page for people.
    """
    try:
        return response.json()
    except ValueError:
        kind = shown(response.headers.get("content-type", "nothing known"), 60)
        raise MalformedResponseError(f"{kind} where JSON is expected") from None


def refs_of(value: Any, where: str) -> Refs:
    """Return the branches and tags of an answer.

    Args:
        value: the parsed JSON.
        where: what messages call it.

    Raises:
        MalformedResponseError: it is built otherwise. IntegrityError: one names no commit.
    """
    return Refs(*(_pointers(_list(_dict(value).get(kind)), where) for kind in ("branches", "tags")))


def _pointers(rows: list[Any], where: str) -> dict[str, str]:
    found = {}
    for row in rows:
        name, commit = _dict(row).get("name"), _dict(row).get("targetCommit")
        if not isinstance(name, str) or not _is_hex(commit, 40):
            raise IntegrityError(
                f"{where}: {shown(name, 60)} names {shown(commit, 60)}, expected a commit's 40 digits"
            )
        found[name] = str(commit)
    return found


def state_of(value: Any) -> RepoState:
    """Return what an answer says of a repository, as far as it matters here.

    Args:
        value: the parsed JSON.

    Raises:
        MalformedResponseError: it is built otherwise.
    """
    row = _dict(value)
    name, sha = row.get("id"), row.get("sha")
    if not isinstance(name, str):
        raise MalformedResponseError("a response without the repository's id")
    card, gated, downloads = row.get("cardData"), row.get("gated"), row.get("downloads")
    return RepoState(
        id=name[:LONGEST_TEXT],
        identity=f"{text_of(row.get('_id'))} {text_of(row.get('createdAt'))}".strip(),
        commit=str(sha) if _is_hex(sha, 40) else "",
        private=row.get("private") is True,
        gated=gated[:LONGEST_TEXT] if isinstance(gated, str) else gated is True,
        tags=texts_of(row.get("tags")),
        card=card if isinstance(card, dict) else {},
        downloads=downloads if isinstance(downloads, int) and _is_size(downloads) else 0,
        updated=text_of(row.get("lastModified")),
    )


def file_of(value: Any, where: str) -> RemoteFile | None:
    """Return a file of a commit's list; None for a folder.

    Args:
        value: one row of the parsed JSON.
        where: what messages call the list.

    Raises:
        MalformedResponseError: built otherwise. IntegrityError: a path that leads outside, no size, no hash.
    """
    row = _dict(value)
    if row.get("type") != "file":
        return None
    path, size, oid, large = row.get("path"), row.get("size"), row.get("oid"), row.get("lfs")
    if not isinstance(path, str):
        raise MalformedResponseError("a response with a file that has no path")
    check_path(path)
    sha256 = large.get("oid", large.get("sha256")) if isinstance(large, dict) else None
    problems = [
        *([] if _is_size(size) else [f"size {shown(size, 60)}"]),
        *([] if _is_hex(oid, 40) else [f"git's hash {shown(oid, 80)}"]),
        *([] if large is None or _is_hex(sha256, 64) else [f"sha256 {shown(sha256, 80)}"]),
    ]
    if problems:
        raise IntegrityError(f"{where}: {shown(path, 120)}", problems, "no Hub says that; tell its owner")
    return RemoteFile(path, size, sha256, oid)  # type: ignore[arg-type] # looked at above


def _dict(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise MalformedResponseError(f"a {type(value).__name__} where an object is expected")
    return value


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise MalformedResponseError(f"a {type(value).__name__} where a list is expected")
    return value


def rows_of(value: Any) -> list[dict[str, Any]]:
    """Return one page of a list.

    Raises:
        MalformedResponseError: it is none, or a row of it is no object.
    """
    return [_dict(row) for row in _list(value)]


def _is_hex(value: Any, length: int) -> bool:
    return isinstance(value, str) and _HEX[length].fullmatch(value) is not None


def _is_size(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MOST_SIZE


def complaints_of(value: Any) -> list[str]:
    """Return what the Hub finds wrong with a card; empty if it takes it.

    Args:
        value: its answer.
    """
    errors = value.get("errors") if isinstance(value, dict) else None
    rows = errors if isinstance(errors, list) else []
    return [shown(row.get("message", ""), 400) for row in rows[:MOST_TEXTS] if isinstance(row, dict)]
