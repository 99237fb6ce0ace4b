"""Every place of the Hub that this server knows: name, method and path."""

from __future__ import annotations

import re
from typing import NamedTuple

ID = "/(?P<namespace>[^/]+)/(?P<name>[^/]+)"
API = f"/api/(?P<kind>model|dataset)s{ID}"
PAGE = f"(?P<datasets>/datasets)?{ID}"
REVISION = "(?P<revision>[^/]+)"


class Endpoint(NamedTuple):
    """One kind of request; `path` has to fit the whole path as sent, without the query."""

    name: str
    method: str
    path: str

    def fits(self, method: str, path: str) -> re.Match[str] | None:
        return re.fullmatch(self.path, path) if method == self.method else None


# what publishing, pulling and searching go through
ENDPOINTS = [
    Endpoint("whoami", "GET", "/api/whoami-v2"),
    Endpoint("create-repo", "POST", "/api/repos/create"),
    Endpoint("list", "GET", "/api/(?P<kind>model|dataset)s"),
    Endpoint("info", "GET", f"{API}(?:/revision/{REVISION})?"),
    Endpoint("refs", "GET", f"{API}/refs"),
    Endpoint("tree", "GET", f"{API}/tree/{REVISION}(?:/(?P<path>.+))?"),
    Endpoint("paths-info", "POST", f"{API}/paths-info/{REVISION}"),
    Endpoint("commits", "GET", f"{API}/commits/{REVISION}"),
    Endpoint("validate-yaml", "POST", "/api/validate-yaml"),
    Endpoint("preupload", "POST", f"{API}/preupload/{REVISION}"),
    Endpoint("lfs-batch", "POST", f"{PAGE}\\.git/info/lfs/objects/batch"),
    Endpoint("lfs-upload", "PUT", f"/lfs-upload/(?P<kind>model|dataset)s{ID}/(?P<sha256>[0-9a-f]{{64}})"),
    Endpoint("lfs-verify", "POST", f"{PAGE}\\.git/info/lfs/objects/verify"),
    Endpoint("commit", "POST", f"{API}/commit/{REVISION}"),
    Endpoint("create-tag", "POST", f"{API}/tag/{REVISION}"),
    Endpoint("delete-tag", "DELETE", f"{API}/tag/{REVISION}"),
    Endpoint("create-branch", "POST", f"{API}/branch/{REVISION}"),
    Endpoint("delete-branch", "DELETE", f"{API}/branch/{REVISION}"),
    Endpoint("resolve-head", "HEAD", f"{PAGE}/resolve/{REVISION}/(?P<path>.+)"),
    Endpoint("resolve", "GET", f"{PAGE}/resolve/{REVISION}/(?P<path>.+)"),
    Endpoint("xet-token", "GET", f"{API}/xet-(?P<access>read|write)-token/{REVISION}"),  # only with xet
    # where LFS contents come from if the server was told to redirect, as the real Hub does
    Endpoint("contents", "GET", f"/contents/(?P<kind>model|dataset)s{ID}/(?P<sha256>[0-9a-f]{{64}})"),
]
ADMINISTRATION = [
    Endpoint("agent-harnesses", "GET", "/api/agent-harnesses"),
    Endpoint("user", "GET", "/api/users/(?P<name>[^/]+)/overview"),
    Endpoint("organization", "GET", "/api/organizations/(?P<name>[^/]+)/overview"),
    Endpoint("delete-repo", "DELETE", "/api/repos/delete"),
    Endpoint("move-repo", "POST", "/api/repos/move"),
    Endpoint("settings", "PUT", f"{API}/settings"),
    Endpoint("super-squash", "POST", f"{API}/super-squash/{REVISION}"),
    Endpoint("lfs-files", "GET", f"{API}/lfs-files"),
    Endpoint("lfs-delete", "POST", f"{API}/lfs-files/batch"),
]
ALL = [*ENDPOINTS, *ADMINISTRATION]


def named(name: str) -> Endpoint:
    return next(endpoint for endpoint in ALL if endpoint.name == name)
