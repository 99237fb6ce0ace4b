"""How long a request may take, and how long a failing one is tried again.

    retries.run(lambda: api.list_repo_refs("alice/da"), "the refs of hf://alice/da", HUB)

A request runs in a thread of its own, because the client has no limit for most calls: a server that
takes the request and never answers would keep the program for ever.
"""

from __future__ import annotations

import logging
import os
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self, TypeVar

from adapter_hub.errors import InvalidInputError, UnreachableError
from adapter_hub.escaping import shown
from adapter_hub.hub.failures import MALFORMED, is_no_connection, is_transient, retry_after, to_error

Result = TypeVar("Result")
LONGEST_WAIT = 16.0  # seconds between two attempts, unless the server asks for more
UNCONNECTED = 8.0  # seconds to keep trying if there is no answer at all, which waiting seldom mends
MALFORMED_MOST = 3  # malformed responses before it counts as what the Hub means to say
QUIET = 2  # failed attempts before the user is told
SLOWEST = 30_000.0  # bytes per second; a slower transfer counts as one that hangs


@dataclass(frozen=True)
class RetryPolicy:
    """Limits in seconds.

    Attributes:
        request: for one request, besides the time that its bytes may take at 30 kB/s.
        total: how long a failing request is tried again, from its first failure.
        first_wait: before the second attempt; it doubles from one to the next.
    """

    request: float = 60.0
    total: float = 90.0
    first_wait: float = 0.5

    @classmethod
    def from_environment(cls) -> Self:
        """Return the limits of ADAPTER_HUB_TIMEOUT and ADAPTER_HUB_RETRY_SECONDS, or the default ones.

        Raises:
            InvalidInputError: not a number of seconds.
        """
        values = {"request": "ADAPTER_HUB_TIMEOUT", "total": "ADAPTER_HUB_RETRY_SECONDS"}
        return cls(**{field: _seconds(name) for field, name in values.items() if os.environ.get(name)})

    def run(self, operation: Callable[[], Result], what: str, endpoint: str, *, size: int = 0) -> Result:
        """Carry out a request that may be repeated, until it succeeds or its time is up.

        Args:
            operation: the request.
            what: for the message, like `the refs of hf://alice/da`.
            endpoint: for the message.
            size: bytes that it moves.

        Raises:
            UnreachableError: no answer, or only failures that another attempt could have mended.
            AdapterHubError: what the Hub's answer means.
        """
        first_failure = 0.0
        attempt = 0
        while True:
            try:
                return self.run_once(operation, what, endpoint, size=size)
            except Exception as error:
                now = time.monotonic()
                first_failure = first_failure or now
                asked = retry_after(error)
                total = min(self.total, UNCONNECTED) if is_no_connection(error) else self.total
                left = first_failure + total - now
                wait = self.pause(attempt, asked)
                malformed = isinstance(error, MALFORMED) and attempt + 1 >= MALFORMED_MOST
                if malformed or not is_transient(error) or wait > left:
                    final = to_error(error, what, endpoint)
                    if final is error:
                        raise
                    raise final from error
                if attempt >= QUIET:
                    logging.getLogger("adapter_hub").warning(
                        "%s; trying again in %.0f s", shown(to_error(error, what, endpoint), 2000), wait
                    )
                time.sleep(wait)
                attempt += 1

    def pause(self, attempt: int, asked: float | None = None) -> float:
        """Return the seconds to wait after the given attempt (from 0), with some chance in it.

        Args:
            attempt: from 0.
            asked: seconds that the server asked to wait, if it did.
        """
        backoff = min(self.first_wait * 2.0**attempt, LONGEST_WAIT)
        return max(backoff * random.uniform(0.5, 1.0), asked or 0.0)

    def run_once(self, operation: Callable[[], Result], what: str, endpoint: str, *, size: int = 0) -> Result:
        """Carry out a request once, within its limit.

        Args:
            operation: the request.
            what: for the message, like `the refs of hf://alice/da`.
            endpoint: for the message.
            size: bytes that it moves.

        Raises:
            UnreachableError: it took too long. Exception: whatever the client raised.
        """
        limit = self.request + size / SLOWEST
        outcome: list[tuple[bool, Result | BaseException]] = []
        finished = threading.Event()

        def run() -> None:
            try:
                outcome.append((True, operation()))
            except BaseException as error:  # noqa: BLE001 - handed over to the waiting thread
                outcome.append((False, error))
            finished.set()

        threading.Thread(target=run, daemon=True, name="adapter-hub request").start()
        if not finished.wait(limit):
            raise UnreachableError(
                f"{what}: {endpoint} did not answer within {limit:.0f} s; try again, or allow more with "
                "ADAPTER_HUB_TIMEOUT"
            )
        good, value = outcome[0]
        if good:
            return value  # type: ignore[return-value] # the first of the pair says which it is
        assert isinstance(value, BaseException)
        raise value


def _seconds(name: str) -> float:
    text = os.environ[name]
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0.0 < value < 1e6:
        raise InvalidInputError(f"{name}={text}: expected a number of seconds, like 60")
    return value
