"""How much audio an MP3 or Ogg file holds, counted frame by frame: what a header says may be wrong.

    count_mpeg(data)        # Counted(seconds=52.1, stated=None, …); None if it is no MPEG audio
    count_ogg(data)

libsndfile believes headers. Of an MP3 without a Xing tag it estimates the length from the first bit rate, and
stops there; of streams that were joined (radio, recorders) it reads the first. Nothing is decoded here: a
frame's header states its length, and an hour takes about a tenth of a second.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

Bytes = bytes | memoryview

ID3, ID3_HEADER = b"ID3", 10
RESYNC = 2**16  # bytes after which a file that begins with no frame is something else
# kbit/s by index, for layers I to III of MPEG 1, then layer I and layers II and III of MPEG 2
BIT_RATES = {
    (1, 1): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (1, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (1, 3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (2, 1): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (2, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (2, 3): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
SAMPLE_RATES = (44_100, 48_000, 32_000)  # of MPEG 1; half of it for MPEG 2, a quarter for 2.5
TAGS = (b"Xing", b"Info")
PAGE, PAGE_HEADER = b"OggS", 27
BEGINS, ENDS = 2, 4  # flags of an Ogg page
OPUS, VORBIS = b"OpusHead", b"\x01vorbis"
OPUS_RATE = 48_000  # of an Opus stream's positions, whatever was recorded


@dataclass(frozen=True)
class Counted:
    """What is there.

    Attributes:
        seconds: of audio; of joined streams all of them.
        stated: seconds by a tag at the beginning; None without one.
        joined: several streams, one after the other.
        damaged: between its frames are bytes that belong to none.
        ended: the last frame is whole, and marked as the last where the format does so.
    """

    seconds: float
    stated: float | None = None
    joined: bool = False
    damaged: bool = False
    ended: bool = True


class _Frame(NamedTuple):
    """One MPEG frame: its bytes, samples, samples per second, and where a tag would be inside."""

    size: int
    samples: int
    rate: int
    tag: int


def count_mpeg(data: Bytes) -> Counted | None:
    """Count the frames of an MPEG audio file; None if it does not begin with one.

    Args:
        data: the whole file.
    """
    place = _after_tags(data, 0)
    if _frame(data, place) is None and _found(data, place, RESYNC) is None:
        return None
    seconds, rates, tags, damaged, ended = 0.0, set(), [], False, True
    while place + 4 <= len(data):
        frame = _frame(data, place)
        if frame is None:
            after = _after_tags(data, place)
            following = after if after > place else _found(data, place, len(data))
            if following is None:
                damaged = damaged or not _is_footer(data, place)
                break
            damaged = damaged or after == place
            place = following
            continue
        if place + frame.size > len(data):
            ended = False
            break
        if bytes(data[place + frame.tag : place + frame.tag + 4]) in TAGS:
            tags.append(_stated(data, place, frame))
        else:
            seconds += frame.samples / frame.rate
        rates.add(frame.rate)
        place += frame.size
    joined = len(tags) > 1 or len(rates) > 1
    return Counted(seconds, tags[0] if tags else None, joined, damaged, ended)


def count_ogg(data: Bytes) -> Counted | None:
    """Count the audio of an Ogg file by the positions of its pages; None if it holds neither Vorbis nor Opus.

    Args:
        data: the whole file.
    """
    seconds, rate, position, serial = 0.0, 0, 0, -1
    joined = damaged = begun = False
    flags = 0
    for page in _pages(data):
        if page is None:
            damaged = True
            continue
        flags, where, stream, body = page
        if flags & BEGINS:
            found = _ogg_rate(body)
            if not found:
                continue  # another stream beside the audio
            if begun:
                seconds, joined = seconds + position / rate, True
            rate, serial, position, begun = found, stream, 0, True
        elif stream == serial and where >= 0:
            position = where
    if not begun:
        return None
    return Counted(seconds + position / rate, None, joined, damaged, bool(flags & ENDS))


def _after_tags(data: Bytes, place: int) -> int:
    """Return where the frames begin behind ID3 tags, of which there may be several."""
    while bytes(data[place : place + 3]) == ID3 and place + ID3_HEADER <= len(data):
        size = 0
        for byte in data[place + 6 : place + 10]:
            size = size << 7 | byte & 0x7F
        footer = ID3_HEADER if data[place + 5] & 0x10 else 0
        place += ID3_HEADER + size + footer
    return place


def _is_footer(data: Bytes, place: int) -> bool:
    """Tell whether the rest of a file is a tag of an older kind, or padding."""
    rest = bytes(data[place:])
    return rest.startswith((b"TAG", b"APETAGEX", b"LYRICS")) or not rest.strip(b"\0")


def _frame(data: Bytes, place: int) -> _Frame | None:
    """Read the header of a frame; None if there is none."""
    if place + 4 > len(data) or data[place] != 0xFF or data[place + 1] & 0xE0 != 0xE0:
        return None
    version, layer = data[place + 1] >> 3 & 3, 4 - (data[place + 1] >> 1 & 3)
    bits, rate = data[place + 2] >> 4, data[place + 2] >> 2 & 3
    if version == 1 or layer == 4 or bits in (0, 15) or rate == 3:
        return None
    first = version == 3
    hertz = SAMPLE_RATES[rate] >> {3: 0, 2: 1, 0: 2}[version]
    bit_rate = 1000 * BIT_RATES[1 if first else 2, layer][bits - 1]
    samples = 384 if layer == 1 else 1152 if layer == 2 or first else 576
    padding = data[place + 2] >> 1 & 1
    size = (
        (12 * bit_rate // hertz + padding) * 4 if layer == 1 else samples * bit_rate // 8 // hertz + padding
    )
    mono = data[place + 3] >> 6 == 3
    side = (17 if mono else 32) if first else (9 if mono else 17)
    return _Frame(size, samples, hertz, 4 + side)


def _found(data: Bytes, place: int, most: int) -> int | None:
    """Return where the next two frames in a row begin; None if there are none in `most` bytes."""
    for start in range(place + 1, min(place + most, len(data) - 4)):
        frame = _frame(data, start)
        if frame is not None and _frame(data, start + frame.size) is not None:
            return start
    return None


def _stated(data: Bytes, place: int, frame: _Frame) -> float | None:
    """Return the seconds that a Xing tag states."""
    start = place + frame.tag + 8
    if not data[start - 1] & 1 or start + 4 > len(data):
        return None
    return int.from_bytes(data[start : start + 4], "big") * frame.samples / frame.rate


def _pages(data: Bytes) -> Iterator[tuple[int, int, int, bytes] | None]:
    """Yield flags, position, serial number and the first bytes of every page; None where bytes are none's."""
    place, end = 0, len(data)
    while place + PAGE_HEADER <= end:
        if bytes(data[place : place + 4]) != PAGE:
            yield None
            window = bytes(data[place : place + 2 * RESYNC])
            found = window.find(PAGE)
            place += found if found > 0 else max(1, len(window) - 3)
            continue
        segments = data[place + 26]
        body = place + PAGE_HEADER + segments
        size = sum(data[place + PAGE_HEADER : body])
        if body + size > end:
            yield 0, -1, -1, b""  # cut off: the file does not end with a last page
            return
        position = int.from_bytes(data[place + 6 : place + 14], "little", signed=True)
        serial = int.from_bytes(data[place + 14 : place + 18], "little")
        yield data[place + 5], position, serial, bytes(data[body : body + min(size, 32)])
        place = body + size


def _ogg_rate(body: bytes) -> int:
    """Return the positions per second of the stream that a first page begins; 0 if it is no audio."""
    if body.startswith(OPUS):
        return OPUS_RATE
    return int.from_bytes(body[12:16], "little") if body.startswith(VORBIS) else 0
