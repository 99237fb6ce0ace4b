"""Unpack LZ4, which Xet packs chunks with; small and slow, so that tests need no further package."""

from __future__ import annotations

MAGIC = b"\x04\x22\x4d\x18"


def unpack_frame(frame: bytes) -> bytes:
    """Return the content of one frame; blocks may refer to those before."""
    if not frame.startswith(MAGIC):
        raise ValueError("not an LZ4 frame")
    flags = frame[4]
    place = 7 + (8 if flags & 0x08 else 0) + (4 if flags & 0x01 else 0)  # content size, dictionary
    out = bytearray()
    while size := int.from_bytes(frame[place : place + 4], "little"):
        place += 4
        length = size & 0x7FFFFFFF
        block = frame[place : place + length]
        place += length + (4 if flags & 0x10 else 0)  # a checksum of the block
        if size & 0x80000000:
            out += block
        else:
            unpack_block(block, out)
    return bytes(out)


def unpack_block(block: bytes, out: bytearray) -> None:
    place = 0
    while place < len(block):
        token = block[place]
        literals, place = long_length(block, place + 1, token >> 4)
        out += block[place : place + literals]
        place += literals
        if place >= len(block):  # the last sequence has no match
            return
        back = int.from_bytes(block[place : place + 2], "little")
        length, place = long_length(block, place + 2, token & 15)
        for _ in range(length + 4):  # byte by byte: a match may overlap itself
            out.append(out[-back])


def long_length(block: bytes, place: int, length: int) -> tuple[int, int]:
    if length == 15:
        while True:
            length += block[place]
            place += 1
            if block[place - 1] != 255:
                break
    return length, place
