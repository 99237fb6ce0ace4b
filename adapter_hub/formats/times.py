"""Times as records spell them, and this machine's clock, beyond which no claim has power.

>>> check_time("2026-02-28T12:00:00Z")
'2026-02-28T12:00:00Z'

A time is compared as text, which its one spelling allows. Clocks differ, so a time up to a day ahead of
this one counts as it is; whatever is dated later may tighten, and never loosens or lasts longer by that.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

TIME_PATTERN = r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z"
SKEW = timedelta(hours=24)  # a clock set to another time zone's time is off by 14 hours at most
_SPELLING = "%Y-%m-%dT%H:%M:%SZ"


def utc_now() -> str:
    """Return this moment to the second, as records spell times."""
    return datetime.now(UTC).strftime(_SPELLING)


def check_time(text: str) -> str:
    """Return `text` if there is such a moment.

    Args:
        text: like `2026-02-28T12:00:00Z`.

    Raises:
        ValueError: no such moment (month 13, 30 February, hour 24), or another spelling.
    """
    expected = "expected a time in UTC that exists, like 2026-02-28T12:00:00Z"
    if not re.fullmatch(TIME_PATTERN, text) or text[11:13] == "24":
        raise ValueError(expected)
    try:
        datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(expected) from None
    return text


def is_ahead(time: str) -> bool:
    """Tell whether a time is further ahead of this machine's clock than clocks differ.

    Args:
        time: as records spell it.
    """
    return time > (datetime.now(UTC) + SKEW).strftime(_SPELLING)


def second_after(time: str) -> str:
    """Return the time one second later; the last second of year 9999 stays."""
    try:
        return (datetime.fromisoformat(time) + timedelta(seconds=1)).strftime(_SPELLING)
    except OverflowError:
        return time
