"""Segments as subtitles: SubRip and WebVTT.

to_srt(transcript.segments), to_vtt(transcript.segments)
"""

from __future__ import annotations

from collections.abc import Sequence

from adapter_hub.escaping import without_controls
from adapter_hub.transcription.transcript import Segment


def to_srt(segments: Sequence[Segment]) -> str:
    """Return segments as SubRip text.

    >>> print(to_srt([Segment(0.0, 1.5, "to")]))
    1
    00:00:00,000 --> 00:00:01,500
    to
    """
    cues = [f"{i}\n{_times(segment, ',')}\n{_plain(_line(segment))}" for i, segment in enumerate(segments, 1)]
    return "\n\n".join(cues)


def to_vtt(segments: Sequence[Segment]) -> str:
    """Return segments as WebVTT text.

    >>> print(to_vtt([Segment(0.0, 1.5, "to & fro")]))
    WEBVTT
    <BLANKLINE>
    00:00:00.000 --> 00:00:01.500
    to &amp; fro
    """
    cues = [f"{_times(segment, '.')}\n{_escaped(_line(segment))}" for segment in segments]
    return "\n\n".join(["WEBVTT", *cues])


def _times(segment: Segment, point: str) -> str:
    return f"{_clock(segment.start, point)} --> {_clock(segment.end, point)}"


def _line(segment: Segment) -> str:
    """Return the text in one line: an empty line would end the cue."""
    return without_controls(" ".join(segment.text.split()))


def _plain(text: str) -> str:
    """Return text without markup: SubRip has no escapes, so full-width characters replace its signs."""
    return text.replace("-->", "--＞").translate({ord("<"): "＜", ord("{"): "｛"})


def _escaped(text: str) -> str:
    """Return text with WebVTT's signs escaped; `-->` would start a cue."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _clock(seconds: float, point: str) -> str:
    milliseconds = round(seconds * 1000)
    minutes, milliseconds = divmod(milliseconds, 60_000)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}:{minutes:02}:{milliseconds // 1000:02}{point}{milliseconds % 1000:03}"
