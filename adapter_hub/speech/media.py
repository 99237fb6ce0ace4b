"""Audio of any container that ffmpeg reads, by PyAV, which is the extra `media`.

with open_media(path, source, "why libsndfile does not do", counted) as media:
for block in media.blocks(160_000):         # [frames, channels] float32
...
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adapter_hub.errors import InvalidInputError, MissingExtraError
from adapter_hub.speech.counting import Counted
from adapter_hub.speech.flaws import AGAIN, TOLERANCE, ends_early, no_end, reason_of
from adapter_hub.speech.limits import check_header

Block = NDArray[np.float32]


@dataclass
class Media:
    """The first audio stream of any container that ffmpeg reads.

    Attributes:
        av: the module PyAV.
        container: of PyAV.
        stream: of the container.
        counted: what is there, where it could be counted.
        flaw: once it was read: why the file is not whole; empty if it is.
        bad: once it was read: packets that could not be decoded.
        rate: samples per second.
        channels: their number.
        seconds: as counted or stated; None where that is not known before the end.
    """

    av: Any
    container: Any
    stream: Any
    counted: Counted | None
    flaw: str = ""
    bad: int = 0
    rate: int = field(init=False)
    channels: int = field(init=False)
    seconds: float | None = field(init=False)

    def __post_init__(self) -> None:
        self.rate, self.channels = self.stream.codec_context.sample_rate, self.stream.codec_context.channels
        lengths = [
            self.counted.seconds if self.counted else None,
            float(self.stream.duration * self.stream.time_base) if self.stream.duration else None,
            self.container.duration / self.av.time_base if self.container.duration else None,
        ]
        self.seconds = next((length for length in lengths if length), None)

    def blocks(self, size: int, start: int = 0) -> Iterator[Block]:
        """Yield all samples from `start` on; frames that cannot be decoded are left out, and counted.

        Args:
            size: frames of a block `[n, channels]`, at most.
            start: frames that are passed over.
        """
        waiting: list[Block] = []
        held, done, skip = 0, 0, start
        for block in self._frames():
            done += len(block)
            kept = block[skip:]
            skip = max(0, skip - len(block))
            waiting.append(kept)
            held += len(kept)
            while held >= size:
                together = np.concatenate(waiting)
                yield together[:size]
                waiting, held = [together[size:]], held - size
        if held:
            yield np.concatenate(waiting)
        self.flaw = self._flaw(done / self.rate)

    def _flaw(self, done: float) -> str:
        stated = (self.counted.stated if self.counted and not self.counted.joined else None) or self.seconds
        if stated and stated - done > 2 * TOLERANCE:
            return ends_early(done, stated)
        if self.counted and not self.counted.ended:
            return no_end(done)
        if self.bad or (self.counted and self.counted.damaged):
            return f"parts of it cannot be decoded and are left out; the file is damaged, {AGAIN}"
        return ""

    def _frames(self) -> Iterator[Block]:
        """Yield what each packet holds, at the rate and channels of the first one."""
        resampler, made_for, bad = None, None, 0
        for frame in self._decoded():
            if frame is None:
                bad += 1
                continue
            kind = (frame.format.name, frame.layout.name, frame.sample_rate)
            if resampler is None or kind != made_for:  # joined streams may differ
                layout = resampler.layout if resampler else frame.layout
                resampler = self.av.AudioResampler(format="fltp", layout=layout, rate=self.rate)
                made_for, self.channels = kind, len(layout.channels)
            frame.pts = None
            try:
                found = resampler.resample(frame)
            except (self.av.error.FFmpegError, ValueError):
                bad += 1
                continue
            yield from map(_block, found)
        if resampler is not None:
            with suppress(self.av.error.FFmpegError, ValueError):
                yield from map(_block, resampler.resample(None))
        self.bad = bad

    def _decoded(self) -> Iterator[Any]:
        """Yield decoded frames, and None for a packet that cannot be decoded."""
        packets = self.container.demux(self.stream)
        while True:
            try:
                packet = next(packets, None)
                if packet is None:
                    return
                yield from packet.decode()
            except self.av.error.EOFError:
                return
            except self.av.error.FFmpegError:
                yield None


@contextmanager
def open_media(path: Path, source: Any, reason: str, counted: Counted | None) -> Iterator[Media]:
    """Open a file that libsndfile does not read, or not all of.

    Args:
        path: its name in errors.
        source: the file, from wherever it was read to.
        reason: why libsndfile does not do.
        counted: what is there, where it could be counted.

    Raises:
        InvalidInputError: ffmpeg does not read it either. MissingExtraError: PyAV is not installed.
    """
    if (av := pyav()) is None:
        raise MissingExtraError(
            f"{path}: cannot be read as audio ({reason}) without PyAV",
            "media",
            "or convert it to WAV or FLAC",
        )
    try:
        container = opened_by(av, source)
    except (av.error.FFmpegError, ValueError) as error:
        raise InvalidInputError(
            f"{path}: cannot be read as audio ({reason_of(error)}); expected WAV, FLAC, MP3 or OGG, or "
            "another format that ffmpeg reads"
        ) from None
    with container:
        media = Media(av, container, audio_of(container, str(path)), counted)
        check_header(str(path), media.rate, media.channels, 0)
        yield media


def audio_of(container: Any, where: str) -> Any:
    """Return the first audio stream of a container, which has to have a decoder, a rate and channels.

    Args:
        container: of PyAV.
        where: its name in errors.

    Raises:
        InvalidInputError: there is none.
    """
    if not container.streams.audio:
        raise InvalidInputError(f"{where}: holds no audio")
    stream = container.streams.audio[0]
    context = stream.codec_context
    if context is None or context.sample_rate < 1 or context.channels < 1:
        raise InvalidInputError(
            f"{where}: cannot be read as audio (an unknown codec, or no rate or channels); expected WAV, "
            "FLAC, MP3 or OGG, or another format that ffmpeg reads"
        )
    return stream


def pyav() -> Any:
    """Return PyAV, or None without the extra."""
    try:
        import av  # noqa: PLC0415 - an extra
    except ImportError:
        return None
    return av


def opened_by(av: Any, source: Any) -> Any:
    """Open a file with PyAV from its beginning.

    A playlist or a description of a session would have ffmpeg open other files, and wait for the network.

    Args:
        av: the module PyAV.
        source: the file, from wherever it was read to.
    """
    source.seek(0)
    return av.open(source, options={"protocol_whitelist": "none"})


def _block(frame: Any) -> Block:
    """Return a resampled frame of PyAV as `[n, channels]`."""
    return np.ascontiguousarray(frame.to_ndarray().T, dtype=np.float32)
