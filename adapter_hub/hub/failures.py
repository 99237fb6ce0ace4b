"""What a failure of the client means: worth another attempt or not, and in one line for the user.

The client raises errors of three libraries, some of them as OSError, some hidden as the cause of
another. Nothing else in this project looks at them.
"""

from __future__ import annotations

import errno
import os
import re
import socket
from collections.abc import Iterator
from json import JSONDecodeError
from urllib.parse import urlsplit

from adapter_hub.errors import (
    AccessError,
    AdapterHubError,
    ConflictError,
    InvalidInputError,
    NotFoundError,
    StaleParentError,
    UnreachableError,
)
from adapter_hub.escaping import shown
from adapter_hub.hub.proxies import proxy_for
from adapter_hub.hub.session import http_library, public

TRANSIENT = frozenset({408, 425, 429, 500, 502, 503, 504})
DISK = frozenset(
    {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EFBIG, errno.EMFILE, errno.EIO}
)

MALFORMED = (
    LookupError,
    TypeError,
    AttributeError,
    RecursionError,
)  # the client does not check the shape of responses

NO_HOST = (socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME))
LOG_IN = "log in with `hf auth login` or HF_TOKEN"


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and what caused it; the client wraps the telling one."""
    seen: list[BaseException] = []
    current: BaseException | None = error
    while current is not None and current not in seen:
        seen.append(current)
        yield current
        current = current.__cause__ or current.__context__


def _status(error: BaseException) -> int | None:
    from huggingface_hub.errors import HfHubHTTPError  # noqa: PLC0415 - 0.1 s that only the Hub's users pay

    for item in _chain(error):
        if isinstance(item, HfHubHTTPError):
            return int(item.response.status_code)
    return None


def _is_offline(error: BaseException) -> bool:
    from huggingface_hub.errors import OfflineModeIsEnabled  # noqa: PLC0415

    return any(isinstance(item, OfflineModeIsEnabled) for item in _chain(error))


def is_transient(error: BaseException) -> bool:
    """Tell whether another attempt could succeed."""
    httpx = http_library()
    if isinstance(error, UnreachableError):
        return True
    if (
        isinstance(error, AdapterHubError)
        or _is_no_host(error)
        or _is_about_a_proxy(error)
        or any(isinstance(item, OSError) and item.errno in DISK for item in _chain(error))
        or _is_offline(error)
    ):
        return False
    status = _status(error)
    if status is not None:
        return status in TRANSIENT
    return isinstance(error, MALFORMED) or any(
        isinstance(item, httpx.TransportError | ConnectionError | TimeoutError | JSONDecodeError)
        or "Consistency check failed" in str(item)
        for item in _chain(error)
    )


def is_no_connection(error: BaseException) -> bool:
    """Tell whether there was no answer at all: no network, no such host, no server or no proxy there."""
    httpx = http_library()
    return any(isinstance(item, httpx.ConnectError | httpx.ProxyError) for item in _chain(error))


def _is_no_host(error: BaseException) -> bool:
    """Tell whether there is no such host, or none that speaks TLS with a good certificate."""
    import ssl  # noqa: PLC0415 - needed for a failure only

    for item in _chain(error):
        if isinstance(item, socket.gaierror) and item.errno in NO_HOST:
            return True
        if isinstance(item, ssl.SSLCertVerificationError):
            return True
        if isinstance(item, ssl.SSLError) and item.reason in ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE"):
            return True
    return False


def _is_about_a_proxy(error: BaseException) -> bool:
    """Tell whether the client could not use a proxy's address, or lacks a package for its kind."""
    httpx = http_library()
    named = isinstance(error, ImportError | ValueError) and "proxy" in str(error).lower()
    return named or isinstance(error, httpx.InvalidURL)  # the Hub's own address was looked at before


def _no_connection(error: BaseException, what: str, endpoint: str) -> UnreachableError:
    """Return the error that blames who is to blame: the proxy, where the Hub sends on to, or its address."""
    reason = _text(error)
    if (proxy := proxy_for(endpoint)) is not None:
        host = urlsplit(endpoint).hostname
        return UnreachableError(
            f"{what}: the proxy {shown(proxy.address, 200)} cannot be used ({reason}); correct or unset "
            f"{proxy.variable}, or name {host} in NO_PROXY"
        )
    hosts = [request.url.host for item in _chain(error) if (request := getattr(item, "_request", None))]
    if hosts and hosts[0] != urlsplit(endpoint).hostname:
        return UnreachableError(
            f"{what}: {endpoint} sends on to {shown(hosts[0], 100)}, which cannot be used ({reason}); "
            f"{_try_again(endpoint)}"
        )
    return UnreachableError(f"{what}: {endpoint} cannot be used ({reason}); {_try_again(endpoint)}")


def _try_again(endpoint: str) -> str:
    """Return the next step for a Hub that does not answer like one."""
    return "correct HF_ENDPOINT, or try again later" if _is_chosen(endpoint) else "try again later"


def _is_chosen(endpoint: str) -> bool:
    """Tell whether HF_ENDPOINT names this Hub."""
    return public(os.environ.get("HF_ENDPOINT", "")).rstrip("/") == endpoint


def retry_after(error: BaseException) -> float | None:
    """Return the seconds that the server asked to wait, if it did."""
    from huggingface_hub.errors import HfHubHTTPError  # noqa: PLC0415

    for item in _chain(error):
        if isinstance(item, HfHubHTTPError):
            text = str(item.response.headers.get("Retry-After", ""))
            return float(text) if re.fullmatch(r"\d{1,6}", text) else None
    return None


def to_error(error: BaseException, what: str, endpoint: str) -> BaseException:
    """Return the error to raise: one line that says what it means, or the disk's own error.

    Args:
        error: that the client raised.
        what: for the message, like `the refs of hf://alice/da`.
        endpoint: the Hub's address, for the message.
    """
    if isinstance(error, AdapterHubError):
        return error
    for item in _chain(error):
        if isinstance(item, OSError) and item.errno in DISK:
            return item if item.filename else OSError(item.errno, item.strerror, what)
    if _is_offline(error):
        return UnreachableError(f"{what}: HF_HUB_OFFLINE is set and it is not on this machine; unset it once")
    if is_no_connection(error) or _is_about_a_proxy(error):
        return _no_connection(error, what, endpoint)
    status = _status(error)
    if status is not None and status not in TRANSIENT:
        return _refusal(error, status, what, endpoint)
    return _trouble(error, status, what, endpoint)


def _trouble(error: BaseException, status: int | None, what: str, endpoint: str) -> BaseException:
    """Return what to raise of an answer that is none, or that another attempt may change."""
    reason = f"answers {status}" if status else _text(error)
    if isinstance(error, MALFORMED):
        reason = f"its response is malformed: {reason}"
        return UnreachableError(f"{what}: {endpoint} cannot be used ({reason}); {_try_again(endpoint)}")
    wait = retry_after(error)
    later = f"; it asks to wait {wait:.0f} s" if wait else ""
    if is_transient(error):
        return UnreachableError(f"{what}: {endpoint} cannot be used ({reason}){later}; try again later")
    if isinstance(error, ValueError):
        return InvalidInputError(
            f"{what}: {endpoint} or its client refuses it ({_text(error).rstrip(':')}); try again"
        )
    if isinstance(error, OSError):
        return error
    name = type(error).__name__
    return UnreachableError(f"{what}: {endpoint} cannot be used ({name}: {_text(error)}); try again later")


def _refusal(error: BaseException, status: int, what: str, endpoint: str) -> AdapterHubError:
    """Return what an answer means that another attempt would not change."""
    from huggingface_hub import errors as hub  # noqa: PLC0415

    found = next(item for item in _chain(error) if isinstance(item, hub.HfHubHTTPError))
    said = _text(found)
    if isinstance(found, hub.GatedRepoError):
        return AccessError(f"{what}: gated; ask for access on its page at {endpoint}, then {LOG_IN}")
    if isinstance(found, hub.RevisionNotFoundError | hub.RemoteEntryNotFoundError):
        return NotFoundError(f"{what}: not there ({said}); check the version, or pull the newest")
    if isinstance(found, hub.RepositoryNotFoundError) or (status == 404):
        no_hub = "X-Error-Code" not in found.response.headers and _is_chosen(endpoint)
        look = "check HF_ENDPOINT and the name" if no_hub else "check the name"
        return NotFoundError(f"{what}: not on {endpoint}, or private; {look}, or {LOG_IN}")
    if status in (401, 403):
        return AccessError(
            f"{what}: {endpoint} refuses access ({status}: {said}); {LOG_IN} as a user with access"
        )
    if status == 412:
        return StaleParentError(f"{what}: another writer was faster; try again")
    if status == 409:
        return ConflictError(f"{what}: exists already")
    return InvalidInputError(f"{what}: {endpoint} refuses it ({status}: {said})")


def _text(error: BaseException) -> str:
    """Return the server's or the library's words on one line, without links and request ids."""
    from huggingface_hub.errors import HfHubHTTPError  # noqa: PLC0415

    text = error.server_message if isinstance(error, HfHubHTTPError) and error.server_message else str(error)
    line = " ".join(re.sub(r"\(Request ID: [^)]*\)|https?://\S+|(?<=//)[^\s/@]+@", "", text[:10_000]).split())
    return shown(line, 240) or type(error).__name__
