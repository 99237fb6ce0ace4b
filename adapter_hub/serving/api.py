"""OpenAI's audio API as an ASGI application, with what operating it needs, and a page to try it.

app = create_app(service=service)           # or without one: it is opened when the application starts

| route | answer |
|---|---|
| `POST /v1/audio/transcriptions`, `/v1/audio/translations` | a transcript, or its events |
| `GET /v1/models`, `/v1/models/{id}` | what is served |
| `GET /health`, `/ready`, `/metrics` | for those who operate it |
| `GET /` | the page |
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from importlib.resources import files
from typing import Any

from anyio import to_thread
from starlette.applications import Starlette
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route, Router
from starlette.types import ASGIApp, Receive, Scope, Send

from adapter_hub.errors import AdapterHubError
from adapter_hub.serving.answers import ADAPTER_HEADER
from adapter_hub.serving.api_errors import api_error_of
from adapter_hub.serving.gate import Gate
from adapter_hub.serving.metrics import CONTENT_TYPE
from adapter_hub.serving.options import ServingOptions
from adapter_hub.serving.service import Service
from adapter_hub.serving.speech_api import SpeechApi

LOGGER = logging.getLogger("adapter_hub.serving")
PAGE = {"": "index.html", "page.css": "page.css", "page.js": "page.js"}
TYPES = {"html": "text/html", "css": "text/css", "js": "text/javascript"}
PAGE_HEADERS = {
    "content-security-policy": "default-src 'self'; img-src data:; frame-ancestors 'none'; base-uri 'none'",
    "referrer-policy": "no-referrer",
    "cache-control": "no-cache",
}


def create_app(options: ServingOptions | None = None, *, service: Service | None = None) -> Starlette:
    """Return the application.

    Args:
        options: how to serve; None reads the variables of the environment.
        service: an open one, which the caller closes; by default one is opened when the application starts,
            and closed when it ends.
    """
    application = _Application(service)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        if service is not None:
            yield
            return
        chosen = options or ServingOptions.from_environment()
        opened = await asyncio.to_thread(Service.open, chosen, LOGGER.warning)
        application.serve(opened)
        try:
            yield
        finally:
            opened.draining = True
            await asyncio.to_thread(opened.close)

    app = Starlette(lifespan=lifespan)
    app.mount("/", application)
    return app


class _Application:
    """The routes behind their gate, once there is a service."""

    def __init__(self, service: Service | None) -> None:
        self._gate: ASGIApp | None = None
        if service is not None:
            self.serve(service)

    def serve(self, service: Service) -> None:
        """Answer with this service from now on."""
        gate = Gate(Router(_routes(service), redirect_slashes=False), service)
        origins = service.options.allow_origins
        told = ("x-request-id", ADAPTER_HEADER)
        self._gate = gate if not origins else CORSMiddleware(gate, origins, ["*"], ["*"], expose_headers=told)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        assert self._gate is not None, "the application's lifespan has not begun"
        await self._gate(scope, receive, send)


def _routes(service: Service) -> list[Route]:
    return [
        *(Route(f"/{name}", _file(file)) for name, file in PAGE.items()),
        Route("/health", _fixed({"status": "ok"})),
        Route("/ready", _ready(service)),
        Route("/metrics", _metrics(service)),
        Route("/v1/models", _models(service)),
        Route("/v1/models/{model:path}", _model(service)),
        Route("/v1/audio/transcriptions", SpeechApi(service, "transcribe"), methods=["POST"]),
        Route("/v1/audio/translations", SpeechApi(service, "translate"), methods=["POST"]),
    ]


_Endpoint = Callable[[Request], Coroutine[Any, Any, Response]]


def _file(name: str) -> _Endpoint:
    content = (files("adapter_hub.serving") / "page" / name).read_bytes()
    kind = f"{TYPES[name.rpartition('.')[2]]}; charset=utf-8"

    async def page(_: Request) -> Response:
        return Response(content, headers={"content-type": kind, **PAGE_HEADERS})

    return page


def _fixed(about: dict[str, Any]) -> _Endpoint:
    async def fixed(_: Request) -> Response:
        return JSONResponse(about)

    return fixed


def _ready(service: Service) -> _Endpoint:
    async def ready(_: Request) -> Response:
        state = "stopping" if service.draining else "ready"
        return JSONResponse({"status": state}, 503 if service.draining else 200)

    return ready


def _metrics(service: Service) -> _Endpoint:
    async def metrics(_: Request) -> Response:
        return Response(service.metrics.text(), headers={"content-type": CONTENT_TYPE})

    return metrics


def _models(service: Service) -> _Endpoint:
    async def models(_: Request) -> Response:
        found = await to_thread.run_sync(service.models.listed)
        return JSONResponse({"object": "list", "data": found})

    return models


def _model(service: Service) -> _Endpoint:
    async def model(request: Request) -> Response:
        name = request.path_params["model"]
        try:
            about = await to_thread.run_sync(service.models.described, name)
        except AdapterHubError as error:
            raise api_error_of(error, service.redacted, "model") from None
        return JSONResponse(about)

    return model
