"""How much sound is taken in, found out before anything is decoded.

    check_header("clip.flac", rate, channels, frames)       # a recording, read in blocks
    check_duration("clip.flac", seconds, longest=30.0)         # decoded at once

A few bytes of a header can promise hours, thousands of channels, or a rate at which every sample becomes
sixteen thousand. So rate and channels are looked at wherever sound is read. What is decoded at once is
bounded in seconds too: by the caller where it knows how long a row may be, by `longest_seconds()` anywhere
else. Transcribing reads block by block and takes recordings of any length in the same memory.
"""

from __future__ import annotations

import math
import os

from adapter_hub.errors import InvalidInputError

LOWEST_RATE, HIGHEST_RATE = 1_000, 768_000  # samples a second: below is no speech, above is no sound card
MOST_CHANNELS = 256  # arrays of microphones have up to some tens
FILE_BYTES = 2**30  # of a file that is read at once: an hour of uncompressed 48 kHz stereo, and more
RECORDING_BYTES = 2**36  # of a file that is hashed block by block: weeks of sound; sparse files claim more
LONGEST_SECONDS = 3600.0  # of what is decoded at once: 230 MB, by default
LONGEST_VARIABLE = "ADAPTER_HUB_LONGEST_AUDIO"  # seconds; for data sets of longer recordings
UNKNOWN_FRAMES = 2**62  # libsndfile says more where a stream's header does not state its length


def longest_seconds() -> float:
    """Return how many seconds may be decoded at once: ADAPTER_HUB_LONGEST_AUDIO, or an hour.

    Raises:
        InvalidInputError: the variable is no such number.
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
    """Refuse sound that nobody records, which costs far more memory than its file has bytes.

    Raises:
        InvalidInputError: with the limits; or the header does not say how long it is.
    """
    if not LOWEST_RATE <= rate <= HIGHEST_RATE:
        raise InvalidInputError(
            f"{where}: {rate} samples a second; expected {LOWEST_RATE} to {HIGHEST_RATE}, resample it"
        )
    if channels > MOST_CHANNELS:
        raise InvalidInputError(f"{where}: {channels} channels; expected up to {MOST_CHANNELS}, mix it down")
    if frames >= UNKNOWN_FRAMES:  # and libsndfile would stop somewhere in it
        raise InvalidInputError(
            f"{where}: its header does not state how long it is; convert it anew, from a file to a file"
        )


def check_duration(where: str, seconds: float, longest: float | None) -> float:
    """Refuse sound that is too long to be decoded at once.

    Args:
        where: what to call it in an error.
        seconds: that its header states, or that were decoded so far.
        longest: that the caller has a use for; None for `longest_seconds()`.

    Returns:
        The limit that holds.

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
