"""A server of this process: its socket, and how it stops.

server = Server.bound("127.0.0.1", 8000)
server.run(service, begun)                   # until SIGTERM or Ctrl-C

On the first signal it refuses new requests with 503 and finishes those that it has accepted; on the second it
stops at once.
"""

from __future__ import annotations

import errno
import ipaddress
import signal
import socket
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic
from types import FrameType
from weakref import WeakKeyDictionary

import uvicorn

from adapter_hub.errors import AdapterHubError, ConflictError, InvalidInputError
from adapter_hub.serving.api import create_app
from adapter_hub.serving.service import Service

WAITING = 512  # connections that the system keeps until they are taken


@dataclass
class Server:
    """A bound socket, on which nobody listens yet.

    Attributes:
        listener: the socket.
    """

    listener: socket.socket
    _running: _Uvicorn | None = None

    @classmethod
    def bound(cls, host: str, port: int) -> Server:
        """Take a port, before anything is loaded for nothing.

        Args:
            host: name or address of this machine.
            port: 0 takes a free one.

        Raises:
            ConflictError: it is taken. InvalidInputError: no address of this machine.
        """
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        except OSError:
            raise InvalidInputError(f"--host {host}: no such name or address") from None
        family, kind, protocol, _, address = found[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(address)
        except OSError as error:
            listener.close()
            raise _refused(error, host, port) from None
        return cls(listener)

    @property
    def url(self) -> str:
        """Where it is asked; for all addresses of the machine, this machine's own."""
        address, port = self.listener.getsockname()[:2]
        name = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(address, address)
        return f"http://[{name}]:{port}" if ":" in name else f"http://{name}:{port}"

    def run(self, service: Service, begun: Callable[[], object]) -> None:
        """Serve until a signal says to stop, or `stop`; then finish what was accepted.

        Args:
            service: an open one, which the caller closes.
            begun: called once the server answers.
        """
        config = uvicorn.Config(
            create_app(service=service),
            log_config=None,
            log_level="warning",
            access_log=False,
            server_header=False,
            backlog=WAITING,
            ws="none",
            timeout_graceful_shutdown=5,
        )
        self._running = _Uvicorn(config, service, begun)
        self._running.run([self.listener])

    def close(self) -> None:
        """Give the port back."""
        self.listener.close()

    def stop(self) -> None:
        """Begin to stop, from any thread."""
        if self._running is not None:
            self._running.handle_exit(signal.SIGTERM, None)


class _Uvicorn(uvicorn.Server):
    """uvicorn, which finishes what it has accepted while it still answers that it is stopping."""

    def __init__(self, config: uvicorn.Config, service: Service, begun: Callable[[], object]) -> None:
        super().__init__(config)
        self._service, self._begun = service, begun
        self._asked: float | None = None
        self._seen: WeakKeyDictionary[object, float] = WeakKeyDictionary()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to listen, and say so."""
        await super().startup(sockets)
        self._begun()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to stop; a second signal stops at once."""
        if self._asked is not None:
            self.should_exit = self.force_exit = True
        self._asked = self._asked or monotonic()
        self._service.draining = True

    async def on_tick(self, counter: int) -> bool:
        """Stop as soon as everything that was accepted is answered, or has had its time."""
        self._close_silent()
        if self._asked is not None:
            late = monotonic() - self._asked > self._service.options.stop_timeout
            if late or not self._service.admission.held:
                return True
        return await super().on_tick(counter)

    def _close_silent(self) -> None:
        """Close connections on which no request has come for too long: uvicorn would wait for ever."""
        now = monotonic()
        for connection in [*self.server_state.connections]:
            waits = getattr(connection, "cycle", self) is None
            if waits and now - self._seen.setdefault(connection, now) > self._service.options.timeout:
                connection.transport.close()


def is_loopback(host: str) -> bool:
    """Tell whether only this machine can reach an address.

    Args:
        host: a name or an address.
    """
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _refused(error: OSError, host: str, port: int) -> AdapterHubError:
    if error.errno == errno.EADDRINUSE:
        return ConflictError(f"port {port} of {host} is taken by another program; choose another with --port")
    if error.errno == errno.EACCES:
        return InvalidInputError(
            f"port {port}: this user may not take it; choose one from 1024 on with --port"
        )
    return InvalidInputError(f"--host {host}: not an address of this machine")
