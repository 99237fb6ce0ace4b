"""Which proxy requests to a Hub go through, by the environment, as the client reads it.

proxy_for("https://huggingface.co")     # Proxy("HTTPS_PROXY", "http://proxy.example:3128"), or None
"""

from __future__ import annotations

import os
from typing import NamedTuple
from urllib.parse import urlsplit

from adapter_hub.hub.session import public


class Proxy(NamedTuple):
    """A proxy: the variable that names it, and its address without user and password."""

    variable: str
    address: str


def proxy_for(endpoint: str) -> Proxy | None:
    """Return the proxy between here and a Hub; None if there is none.

    Args:
        endpoint: the Hub's address.
    """
    from urllib.request import proxy_bypass  # noqa: PLC0415 - needed for a failure only

    parts = urlsplit(endpoint)
    if not parts.hostname or proxy_bypass(parts.hostname):
        return None
    for kind in (parts.scheme, "all"):
        for variable in (f"{kind}_proxy", f"{kind.upper()}_PROXY"):
            if value := os.environ.get(variable):
                return Proxy(variable, public(value))
    return None
