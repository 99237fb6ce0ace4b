"""Why an audio file is not whole, or not read at all, in words."""

from __future__ import annotations

from adapter_hub.escaping import shown

TOLERANCE = 0.3  # seconds by which a header may be wrong: encoders pad, and headers are rounded
AGAIN = "get it again"


def ends_early(done: float, stated: float) -> str:
    """Say that less is there than was stated.

    Args:
        done: seconds that were decoded.
        stated: seconds.
    """
    return (
        f"ends after {done:.1f} s of the {stated:.1f} s that its header states; "
        f"the file is truncated or damaged, {AGAIN}"
    )


def no_end(done: float) -> str:
    """Say that a stream breaks off.

    Args:
        done: seconds that were decoded.
    """
    return f"its end is missing after {done:.1f} s; the file is truncated, {AGAIN}"


def reason_of(error: Exception) -> str:
    """Return a decoder's reason, without the way in which it was given the file.

    Args:
        error: of soundfile or PyAV.
    """
    said = getattr(error, "error_string", None) or getattr(error, "strerror", None) or error
    return shown(" ".join(str(said).split()).rstrip("."))
