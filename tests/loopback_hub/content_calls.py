"""Calls on the contents of files: uploads through LFS, and downloads."""

from __future__ import annotations

import hashlib
import re
from datetime import UTC, datetime
from pathlib import Path

from loopback_hub import committing, xet
from loopback_hub.answers import Answer, HubError, entry_not_found
from loopback_hub.call import Call
from loopback_hub.repository import Repository

# --- uploads


def ticket(repo: Repository, sha256: str, size: int) -> str:
    """Return what allows one upload: a client sends no Authorization header along with it."""
    return hashlib.sha256(f"{repo.meta['_id']} {sha256} {size}".encode()).hexdigest()


def lfs_batch(call: Call) -> Answer:
    """Say how content comes here; older clients ask here, too, whether it may be by Xet."""
    repo, _ = call.writable()
    asked = call.json()
    by_xet = call.world.xet is not None and "xet" in asked.get("transfers", [])
    rows = []
    for wanted in asked.get("objects", []):
        row = {"oid": wanted["oid"], "size": wanted["size"]}
        if not by_xet and not repo.lfs_path(wanted["oid"]).is_file():
            query = f"size={wanted['size']}&ticket={ticket(repo, wanted['oid'], wanted['size'])}"
            row["actions"] = {
                "upload": {
                    "href": f"{call.endpoint}/lfs-upload/{repo.plural}/{repo.id}/{wanted['oid']}?{query}"
                },
                "verify": {"href": f"{call.url_of(repo)}.git/info/lfs/objects/verify"},
            }
        rows.append(row)
    return Answer.json(
        {"transfer": "xet" if by_xet else "basic", "objects": rows},
        headers={"Content-Type": "application/vnd.git-lfs+json"},
    )


def lfs_upload(call: Call) -> Answer:
    """Take in what was PUT, if it is what was announced."""
    repo, sha256, size = ticketed(call)
    assert call.upload is not None
    if call.upload.stat().st_size != size or digest(call.upload) != sha256:
        raise HubError(400, "The content is not what was announced: other size or sha256")
    place = repo.lfs_path(sha256)
    place.parent.mkdir(exist_ok=True)
    call.upload.replace(place)
    return Answer(200, b"", {"ETag": f'"{sha256}"'})


def ticketed(call: Call) -> tuple[Repository, str, int]:
    """Return what an address allows that was given out earlier."""
    repo = call.world.repositories.get(call.kind, f"{call.part('namespace')}/{call.part('name')}")
    sha256, size = call.part("sha256"), int(call.query.get("size", ["-1"])[0])
    if repo is None or call.query.get("ticket") != [ticket(repo, sha256, size)]:
        raise HubError(403, "Request has expired")
    return repo, sha256, size


def digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def lfs_verify(call: Call) -> Answer:
    repo, _ = call.writable()
    asked = call.json()
    place = repo.lfs_path(asked["oid"])
    if not place.is_file():
        raise HubError(404, f"Object {asked['oid']} was not uploaded")
    if place.stat().st_size != asked["size"]:
        raise HubError(422, f"Object {asked['oid']} has another size")
    return Answer.json({})


def lfs_files(call: Call) -> Answer:
    """List the objects of all commits, each with a path that leads to it."""
    repo, _ = call.writable()
    names: dict[str, str] = {}
    for oid in sorted(repo.stored()):
        for path, file in repo.commit(oid).files.items():
            if file.sha256 is not None:
                names.setdefault(file.sha256, path)
    rows = []
    for place in sorted((repo.folder / "lfs").glob("*")):
        found = place.stat()
        time = datetime.fromtimestamp(found.st_mtime, UTC).isoformat(timespec="milliseconds")
        rows.append(
            {
                "fileOid": place.name,
                "oid": place.name,
                "filename": names.get(place.name, ""),
                "pushedAt": time.replace("+00:00", "Z"),
                "ref": "refs/heads/main",
                "size": found.st_size,
            }
        )
    return call.page(rows)


def lfs_delete(call: Call) -> Answer:
    repo, _ = call.writable()
    wanted = call.json().get("deletions", {})
    committing.drop_objects(repo, wanted.get("sha", []), bool(wanted.get("rewriteHistory")))
    return Answer.json({})


# --- downloads


def resolve(call: Call) -> Answer:
    """Answer HEAD and GET of one file."""
    repo = call.readable()
    commit = call.commit(repo)
    path = call.part("path")
    if path not in commit.files:
        raise entry_not_found(path, commit.oid)
    file = commit.files[path]
    headers = {
        "X-Repo-Commit": commit.oid,
        "ETag": f'"{file.etag}"',
        "Accept-Ranges": "bytes",
        "Content-Type": "application/octet-stream" if file.sha256 else "text/plain; charset=utf-8",
        "Content-Disposition": f'inline; filename="{Path(path).name.encode("ascii", "replace").decode()}"',
    }
    if file.sha256 is not None:
        headers |= {"X-Linked-Etag": f'"{file.sha256}"', "X-Linked-Size": str(file.size)}
    if (
        file.sha256 is not None
        and call.world.xet
        and (known := xet.files_in(call.world.xet).get(file.sha256))
    ):
        refresh = f"{call.endpoint}/api/{repo.plural}/{repo.id}/xet-read-token/{commit.oid}"
        headers |= {"X-Xet-Hash": known.hash, "X-Xet-Refresh-Route": refresh}
    if file.sha256 is not None and call.world.redirect:
        headers["Location"] = contents_url(call, repo, file.sha256, file.size)
        return Answer(302, b"", headers)
    return part_of(call, repo.content_path(file), file.size, headers)


def xet_token(call: Call) -> Answer:
    """Say where the Xet store is; the real one asks for the token, the local one does not."""
    repo = call.writable()[0] if call.part("access") == "write" else call.readable()
    if call.world.xet is None:
        raise HubError(404, f"{repo.id} is not on Xet")
    store = f"local://{call.world.xet.resolve()}"
    headers = {"X-Xet-Cas-Url": store, "X-Xet-Access-Token": "local", "X-Xet-Token-Expiration": xet.EXPIRES}
    value = {"casUrl": store, "accessToken": "local", "exp": int(xet.EXPIRES)}
    return Answer.json(value, headers=headers)


def contents_url(call: Call, repo: Repository, sha256: str, size: int) -> str:
    """Return an address on another host, which carries its own permission."""
    host = call.endpoint.replace("127.0.0.1", "localhost")
    signed = f"size={size}&ticket={ticket(repo, sha256, size)}"
    return f"{host}/contents/{repo.plural}/{repo.id}/{sha256}?{signed}"


def contents(call: Call) -> Answer:
    repo, sha256, size = ticketed(call)
    if "authorization" in call.headers:
        raise HubError(400, "Only one auth mechanism allowed")  # a token was shown to a stranger
    return part_of(call, repo.lfs_path(sha256), size, {"ETag": '"of-the-store"', "Accept-Ranges": "bytes"})


def part_of(call: Call, place: Path, size: int, headers: dict[str, str]) -> Answer:
    """Answer with the file or the part that is asked for."""
    if call.method == "GET" and not place.is_file():
        raise HubError(404, "The content of this file was deleted")
    start, end = asked_range(call.headers.get("range"), size)
    if (start, end) == (0, size):
        return Answer(200, b"", headers, place, 0, size)
    headers["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
    return Answer(206, b"", headers, place, start, end - start)


def asked_range(header: str | None, size: int) -> tuple[int, int]:
    """Return where the asked part starts and ends."""
    found = re.fullmatch(r"bytes=(\d*)-(\d*)", header or "")
    if found is None or found[0] == "bytes=-":
        return 0, size
    if not found[1]:
        return max(size - int(found[2]), 0), size
    start, end = int(found[1]), min(int(found[2]) + 1 if found[2] else size, size)
    if start >= size or end <= start:
        raise HubError(416, "Range Not Satisfiable", Content_Range=f"bytes */{size}")
    return start, end
