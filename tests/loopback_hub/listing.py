"""What the Hub says about a repository, and which ones a search finds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from loopback_hub.git_objects import pointer
from loopback_hub.model_card import card_of, dataset_tags, library_of, listed, model_tags, relation_of
from loopback_hub.repository import Commit, File, Repository

Query = Mapping[str, list[str]]


def everything(repo: Repository, commit: Commit, newest: Commit) -> dict[str, Any]:
    """Return all that can be told; files are those of `commit`, the card is the newest one."""
    card = card_of(repo, newest)
    meta = repo.meta
    row: dict[str, Any] = {
        "_id": meta["_id"],
        "id": repo.id,
        "author": repo.namespace,
        "sha": commit.oid,
        "lastModified": meta["lastModified"],
        "createdAt": meta["createdAt"],
        "private": meta["private"],
        "gated": meta["gated"],
        "disabled": False,
        "downloads": meta["downloads"],
        "downloadsAllTime": meta["downloads"],
        "likes": meta["likes"],
        "trendingScore": 0,
        "cardData": card,
        "siblings": [{"rfilename": path} for path in commit.files],
        "usedStorage": sum(file.size for file in commit.files.values()),
    }
    if repo.kind == "dataset":
        return {**row, "tags": dataset_tags(card), "description": "", "citation": None}
    bases = [{"id": base} for base in listed(card.get("base_model"))]
    return {
        **row,
        "modelId": repo.id,
        "tags": model_tags(card, newest),
        "pipeline_tag": card.get("pipeline_tag"),
        "library_name": library_of(card, newest),
        "model-index": card.get("model-index"),
        "baseModels": {"relation": relation_of(card, newest), "models": bases} if bases else None,
        "config": {},
        "spaces": [],
    }


def info(repo: Repository, commit: Commit, newest: Commit, query: Query) -> dict[str, Any]:
    """Return one repository at one commit."""
    row = everything(repo, commit, newest)
    if "expand" in query:
        return {key: row[key] for key in ("_id", "id", *query["expand"]) if key in row}
    for key in ("baseModels", "downloadsAllTime", "trendingScore"):
        row.pop(key, None)
    if "blobs" in query:
        row["siblings"] = [
            {"rfilename": path, "size": file.size, "blobId": file.oid, **lfs_of(file, "sha256")}
            for path, file in commit.files.items()
        ]
    return {key: value for key, value in row.items() if value is not None}


def lfs_of(file: File, key: str) -> dict[str, Any]:
    """Return the block on LFS; the digest is called `sha256` in one answer and `oid` in the other."""
    if file.sha256 is None:
        return {}
    size = len(pointer(file.sha256, file.size))
    return {"lfs": {key: file.sha256, "size": file.size, "pointerSize": size}}


SHORT = [
    *("_id", "id", "likes", "trendingScore", "private", "downloads", "tags"),
    *("pipeline_tag", "library_name", "createdAt", "modelId"),
]
NUMBERS = ("downloads", "likes", "trendingScore")
FULL = [*SHORT, "author", "sha", "lastModified", "gated", "disabled", "siblings"]


def search(repos: list[Repository], query: Query) -> list[dict[str, Any]]:
    """Return a row for every repository that has all that is asked for, sorted."""
    rows = []
    for repo in repos:
        newest = repo.resolve("main")
        row = everything(repo, newest, newest)
        if matches(row, query):
            rows.append(row)
    key = query.get("sort", ["trendingScore"])[0]
    rows.sort(key=lambda row: row["id"])
    rows.sort(key=lambda row: row.get(key) or (0 if key in NUMBERS else ""), reverse=True)
    return [shown(row, query) for row in rows]


def matches(row: dict[str, Any], query: Query) -> bool:
    asked = query.get("search", [""])[0].lower()
    gated = query.get("gated", [None])[0]
    return (
        all(tag in row["tags"] for tag in query.get("filter", ()))
        and query.get("author", [row["author"]])[0] == row["author"]
        and asked in row["id"].lower()
        and query.get("pipeline_tag", [row.get("pipeline_tag")])[0] == row.get("pipeline_tag")
        and (gated is None or (gated.lower() == "true") == bool(row["gated"]))
    )


def shown(row: dict[str, Any], query: Query) -> dict[str, Any]:
    if "expand" in query:
        keys = ["_id", "id", *query["expand"]]
    else:
        full = query.get("full", ["false"])[0].lower() == "true"
        keys = list(FULL if full else SHORT)
        if query.get("cardData", ["false"])[0].lower() == "true":
            keys.append("cardData")
    return {key: row[key] for key in keys if row.get(key) is not None}
