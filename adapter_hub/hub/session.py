"""The client's connections, with what it leaves out: how much an answer may bring, and who may see the token.

    with limited(Limits(address, "the refs of hf://alice/da", 8 * 2**20)):
        api.list_repo_refs("alice/da")

A small compressed answer may unpack to gigabytes, and one without a length need not end. An address in an
answer (the next page, an upload, a redirect) may be anybody's. So every request that is made inside such a
block goes through here, the client's own and ours; those of the rest of the program are left alone.
"""

from __future__ import annotations

import importlib
import ipaddress
import logging
import os
import re
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from adapter_hub.errors import IntegrityError, InvalidInputError, UnreachableError
from adapter_hub.escaping import shown

MOST_REDIRECTS = 8
OVER_HTTP = "ADAPTER_HUB_TOKEN_OVER_HTTP"
PORTS = {"http": 80, "https": 443}
Origin = tuple[str, str, int]
_LOCK = threading.Lock()
_told: set[str] = set()  # hosts that do not get the token


def check_address(text: str) -> str:
    """Return the address of a Hub without a slash at its end.

    Args:
        text: as the user gave it.

    Raises:
        InvalidInputError: not the address of a web server.
    """
    try:
        parts = urlsplit(text)
        good = parts.scheme in PORTS and bool(parts.hostname) and (parts.port or 1) > 0
        good = good and not parts.netloc.endswith(":") and "//" not in parts.path
    except ValueError:
        good = False
    if (
        not good
        or not text.isascii()
        or not text.isprintable()
        or " " in text
        or parts.query
        or parts.fragment
    ):
        raise InvalidInputError(
            f"HF_ENDPOINT={shown(public(text))}: expected the address of a Hub, like https://huggingface.co"
        )
    return text.rstrip("/")


def public(address: str) -> str:
    """Return an address without the user and the password in it, and without a query, for messages.

    Also of what is no address: whatever is before the last `@` may be a password.

    >>> public("https://me:s3/cret@hub.example/sub?token=x"), public("me:secret@hub.example")
    ('https://hub.example/sub', 'hub.example')
    """
    plain = re.split("[?#]", address[address.rfind("@") + 1 :], maxsplit=1)[0]
    scheme = re.match(r"[A-Za-z][A-Za-z0-9+.-]*:/+", address) if "@" in address else None
    return f"{scheme[0] if scheme else ''}{plain}"


def origin_of(address: str) -> Origin:
    """Return scheme, host and port of an address; the port is -1 where it is none."""
    parts = urlsplit(address)
    try:
        port = parts.port or PORTS.get(parts.scheme, 0)
    except ValueError:
        port = -1
    return parts.scheme.lower(), (parts.hostname or "").lower(), port


@dataclass
class Limits:
    """What the answers to a request may bring, and whose they may be.

    Attributes:
        address: of the Hub, to which alone the token goes.
        what: is asked for, for messages.
        left: bytes that may still come, unpacked.
        seconds: until the last of them.
    """

    address: str
    what: str
    left: int
    seconds: float = 3600.0
    most: int = field(init=False)
    until: float = field(init=False)

    def __post_init__(self) -> None:
        self.most, self.until = self.left, time.monotonic() + self.seconds

    def take(self, count: int) -> None:
        """Count bytes that came.

        Args:
            count: of bytes.

        Raises:
            IntegrityError: too many. UnreachableError: too late.
        """
        self.left -= count
        if self.left < 0:
            raise self.too_much(f"more than {self.most} bytes arrived")
        if time.monotonic() > self.until:
            raise UnreachableError(f"{self.what}: {public(self.address)} took too long")

    def too_much(self, what_came: str) -> IntegrityError:
        """Return the error that says that an answer has no end."""
        return IntegrityError(
            f"{self.what}: {what_came}; expected at most {self.most}; tell the owner of "
            f"{public(self.address)}"
        )


_LIMITS: ContextVar[Limits | None] = ContextVar("adapter_hub_limits", default=None)


@contextmanager
def limited(limits: Limits) -> Iterator[None]:
    """Hold every request of the Hub's client that is made inside to the limits.

    Args:
        limits: that their responses are held to.
    """
    _guard_sessions()
    token = _LIMITS.set(limits)
    try:
        yield
    finally:
        _LIMITS.reset(token)


class _Guarding:
    """Makes the client's sessions with the factory that was set before, and guards them."""

    def __init__(self, before: Callable[[], Any]) -> None:
        self.before = before

    def __call__(self) -> Any:
        return _guarded(self.before())


def _guard_sessions() -> None:
    from huggingface_hub.utils import _http  # noqa: PLC0415 - 0.1 s that only the Hub's users pay

    with _LOCK:
        if not isinstance(
            _http._GLOBAL_CLIENT_FACTORY, _Guarding
        ):  # `set_client_factory` closes what is used
            _http._GLOBAL_CLIENT_FACTORY = _Guarding(_http._GLOBAL_CLIENT_FACTORY)
    _guarded(_http.get_session())


def _guarded(client: Any) -> Any:
    """Let a client's requests go through `_send`, with the proxies and certificates that it was made with."""
    with _LOCK:
        if "send" not in vars(client):
            plain = client.send

            def send(request: Any, *, stream: bool = False, **options: Any) -> Any:
                limits = _LIMITS.get()
                if limits is None:
                    return plain(request, stream=stream, **options)
                follow = options.pop("follow_redirects", client.follow_redirects)
                follow = follow if isinstance(follow, bool) else client.follow_redirects
                response = _send(plain, request, limits, follow, options)
                if not stream:
                    _read(response)
                return response

            client.send = send
    return client


def _send(
    plain: Callable[..., Any], request: Any, limits: Limits, follow: bool, options: dict[str, Any]
) -> Any:
    """Send a request, and follow where it is sent on to; nothing of the last answer's body is read yet."""
    history: list[Any] = []
    while True:
        _check_request(request, limits)
        response = plain(request, stream=True, follow_redirects=False, **options)
        response.history = list(history)
        try:
            _bound(response, limits)
        except BaseException:
            response.close()
            raise
        if not follow or not response.has_redirect_location:
            return response
        _read(response)
        if response.next_request is None or len(history) == MOST_REDIRECTS:
            raise IntegrityError(
                f"{limits.what}: {public(limits.address)} redirects too often, or to no address; "
                "tell its owner"
            )
        history.append(response)
        request = response.next_request


def _read(response: Any) -> None:
    try:
        response.read()
    except BaseException:
        response.close()
        raise


# who may see the token


def _check_request(request: Any, limits: Limits) -> None:
    """Let the token go to its Hub alone, and there not over a plain connection.

    Raises:
        IntegrityError: an answer asks for it to be sent elsewhere, or to something that is not an address.
    """
    if request.url.scheme not in PORTS:
        raise IntegrityError(
            f"{limits.what}: {public(limits.address)} redirects to {shown(request.url.scheme)}: addresses; "
            "expected http or https"
        )
    if request.headers.get("accept-encoding") != "identity":
        request.headers["Accept-Encoding"] = "gzip"  # what is unpacked here, with a limit
    if "authorization" not in request.headers:
        return
    own, asked = origin_of(limits.address), origin_of(str(request.url))
    if asked != own and not (asked[:2] == ("https", own[1]) and own[0] == "http"):
        raise IntegrityError(
            f"{limits.what}: {public(limits.address)} asks to send your token to {shown(request.url.host)}; "
            "it was not sent; tell its owner"
        )
    if asked[0] == "http" and not is_loopback(asked[1]) and not os.environ.get(OVER_HTTP):
        del request.headers["Authorization"]
        if asked[1] not in _told:
            _told.add(asked[1])
            logging.getLogger("adapter_hub").warning(
                "warning: your token is not sent to %s: anybody on the way could read it over http://; "
                "use https://, or set %s=1",
                public(limits.address),
                OVER_HTTP,
            )


def is_loopback(host: str) -> bool:
    """Tell whether a host is this machine, which needs no encryption."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


# how much may come


def _bound(response: Any, limits: Limits) -> None:
    """Put a counter into an answer's body, and unpack it there.

    Raises:
        IntegrityError: it announces more than may come, or is packed in an unknown way.
    """
    httpx = http_library()
    packing = [word.strip().lower() for word in response.headers.get("content-encoding", "").split(",")]
    packing = [word for word in packing if word and word != "identity"]
    if packing not in ([], ["gzip"], ["x-gzip"], ["deflate"]):
        raise IntegrityError(
            f"{limits.what}: {public(limits.address)} answers encoded as {shown(','.join(packing), 60)}, "
            "which was not requested"
        )
    length = response.headers.get("content-length", "")
    if response.request.method != "HEAD" and length.isdecimal() and int(length[:20]) > limits.left:
        raise limits.too_much(f"{length[:20]} bytes arrived")
    if packing:
        del response.headers["content-encoding"]
        response.headers.pop("content-length", None)
    inner = response.stream

    class Counted(httpx.SyncByteStream):  # type: ignore[misc, name-defined, unused-ignore]
        def __iter__(self) -> Iterator[bytes]:
            return _unpacked(inner, limits, httpx) if packing else _counted(inner, limits)

        def close(self) -> None:
            inner.close()

    response.stream = Counted()


def _counted(stream: Any, limits: Limits) -> Iterator[bytes]:
    for piece in stream:
        limits.take(len(piece))
        yield piece


def _unpacked(stream: Any, limits: Limits, httpx: Any) -> Iterator[bytes]:
    """Yield what gzip packed, never more than may come."""
    unpacker = zlib.decompressobj(47)
    try:
        for packed in stream:
            data = packed
            while data:
                piece = unpacker.decompress(data, min(limits.left + 1, 2**20))
                limits.take(len(piece))
                if piece:
                    yield piece
                data = unpacker.unconsumed_tail
                if unpacker.eof and (data := unpacker.unused_data):
                    unpacker = zlib.decompressobj(47)
                elif not piece and data:
                    break
    except zlib.error as error:
        raise httpx.RemoteProtocolError(f"a packed answer is damaged: {error}") from None


# what the client logs


QUIET = ("_commit_api", "hf_api", "file_download", "utils._http")  # of the client's modules


def quiet_client() -> None:
    """Keep the client from logging what is intended, or what our own retries and errors deal with."""
    for name in QUIET:
        logger = logging.getLogger(f"huggingface_hub.{name}")
        if not any(isinstance(item, _IntendedFilter) for item in logger.filters):
            logger.addFilter(_IntendedFilter())


class _IntendedFilter(logging.Filter):
    """Lets everything through but open files, commits without a change, and attempts that failed.

    A server may add warnings of its own, which are escaped.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        text = record.getMessage()
        record.msg, record.args = shown(text), ()
        return " thrown while requesting " not in text and not text.startswith(
            (
                "Uploading files as a binary IO",
                "No files have been",
                "Retrying in",
                "Rate limited",
                "Error while downloading",  # with an address that lets anybody download
                "Could not set the permissions",  # the folder of a request that was given up
            )
        )


def http_library() -> Any:
    """Return the library that the Hub's client makes its requests with; early versions do not name it."""
    import huggingface_hub.utils  # noqa: PLC0415 - slow to import

    return getattr(huggingface_hub.utils, "httpx", None) or importlib.import_module("httpx")
