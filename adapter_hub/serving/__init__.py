"""A server with OpenAI's audio API, whose batches hold the windows of all requests, whatever their adapters.

`adapter-hub serve` runs it; `adapter_hub.serving:app` is the same as an ASGI application, configured by
variables (see `options`), for uvicorn, Ray Serve and others. Importing this package imports nothing heavy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from adapter_hub.errors import MissingExtraError

if TYPE_CHECKING:
    from starlette.applications import Starlette

    app: Starlette

__all__ = ["app", "create_app"]


def create_app() -> Starlette:
    """Return the application; what it serves is loaded when it starts.

    Raises:
        MissingExtraError: without the extra `serve`.
    """
    check_installed()
    from adapter_hub.serving.api import create_app as create  # noqa: PLC0415 - torch

    return create()


def check_installed() -> None:
    """Refuse to go on without the packages that serving needs.

    Raises:
        MissingExtraError: with the command that installs them.
    """
    from importlib.util import find_spec  # noqa: PLC0415

    missing = [
        name
        for name in ("starlette", "uvicorn", "python_multipart", "prometheus_client")
        if find_spec(name) is None
    ]
    if missing:
        raise MissingExtraError(f"serving needs {' and '.join(missing)}", "serve")


def __getattr__(name: str) -> Any:
    """Make the application when it is first asked for."""
    if name != "app":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    made = globals()["app"] = create_app()
    return made
