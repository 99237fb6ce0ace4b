"""When segments begin and end: the model's timestamps, corrected by words' times and by where it sounds.

    segments = corrected(window, segments, words)       # words: those of every segment, or None

A model may let a segment begin long before its first word, or give two the same time. A time that is less
than `LATE` off is the model's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from adapter_hub.decoding.decode import TIMESTAMP_SECONDS
from adapter_hub.speech.audio import SAMPLE_RATE
from adapter_hub.speech.phrases import FRAME, sounding
from adapter_hub.transcription.transcript import Segment, Word, joined_text
from adapter_hub.transcription.windows import Window

LATE = 0.3  # seconds by which a segment may begin before it sounds, or end after
LEAD = 0.1  # seconds before sound that are kept
LONGEST_WORD = 1.0  # seconds; the first word of a text is aligned with all quiet before it, too
SHORTEST = TIMESTAMP_SECONDS  # seconds of a segment, at least


def corrected(
    window: Window,
    segments: Sequence[Segment],
    words: Sequence[Sequence[Word]] | None = None,
    until: float | None = None,
) -> list[Segment]:
    """Return segments in order, none of which is empty, overlaps another, or begins long before it sounds.

    Args:
        window: that they belong to.
        segments: of the window, on the time axis of the recording.
        words: of each segment, where their times are known.
        until: seconds of the window that the segments are from; None is all of it.
    """
    sounds = sounding(window.samples)
    moved = []
    for number, segment in enumerate(segments):
        start, end = segment.start, segment.end
        if words is not None and words[number]:
            start, end = _by_words(start, end, words[number])
        first, last = _by_sound(sounds, start - window.start, end - window.start)
        moved.append(replace(segment, start=window.start + first, end=window.start + last))
    end = window.seconds if until is None else until
    return _in_order(moved, window.start, window.start + end)


def _by_words(start: float, end: float, words: Sequence[Word]) -> tuple[float, float]:
    """Return the times of a segment that begins with its first word, where they are far apart."""
    first = max(words[0].start, words[0].end - LONGEST_WORD)
    if first - start <= LATE:
        return start, end
    return first, end if end > first else max(words[-1].end, first)


def _by_sound(sounds: NDArray[np.bool_], start: float, end: float) -> tuple[float, float]:
    """Return times without long quiet at either end; those of the next sound where there is nothing else."""
    seconds = FRAME / SAMPLE_RATE
    first = max(0, int(start / seconds))
    loud = np.flatnonzero(sounds[first : max(first + 1, int(np.ceil(end / seconds)))])
    if not len(loud):
        later = np.flatnonzero(sounds[first:])
        if not len(later):
            return start, end
        begins = (first + int(later[0])) * seconds - LEAD
        return begins, begins + end - start
    begins, ends = (first + int(loud[0])) * seconds, (first + int(loud[-1]) + 1) * seconds
    return (
        begins - LEAD if begins - start > LATE else start,
        ends + LEAD if end - ends > LATE else end,
    )


def _in_order(segments: Sequence[Segment], start: float, end: float) -> list[Segment]:
    """Return segments one after another between `start` and `end`; one without room joins that before it."""
    out: list[Segment] = []
    free = start
    for number, segment in enumerate(segments):
        following = segments[number + 1].start if number + 1 < len(segments) else end
        first = max(segment.start, free)
        last = max(min(segment.end, following, end), first + SHORTEST)
        if last > end + 1e-6:  # no room
            first = max(free, end - SHORTEST)
            if out and end - first < SHORTEST - 1e-6:
                out[-1] = _joined(out[-1], segment)
                continue
            last = end
        out.append(replace(segment, start=first, end=last))
        free = last
    return out


def _joined(one: Segment, other: Segment) -> Segment:
    tokens, words = one.tokens + other.tokens, one.words + other.words
    return replace(one, text=joined_text([one, other]), tokens=tokens, words=words)
