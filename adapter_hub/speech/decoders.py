"""Decoders of audio files: libsndfile where it hears all that is there, PyAV (ffmpeg) for everything else.

    with open_decoder(Path("talk.m4a")) as decoder:
        for block in decoder.blocks(160_000):       # [frames, channels] float32
            ...
        decoder.flaw                                # "" or why the file is not whole

Headers are not believed: the frames of MP3 and Ogg are counted first (`counting`), and a file of which
libsndfile would decode a part only goes to PyAV, which is the extra `media`. Without it that file is refused
and the extra named; nothing is ever half heard in silence.
"""

from __future__ import annotations

import io
import mmap
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import soundfile

from adapter_hub.errors import InvalidInputError
from adapter_hub.files.reading import LFS_POINTER, check_content, open_regular
from adapter_hub.native_notes import without_native_notes
from adapter_hub.speech.counting import Counted, count_mpeg, count_ogg
from adapter_hub.speech.flaws import AGAIN, TOLERANCE, ends_early, no_end, reason_of
from adapter_hub.speech.limits import UNKNOWN_FRAMES, check_header
from adapter_hub.speech.media import Block, Media, audio_of, open_media, opened_by, pyav

UNKNOWN_SIZE = 0x7FFF_F000  # programs that write to a pipe put this size or more into a header
DECLARED = re.compile(r":\s*(\d+) \(should be (\d+)\)")  # what libsndfile says of a header and the file
STEP = 1_000  # frames that are read at a time where a larger read has failed
MAGIC = 4  # bytes by which a format is recognised
HEADER = 2_000  # bytes; what is longer than that holds more than a header


class Decoder(Protocol):
    """An open audio file.

    Attributes:
        rate: samples per second.
        channels: their number.
        seconds: as stated or counted; None where that is not known before the end.
        flaw: once it was read: why the file is not whole; empty if it is.
    """

    rate: int
    channels: int
    seconds: float | None
    flaw: str

    def blocks(self, size: int, start: int = 0) -> Iterator[Block]:
        """Yield all samples from `start` on, `[n, channels]` float32 of at most `size` frames.

        Args:
            size: frames, at least 1.
            start: frames that are passed over.
        """
        ...


@dataclass
class _Sndfile:
    """libsndfile; its file ends where it says, which `open_decoder` has compared with what is there."""

    file: Any
    source: Any
    counted: Counted | None
    missing: str = ""
    flaw: str = ""
    rate: int = field(init=False)
    channels: int = field(init=False)
    seconds: float | None = field(init=False)

    def __post_init__(self) -> None:
        self.rate, self.channels = self.file.samplerate, self.file.channels
        self.seconds = self.file.frames / self.rate
        if self.counted is not None:
            self.seconds = min(self.seconds, self.counted.seconds)

    def blocks(self, size: int, start: int = 0) -> Iterator[Block]:
        """Yield all samples, see `Decoder`."""
        done = min(start, self.file.frames)
        try:
            if done:
                self._quietly(self.file.seek, done)
            while len(block := self._read(size)):
                done += len(block)
                yield block
        except (soundfile.SoundFileError, TypeError):
            for block in self._rest(size, done):
                done += len(block)
                yield block
            self.flaw = self.flaw or self._flaw(done / self.rate, broken=True)
            return
        self.flaw = self.missing or self._flaw(done / self.rate, broken=False)

    def _read(self, size: int) -> Block:
        block: Block = self._quietly(self.file.read, size, dtype="float32", always_2d=True)
        return block

    def _quietly(self, function: Callable[..., Any], *values: Any, **options: Any) -> Any:
        """Call libsndfile; of MPEG audio its library writes notes to the terminal."""
        if not self.file.subtype.startswith("MPEG"):
            return function(*values, **options)
        with without_native_notes():
            return function(*values, **options)

    def _rest(self, size: int, done: int) -> Iterator[Block]:
        """Yield what can be had where libsndfile stopped: by PyAV, else in small steps up to the damage."""
        if (av := pyav()) is not None:
            with suppress(av.error.FFmpegError, InvalidInputError), opened_by(av, self.source) as container:
                media = Media(av, container, audio_of(container, "it"), self.counted)
                yield from media.blocks(size, done)
                self.flaw = media.flaw
            return
        with suppress(soundfile.SoundFileError, TypeError):
            self._quietly(self.file.seek, done)
            while len(block := self._read(STEP)):
                yield block

    def _flaw(self, done: float, broken: bool) -> str:
        stated = self.file.frames / self.rate
        if self.counted is not None:  # libsndfile only guesses the length of these
            stated = self.counted.stated if self.counted.stated is not None else self.counted.seconds
            if not self.counted.ended and stated - done <= TOLERANCE:
                return no_end(done)
        guessed = self.counted is not None or self.file.subtype.startswith("MPEG")
        if broken or stated - done > (TOLERANCE if guessed else 0):
            return ends_early(done, stated)
        return ""


@contextmanager
def open_decoder(path: Path, data: bytes | None = None) -> Iterator[Decoder]:
    """Open an audio file, or its bytes, by the decoder that hears all of it.

    It is opened by its descriptor: never a pipe or device, and its name need not be UTF-8.

    Args:
        path: the file; of bytes their name in errors.
        data: the whole file.

    Raises:
        InvalidInputError: no decoder reads it, or it has an implausible rate or number of channels.
        MissingExtraError: PyAV may read it, and is not installed.
    """
    with open_regular(path) if data is None else _Bytes(data) as source:
        check_content(_start(source), str(path))
        counted = _count(source)
        reason = _uneven(counted)  # before libsndfile, which would talk about it
        if not reason:
            try:
                with without_native_notes() if counted else nullcontext():
                    file = soundfile.SoundFile(_own_descriptor(source) if data is None else source)
            except (soundfile.SoundFileError, TypeError) as error:
                reason = reason_of(error)
            else:
                with file:
                    reason = _heard_in_part(file, counted, _size(source))
                    if not reason:
                        check_header(str(path), file.samplerate, file.channels, file.frames)
                        yield _Sndfile(file, source, counted, _missing(file))
                        return
        with open_media(path, source, reason, counted) as media:
            yield media


def _own_descriptor(source: Any) -> int:
    """Return a descriptor of libsndfile's own: older ones close it where they refuse a file."""
    return os.dup(source.fileno())


class _Bytes(io.BytesIO):
    """Bytes as a file; seeking before their beginning raises nothing, since the caller is C code."""

    def seek(self, offset: int, whence: int = 0, /) -> int:
        try:
            return super().seek(offset, whence)
        except (ValueError, OverflowError):
            return super().seek(0)  # as soundfile answers where seeking fails


def _size(source: Any) -> int:
    return len(source.getbuffer()) if isinstance(source, io.BytesIO) else os.fstat(source.fileno()).st_size


def _start(source: Any) -> bytes:
    """Return its first bytes, and leave its place in it alone."""
    if isinstance(source, io.BytesIO):
        return bytes(source.getbuffer()[: len(LFS_POINTER)])
    return os.pread(source.fileno(), len(LFS_POINTER), 0)


def _count(source: Any) -> Counted | None:
    """Count the frames of a format whose length libsndfile guesses."""
    if _size(source) < MAGIC:
        return None
    if isinstance(source, io.BytesIO):
        return _counted(source.getbuffer())
    with mmap.mmap(source.fileno(), 0, access=mmap.ACCESS_READ) as mapped, memoryview(mapped) as data:
        return _counted(data)


def _counted(data: memoryview) -> Counted | None:
    head = bytes(data[:MAGIC])
    if head == b"OggS":
        return count_ogg(data)
    is_mpeg = head[:3] == b"ID3" or (head[0] == 0xFF and head[1] & 0xE0 == 0xE0)
    return count_mpeg(data) if is_mpeg else None


def _uneven(counted: Counted | None) -> str:
    """Say why a decoder that believes headers would not hear all of a file; empty if it does."""
    if counted is None:
        return ""
    if counted.joined:
        return "several recordings were joined in it"
    if counted.damaged:
        return "parts of it are damaged"
    if counted.stated is not None and abs(counted.stated - counted.seconds) > TOLERANCE:
        return f"its header states {counted.stated:.1f} s, but {counted.seconds:.1f} s are there"
    return ""


def _heard_in_part(file: Any, counted: Counted | None, size: int) -> str:
    """Say why libsndfile would not hear all of a file of `size` bytes; empty if it does."""
    if file.frames >= UNKNOWN_FRAMES:
        return "its header does not state its duration"
    if file.frames == 0 and size > HEADER:
        return "its header states no samples"
    stated = file.frames / file.samplerate
    if counted is not None and counted.seconds - stated > TOLERANCE:
        return f"its header states {stated:.1f} s, but {counted.seconds:.1f} s are there"
    return ""


def _missing(file: Any) -> str:
    """Say how many bytes are missing at the end of an uncompressed file, if they are more than a moment's."""
    for declared, found in DECLARED.findall(file.extra_info):
        lacking = int(declared) - int(found)
        moment = int(found) / max(file.frames, 1) * file.samplerate * 0.05
        if lacking > moment and int(declared) < UNKNOWN_SIZE:
            return (
                f"{found} of the {declared} bytes that its header states are there; the file is truncated, "
                f"{AGAIN}"
            )
    return ""
