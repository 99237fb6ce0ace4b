"""Receiving a form with a recording: its file is streamed to the disk, and nobody else can read it there.

folder = UploadFolder()
async with folder.receiving(request, most_bytes=10**8, timeout=30.0) as form:
    form.fields, form.files["file"].path

python-multipart parses; what is too large is refused as soon as it is.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import python_multipart
from filelock import Timeout
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request

from adapter_hub.errors import AdapterHubError
from adapter_hub.escaping import shown
from adapter_hub.files.locks import lock_file
from adapter_hub.files.ownership import is_ours
from adapter_hub.serving.api_errors import ApiError

PREFIX = "adapter-hub-uploads-"
MOST_FIELDS = 64
LONGEST_FIELD = 2**16  # bytes
MOST_HEADERS = 2**16  # bytes, of all parts together
PIECE = 2**20  # bytes that are written to the disk at once


@dataclass
class ReceivedFile:
    """A file of a form.

    Attributes:
        name: as the client calls it, made harmless.
        path: where it is, until the request ends.
        bytes: its size.
    """

    name: str
    path: Path
    bytes: int = 0


@dataclass
class Form:
    """What a form holds.

    Attributes:
        fields: names and texts, in order.
        files: by the names of their fields.
    """

    fields: list[tuple[str, str]] = field(default_factory=list)
    files: dict[str, ReceivedFile] = field(default_factory=dict)


class UploadFolder:
    """A folder of this process for what it receives; those of processes that were killed are removed."""

    def __init__(self) -> None:
        """Make it."""
        parent = Path(tempfile.gettempdir())
        for old in parent.glob(f"{PREFIX}*"):
            _remove_if_left(old)
        while True:
            self.folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))
            self._lock = lock_file(self.folder / "lock", 0.0)
            with suppress(Timeout, OSError):
                self._lock.acquire()
                if (self.folder / "lock").exists():  # nobody took it for one that is left
                    return

    def close(self) -> None:
        """Remove it."""
        self._lock.release()
        shutil.rmtree(self.folder, ignore_errors=True)

    @asynccontextmanager
    async def receiving(self, request: Request, most_bytes: int, timeout: float) -> AsyncIterator[Form]:
        """Receive a form; its files are there as long as the context lasts.

        Args:
            request: whose body it is.
            most_bytes: of the body.
            timeout: seconds in which the next piece has to come.

        Raises:
            ApiError: it is no form, larger, or comes too slowly.
            ClientDisconnect: the client went away.
        """
        receiver = _Receiver(self.folder)
        try:
            yield await _received(request, receiver, most_bytes, timeout)
        finally:
            receiver.remove()


@dataclass
class _Receiver:
    """Takes what the parser finds."""

    folder: Path
    form: Form = field(default_factory=Form)
    received: int = 0
    ended: bool = False
    _headers: dict[bytes, bytes] = field(default_factory=dict)
    _header: tuple[bytearray, bytearray] = field(default_factory=lambda: (bytearray(), bytearray()))
    _header_bytes: int = 0
    _name: str = ""
    _value: bytearray | None = None
    _file: BinaryIO | None = None
    _paths: list[Path] = field(default_factory=list)
    _unwritten: bytearray = field(default_factory=bytearray)

    def callbacks(self) -> python_multipart.multipart.MultipartCallbacks:
        """Return what the parser is to call."""
        return {
            "on_part_begin": self._begin,
            "on_header_field": lambda data, start, end: self._extend(0, data[start:end]),
            "on_header_value": lambda data, start, end: self._extend(1, data[start:end]),
            "on_header_end": self._keep_header,
            "on_headers_finished": self._open,
            "on_part_data": self._take,
            "on_part_end": self._close,
            "on_end": self._end,
        }

    def flush(self, least: int = 1) -> None:
        """Write to the disk what waits, if it is at least `least` bytes."""
        if self._file is not None and len(self._unwritten) >= least:
            self._file.write(self._unwritten)
            self._unwritten.clear()

    @property
    def waiting(self) -> int:
        """The bytes that are not on the disk yet."""
        return len(self._unwritten)

    def remove(self) -> None:
        """Close and remove the files."""
        if self._file is not None:
            self._file.close()
        for path in self._paths:
            path.unlink(missing_ok=True)

    def _begin(self) -> None:
        self._headers, self._name, self._value = {}, "", None

    def _extend(self, part: int, data: bytes) -> None:
        self._header[part].extend(data)
        self._header_bytes += len(data)
        if self._header_bytes > MOST_HEADERS:
            raise ApiError(400, f"more than {MOST_HEADERS} bytes of headers in the form")

    def _keep_header(self) -> None:
        name, value = self._header
        self._headers[bytes(name).lower()] = bytes(value)
        name.clear()
        value.clear()

    def _open(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition"))
        if b"name" not in options:
            raise ApiError(400, "a part of the form has no name; expected Content-Disposition with one")
        self._name = _text(options[b"name"], "the name of a field")
        if len(self.form.fields) + len(self.form.files) >= MOST_FIELDS:
            raise ApiError(400, f"more than {MOST_FIELDS} fields in the form")
        if b"filename" not in options:
            self._value = bytearray()
            return
        if self.form.files:
            raise ApiError(400, "several files in the form; expected one, in the field `file`", param="file")
        raw = options[b"filename"].decode("utf-8", "replace").replace("\\", "/").rpartition("/")[2]
        descriptor, name = tempfile.mkstemp(dir=self.folder)
        self._paths.append(Path(name))
        self._file = os.fdopen(descriptor, "wb")
        self.form.files[self._name] = ReceivedFile(shown(raw, 120) or "audio", Path(name))

    def _take(self, data: bytes, start: int, end: int) -> None:
        if self._value is None:
            self._unwritten.extend(data[start:end])
            self.form.files[self._name].bytes += end - start
            return
        if len(self._value) + end - start > LONGEST_FIELD:
            raise ApiError(
                400,
                f"field {shown(self._name, 60)!r}: longer than {LONGEST_FIELD} bytes",
                param=self._name[:60],
            )
        self._value.extend(data[start:end])

    def _close(self) -> None:
        if self._value is not None:
            self.form.fields.append(
                (self._name, _text(bytes(self._value), f"field {shown(self._name, 60)!r}"))
            )
        elif self._file is not None:
            self.flush()
            self._file.close()
            self._file = None

    def _end(self) -> None:
        self.ended = True


async def _received(request: Request, receiver: _Receiver, most: int, timeout: float) -> Form:
    """Read the body piece by piece."""
    kind, options = parse_options_header(request.headers.get("content-type"))
    if kind != b"multipart/form-data" or b"boundary" not in options:
        raise ApiError(400, "expected a form, multipart/form-data, with the recording in its field `file`")
    with suppress(ValueError):
        if int(request.headers.get("content-length", "0")) > most:
            raise _too_large(most)
    try:
        parser = python_multipart.MultipartParser(options[b"boundary"], receiver.callbacks())
        async with aclosing(request.stream()) as stream:
            while (piece := await _next(stream, timeout)) is not None:
                receiver.received += len(piece)
                if receiver.received > most:
                    raise _too_large(most)
                parser.write(piece)
                if receiver.waiting >= PIECE:
                    await run_in_threadpool(receiver.flush)
        parser.finalize()
    except FormParserError:
        raise _malformed() from None
    if not receiver.ended:
        raise _malformed()
    return receiver.form


async def _next(stream: AsyncIterator[bytes], timeout: float) -> bytes | None:
    try:
        async with asyncio.timeout(timeout):
            return await anext(stream, None)
    except TimeoutError:
        raise ApiError(
            408, f"nothing came for {timeout:g} s; send the recording again, without a pause", code="timeout"
        ) from None


def _text(raw: bytes, what: str) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        raise ApiError(400, f"{what}: expected text in UTF-8") from None


def _malformed() -> ApiError:
    return ApiError(400, "the form is malformed or ends early; send it again as multipart/form-data")


def _too_large(most: int) -> ApiError:
    return ApiError(
        413,
        f"larger than the {most / 10**6:g} MB that this server takes; send compressed audio, or parts of it",
        code="file_too_large",
        param="file",
    )


def _remove_if_left(folder: Path) -> None:
    """Remove the folder of a process that is no more: nobody holds its lock."""
    with suppress(OSError, Timeout, AdapterHubError):
        if is_ours(folder.lstat()) and (folder / "lock").exists():
            with lock_file(folder / "lock", 0.0).acquire():
                shutil.rmtree(folder, ignore_errors=True)
