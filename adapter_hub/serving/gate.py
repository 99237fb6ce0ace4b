"""What every request passes: its record in the log, its key, the time to stop, and its errors.

app = Gate(routes, service)

Whatever goes wrong inside is answered with OpenAI's error object here.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from adapter_hub.errors import AdapterHubError
from adapter_hub.escaping import shown
from adapter_hub.isolation import isolated
from adapter_hub.serving.access_log import LOGGER, AccessRecord
from adapter_hub.serving.api_errors import ApiError, api_error_of
from adapter_hub.serving.service import Service

ROUTES = {
    "/": "page",
    "/health": "health",
    "/ready": "ready",
    "/metrics": "metrics",
    "/v1/models": "models",
    "/v1/audio/transcriptions": "transcriptions",
    "/v1/audio/translations": "translations",
}
LINGERING = (2**24, 2.0)  # bytes and seconds that are still received of a request that is refused
GONE = (ClientDisconnect, TimeoutError)  # a client that went away, or does not read
STOPPING = "this server is stopping; try again when it is up again"


class Gate:
    """Wraps the routes of a server."""

    def __init__(self, app: ASGIApp, service: Service) -> None:
        """Stand before them.

        Args:
            app: the routes.
            service: that they use.
        """
        self.app, self.service = app, service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        path = scope["path"]
        host = (scope.get("client") or ("unknown", 0))[0]
        record = AccessRecord(host, ROUTES.get(path, "models" if path.startswith("/v1/models/") else "other"))
        scope["adapter_hub"] = record
        answer = _Answer(record, receive, send, self.service.options.timeout)
        failures: list[AdapterHubError] = []
        try:
            with suppress(*GONE), isolated(f"request {record.id}", failures.append, through=GONE):
                try:
                    self._let_in(scope, record)
                    await self.app(scope, answer.receive, answer.send)
                except ApiError as error:
                    await answer.refuse(error, scope)
                except HTTPException as error:
                    await answer.refuse(
                        ApiError(error.status_code, error.detail, code="no_such_route"), scope
                    )
            for failure in failures:
                LOGGER.warning("%s: %s", record.id, failure)
                with suppress(*GONE, OSError):
                    await answer.refuse(api_error_of(failure, self.service.redacted), scope)
        finally:
            self.service.metrics.answered(record.route, record.status, record.seconds)
            record.write()

    def _let_in(self, scope: Scope, record: AccessRecord) -> None:
        """Refuse a request without a key, of another server's page, or one that comes too late."""
        keys, asks = self.service.keys, scope["path"].startswith(("/v1/", "/metrics"))
        if keys is None:
            self._check_origin(Headers(scope=scope))
        if keys is not None and asks:
            owner = keys.owner(Headers(scope=scope).get("authorization"))
            if owner is None:
                raise ApiError(
                    401,
                    "no valid API key; expected the header `Authorization: Bearer KEY`",
                    code="invalid_api_key",
                )
            record.client = owner
        if self.service.draining and scope["path"].startswith("/v1/"):
            raise ApiError(503, STOPPING, code="stopping", retry_after=5)

    def _check_origin(self, headers: Headers) -> None:
        """Refuse what a web page of another server sends: its visitor knows nothing of it."""
        origin, allowed = headers.get("origin"), self.service.options.allow_origins
        if origin is None or urlsplit(origin).netloc == headers.get("host") or {"*", origin} & {*allowed}:
            return
        raise ApiError(
            403,
            f"a page of {shown(origin, 100)} may not ask this server, unless --allow-origin names it",
            code="other_origin",
        )


class _Answer:
    """The answer to one request: it gets the request's id, and a client that does not read it is given up."""

    def __init__(self, record: AccessRecord, receive: Receive, send: Send, timeout: float) -> None:
        self._record, self._receive, self._send, self._timeout = record, receive, send, timeout
        self._begun = self._whole = False

    async def receive(self) -> Message:
        """Return what the client sends; remember when that is all."""
        message = await self._receive()
        self._whole = self._whole or message["type"] != "http.request" or not message.get("more_body", False)
        return message

    async def send(self, message: Message) -> None:
        """Send a part of the answer."""
        if message["type"] == "http.response.start":
            self._begun, self._record.status = True, message["status"]
            headers = MutableHeaders(scope=message)
            headers["x-request-id"] = self._record.id
            headers["x-content-type-options"] = "nosniff"
        async with asyncio.timeout(self._timeout):
            await self._send(message)

    def _is_coming(self, method: str) -> bool:
        """Tell whether the client may still be sending."""
        return not self._whole and method not in ("GET", "HEAD")

    async def refuse(self, error: ApiError, scope: Scope) -> None:
        """Answer with an error; a body that is still coming is received for a moment, so that it is read.

        Args:
            error: the answer.
            scope: of the request.
        """
        if self._begun:  # too late for another status
            return
        response = error.response()
        if not self._is_coming(scope["method"]):
            await response(scope, self.receive, self.send)
            return
        response.headers["connection"] = "close"
        start = {
            "type": "http.response.start",
            "status": response.status_code,
            "headers": response.raw_headers,
        }
        await self.send(start)
        await self.send({"type": "http.response.body", "body": response.body, "more_body": True})
        left, seconds = LINGERING
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self._is_coming(scope["method"]) and left > 0:
                    left -= len((await self.receive()).get("body", b""))
        await self.send({"type": "http.response.body", "body": b""})
