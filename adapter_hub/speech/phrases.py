"""Splits audio of any length into phrases, at its pauses.

    for piece in phrases(audio_blocks(path), longest=30.0):
        piece.start, piece.samples

A model encodes windows of at most its chunk. No word should be cut, so audio is split where it is quietest:
in every pause, and if a speaker makes none for a whole chunk, at the quietest place of its last third. Only
digital silence is left out: quiet audio may still be speech, and to tell the two apart is the task of
`adapter_hub.transcription.voice_activity`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from adapter_hub.speech.audio import SAMPLE_RATE

FRAME = 320  # samples whose loudness is measured together: 20 ms
PAUSE = 0.5  # seconds of quiet that end a phrase; a pause within one is shorter
SHORT_PAUSE = 0.2  # seconds between words; longer than the silence within any speech sound
QUIET = 0.05  # of the loudness of the speech around it: -26 dB
NOISE = 3.0  # times the quietest tenth: what is below is background
SILENCE = 1 / 65536  # half the smallest step of a 16-bit file: digital silence is below it
MARGIN = 0.1  # seconds of quiet that are kept before sound

Samples = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Phrase:
    """A part of a recording.

    Attributes:
        start: in samples from the beginning of the recording, at 16 kHz.
        samples: `[n]` float32.
    """

    start: int
    samples: Samples

    @property
    def end(self) -> int:
        """Its end in samples from the beginning of the recording."""
        return self.start + len(self.samples)

    @property
    def seconds(self) -> float:
        """Its duration in seconds."""
        return len(self.samples) / SAMPLE_RATE


def phrases(
    blocks: Iterable[Samples], longest: float, usual: float | None = None, *, whole: float = 0.0
) -> Iterator[Phrase]:
    """Yield the phrases of a recording in order; about `longest` seconds are in memory at a time.

    Args:
        blocks: the recording's samples at 16 kHz, one block after another, `[n]` float32 each.
        longest: the longest phrase, in seconds.
        usual: phrases longer than this many seconds are also split at their short pauses; None for never.
        whole: a recording of up to this many seconds is not split at all.
    """
    size, start = round(longest * SAMPLE_RATE), 0
    usual = longest if usual is None else usual
    buffer = np.zeros(0, dtype=np.float32)
    for block in blocks:
        buffer = np.concatenate([buffer, block])
        while len(buffer) > size:
            cuts = pauses(buffer[:size]) or [quietest(buffer[:size])]
            yield from _pieces(buffer, start, cuts, usual)
            start, buffer = start + cuts[-1], buffer[cuts[-1] :]
    if start == 0 and len(buffer) <= whole * SAMPLE_RATE:
        yield from _pieces(buffer, start, [len(buffer)], longest)
    else:
        yield from _pieces(buffer, start, [*pauses(buffer), len(buffer)], usual)


def pauses(samples: Samples, pause: float = PAUSE) -> list[int]:
    """Return the ends of all pauses between sounds, in samples; quiet at the beginning or end is not a pause.

    A pause belongs to the phrase before it except for its last moment: models have learned that speech
    starts at once and that quiet follows.

    Args:
        samples: `[n]` float32 at 16 kHz.
        pause: the shortest pause, in seconds.
    """
    levels = loudness(samples)
    quiet = levels <= QUIET * speech_level(samples)
    edges = np.flatnonzero(np.diff(np.concatenate([[False], quiet, [False]]).astype(np.int8)))
    runs = edges.reshape(-1, 2)
    least = round(pause * SAMPLE_RATE / FRAME)
    inside = [(a, b) for a, b in runs.tolist() if a > 0 and b < len(levels) and b - a >= least]
    lead = round(MARGIN * SAMPLE_RATE / FRAME)
    return [(b - lead) * FRAME for _, b in inside]


def quietest(samples: Samples) -> int:
    """Return the quietest position in the last third, in samples."""
    levels = loudness(samples)
    first = len(levels) * 2 // 3
    # smoothed over a fifth of a second: less would find the closure within a consonant
    smooth = np.convolve(levels[first:], np.ones(10) / 10, mode="valid")
    return (first + 5 + int(np.argmin(smooth))) * FRAME


def audible_span(samples: Samples, level: float | None = None) -> tuple[int, int]:
    """Return the begin and end of the audible part, in samples; the whole if all is quiet.

    Args:
        samples: `[n]` float32 at 16 kHz.
        level: the level of speech in the whole recording; None to measure it here.
    """
    level = speech_level(samples) if level is None else level
    loud = np.flatnonzero(loudness(samples) > QUIET * level)
    if not len(loud):
        return 0, len(samples)
    return int(loud[0]) * FRAME, min(len(samples), (int(loud[-1]) + 1) * FRAME)


def sounding(samples: Samples) -> NDArray[np.bool_]:
    """Return which frames of 20 ms have more in them than the noise that is always there.

    Unlike a pause, which is told from the level of speech all around, this also holds where most is quiet, or
    where it is noisy throughout. A click is no sound.

    Args:
        samples: `[n]` float32 at 16 kHz.
    """
    levels = loudness(samples)
    heard = levels[levels > SILENCE]
    if not len(heard):
        return np.zeros(len(levels), dtype=np.bool_)
    noise = NOISE * float(np.quantile(heard, 0.1))
    over = heard[heard > noise]
    level = float(np.quantile(over if len(over) else heard, 0.95))
    loud = levels > max(QUIET * level, min(noise, level / 4))
    return loud & (np.convolve(loud, np.ones(5), mode="same") >= 3)


def speech_level(samples: Samples) -> float:
    """Return how loud speech is in a recording: the level that one frame in twenty exceeds."""
    levels = loudness(samples)
    return float(np.quantile(levels, 0.95)) if len(levels) else 0.0


def loudness(samples: Samples) -> Samples:
    """Return the root mean square of every complete frame of 20 ms."""
    frames = samples[: len(samples) // FRAME * FRAME].reshape(-1, FRAME)
    return np.sqrt(np.mean(np.square(frames), axis=1))


def _pieces(buffer: Samples, start: int, cuts: list[int], usual: float) -> Iterator[Phrase]:
    """Yield the parts between the cuts, without digital silence at either end."""
    places = [0]
    for first, last in zip([0, *cuts], cuts, strict=False):
        long = last - first > usual * SAMPLE_RATE
        short = pauses(buffer[first:last], SHORT_PAUSE) if long else []
        places += [*(first + place for place in short), last]
    for first, last in pairwise(places):
        if (piece := without_silence(Phrase(start + first, buffer[first:last]))) is not None:
            yield piece


def without_silence(piece: Phrase) -> Phrase | None:
    """Return a phrase without long digital silence at either end; None if it is nothing but silence."""
    sound = np.flatnonzero(np.abs(piece.samples) > SILENCE)
    if not len(sound):
        return None
    margin, pause = round(MARGIN * SAMPLE_RATE), round(PAUSE * SAMPLE_RATE)
    first, last = int(sound[0]), int(sound[-1]) + 1
    first = first - margin if first >= pause else 0
    last = last + margin if len(piece.samples) - last >= pause else len(piece.samples)
    # a copy: a view would keep the whole buffer in memory
    return Phrase(piece.start + first, piece.samples[first:last].copy())
