"""HTTP: connections that stay open, bodies in, answers out, and the faults on the way."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import struct
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs

from loopback_hub import dispatch
from loopback_hub.answers import Answer
from loopback_hub.call import Call, World
from loopback_hub.exchange_log import Entry, ExchangeLog
from loopback_hub.faults import Fault, Faults, spoilt

PIECE = 1 << 20


class Server(ThreadingHTTPServer):
    """One run of the server; several may follow each other on the same world."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(
        self,
        port: int,
        world: World,
        log: ExchangeLog,
        faults: Faults,
        notify: Callable[[str, Entry], None],
    ) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.world = world
        self.log = log
        self.faults = faults
        self.notify = notify
        self.stopping = threading.Event()
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._busy: set[int] = set()  # threads that carry out a request
        self._idle = threading.Condition()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def opened(self, connection: socket.socket) -> None:
        with self._lock:
            self._open.add(connection)

    def closed(self, connection: socket.socket) -> None:
        with self._lock:
            self._open.discard(connection)

    @contextlib.contextmanager
    def busy(self) -> Iterator[None]:
        own = threading.get_ident()
        with self._idle:
            self._busy.add(own)
        try:
            yield
        finally:
            with self._idle:
                self._busy.discard(own)
                self._idle.notify_all()

    def stop(self) -> None:
        """Stop listening and cut what is open: a server that is down. What was begun is finished first."""
        self.stopping.set()
        self.shutdown()
        self.server_close()
        with self._lock:
            for connection in self._open:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
        self.settle()

    def settle(self) -> None:
        """Wait until nothing is being carried out."""
        own = threading.get_ident()  # a callback may stop the server
        with self._idle:
            self._idle.wait_for(lambda: not self._busy - {own}, timeout=10)

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing of connections that break: clients are killed on purpose."""
        if not isinstance(sys.exception(), OSError):
            sys.stderr.write(traceback.format_exc())


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    server: Server
    protocol_version = "HTTP/1.1"
    wbufsize = 65536  # unbuffered writes and Nagle together cost 40 ms per answer
    disable_nagle_algorithm = True

    def setup(self) -> None:
        super().setup()
        self.server.opened(self.connection)

    def finish(self) -> None:
        self.server.closed(self.connection)
        super().finish()

    def log_message(self, format: str, *arguments: object) -> None:
        """Write nothing to stderr; `hub.log` has it."""

    def serve(self) -> None:
        path, _, query = self.path.partition("?")
        path = re.sub(r"^http://[^/]+", "", path)  # as a proxy is asked
        headers = {name.lower(): value for name, value in self.headers.items()}
        endpoint, parts = dispatch.find(self.command, path)
        name = endpoint.name if endpoint else ""
        entry = self.server.log.begin(self.command, path, query, name, headers)
        address = f"http://{headers['host']}" if "host" in headers else self.server.endpoint
        asked = parse_qs(query, keep_blank_values=True)
        call = Call(self.server.world, address, self.command, path, parts, asked, headers)
        try:
            with self.server.busy():
                self.exchange(entry, call, lambda: dispatch.answer(endpoint, call))
        finally:
            if call.upload is not None:
                call.upload.unlink(missing_ok=True)
        self.server.notify("answered", entry)

    def exchange(self, entry: Entry, call: Call, process: Callable[[], Answer]) -> None:
        started = time.monotonic()
        self.receive(call)
        self.server.notify("received", entry)
        fault = self.server.faults.hit(entry)
        answer = None if self.server.stopping.is_set() else self.carry_out(fault, process, call)
        entry.seconds = time.monotonic() - started
        entry.status = 0 if answer is None else answer.status
        self.server.notify("processed", entry)
        if answer is None:
            self.close_connection = True
        else:
            answer.headers["X-Request-Id"] = f"loopback-{entry.number}"
            self.send(answer, fault)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = serve  # noqa: N815

    # --- in

    def receive(self, call: Call) -> None:
        """Read the body to its end, or the next request would start in the middle of it."""
        if self.command == "PUT" and "lfs-upload" in call.path:
            handle, name = tempfile.mkstemp(dir=self.server.world.incoming)
            call.upload = Path(name)
            with os.fdopen(handle, "wb") as stream:
                for piece in self.pieces():
                    stream.write(piece)
        else:
            call.body = b"".join(self.pieces())

    def pieces(self) -> Iterator[bytes]:
        if self.headers.get("transfer-encoding", "").lower() == "chunked":
            while size := int(self.rfile.readline().split(b";")[0], 16):
                yield self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return
        left = int(self.headers.get("content-length", 0))
        while left:
            piece = self.rfile.read(min(left, PIECE))
            if not piece:
                raise ConnectionError("the client is gone")
            left -= len(piece)
            yield piece

    # --- between

    def carry_out(self, fault: Fault | None, process: Callable[[], Answer], call: Call) -> Answer | None:
        """Return the answer, or None if the connection is to be cut without one."""
        kind = fault.kind if fault else ""
        if fault is None:
            return process()
        if kind == "drop":
            return None
        if kind == "stall":
            self.server.stopping.wait(fault.seconds)
            return None
        if kind == "status":
            if fault.carried_out:
                process()
            return fault.answer()
        if kind == "stale":
            call.changes_ago = fault.changes
        if kind == "before":
            fault.action()
        answer = process()
        if kind == "after":
            fault.action()
        if kind == "forge":
            fault.forge(answer)
        return None if kind == "lose" else answer

    # --- out

    def send(self, answer: Answer, fault: Fault | None = None) -> None:
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        if answer.pieces is not None:
            self.send_pieces(answer.pieces)
            return
        self.send_header("Content-Length", str(answer.size))
        self.end_headers()
        kind = fault.kind if fault else ""
        if self.command == "HEAD":
            self.wfile.flush()
            return
        if kind in ("truncate", "reset", "stall-body"):
            content = answer.content()
            self.wfile.write(content[: len(content) // 2])
            self.cut(kind, fault.seconds if fault else 0)
        elif kind == "wrong-bytes":
            self.wfile.write(spoilt(answer.content()))
        elif answer.file is None:
            self.wfile.write(answer.body)
        else:
            self.send_file(answer)
        if not self.wfile.closed:
            self.wfile.flush()

    def send_pieces(self, pieces: Iterator[bytes]) -> None:
        """Send a body in chunks, for as long as there are some and somebody listens."""
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for piece in pieces:
            self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))
        self.wfile.write(b"0\r\n\r\n")
        self.wfile.flush()

    def send_file(self, answer: Answer) -> None:
        assert answer.file is not None
        with answer.file.open("rb") as stream:
            stream.seek(answer.start)
            left = answer.size
            while left:
                piece = stream.read(min(left, PIECE))
                self.wfile.write(piece)
                left -= len(piece)

    def cut(self, kind: str, seconds: float) -> None:
        """End a body that has only half been sent."""
        self.wfile.flush()
        self.close_connection = True
        if kind == "stall-body":
            self.server.stopping.wait(seconds)
        if kind == "reset":
            self.server.closed(self.connection)
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            os.close(self.connection.detach())  # a plain close would send FIN first
