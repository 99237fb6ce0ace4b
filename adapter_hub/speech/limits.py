"""Limits on audio, checked before anything is decoded.

    check_header("clip.flac", rate, channels, frames)       # a recording, read in blocks
    check_duration("clip.flac", seconds, longest=30.0)      # audio that is decoded at once

A few bytes of a header can claim hours, thousands of channels, or a sample rate at which resampling turns
every sample into sixteen thousand. So sample rate and channels are checked wherever audio is read. Audio
that is decoded at once is also limited in seconds: by the caller if it knows how long a row may be, else by
`longest_seconds()`. Transcription reads block by block, recordings of any length in the same memory.
"""

from __future__ import annotations

import math
import os

from adapter_hub.errors import InvalidInputError

LOWEST_RATE, HIGHEST_RATE = (
    1_000,
    768_000,
)  # samples per second: too low for speech, too high for any sound card
MOST_CHANNELS = 256  # microphone arrays have some tens
FILE_BYTES = 2**30  # of a file that is read at once: more than an hour of uncompressed 48 kHz stereo
RECORDING_BYTES = 2**36  # of a file that is hashed block by block: weeks of audio
LONGEST_SECONDS = 3600.0  # of audio that is decoded at once, by default: 230 MB
LONGEST_VARIABLE = "ADAPTER_HUB_LONGEST_AUDIO"  # seconds; for data sets of longer recordings
UNKNOWN_FRAMES = 2**62  # libsndfile reports more if a stream's header does not state its length


def longest_seconds() -> float:
    """Return how many seconds may be decoded at once: ADAPTER_HUB_LONGEST_AUDIO, or an hour.

    Raises:
        InvalidInputError: the variable is not a number of seconds.
    """
    text = os.environ.get(LONGEST_VARIABLE)
    if not text:
        return LONGEST_SECONDS
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds <= 1e6:
        raise InvalidInputError(f"{LONGEST_VARIABLE}={text[:40]}: expected a number of seconds, like 7200")
    return seconds


def check_header(where: str, rate: int, channels: int, frames: int) -> None:
    """Refuse implausible audio, which would need far more memory than its file has bytes.

    Args:
        where: its name in errors.
        rate: in samples per second.
        channels: their number.
        frames: samples per channel, as the header states.

    Raises:
        InvalidInputError: with the limits, or the header does not state the duration.
    """
    if not LOWEST_RATE <= rate <= HIGHEST_RATE:
        raise InvalidInputError(
            f"{where}: {rate} samples per second; expected {LOWEST_RATE} to {HIGHEST_RATE}, resample it"
        )
    if channels > MOST_CHANNELS:
        raise InvalidInputError(f"{where}: {channels} channels; expected up to {MOST_CHANNELS}, mix it down")
    if frames >= UNKNOWN_FRAMES:  # libsndfile would stop somewhere inside
        raise InvalidInputError(
            f"{where}: its header does not state its duration; convert it again, from file to file"
        )


def check_duration(where: str, seconds: float, longest: float | None) -> float:
    """Refuse audio that is too long to be decoded at once.

    Args:
        where: its name in errors.
        seconds: its duration according to its header, or the part that is decoded so far.
        longest: the caller's limit in seconds; None for `longest_seconds()`.

    Returns:
        The limit that applies, in seconds.

    Raises:
        InvalidInputError: it is longer.
    """
    usual = longest_seconds()
    limit = usual if longest is None else longest
    if seconds > limit:
        more = f", or allow more with {LONGEST_VARIABLE}" if longest is None else ""
        raise InvalidInputError(
            f"{where}: {seconds:.1f} s of audio; at most {limit:g} s are read at once: "
            f"cut it into pieces{more}"
        )
    return limit
