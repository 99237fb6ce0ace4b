"""Who may ask: keys of a file, compared in constant time, and how much each may ask at once.

keys = Keys.read(Path("keys.txt"))
keys.owner("Bearer sk-…")                       # "alice", or None for nobody
with admission.turn("alice"): ...
"""

from __future__ import annotations

import hmac
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

from adapter_hub.errors import InvalidInputError
from adapter_hub.files.reading import read_bounded
from adapter_hub.serving.api_errors import ApiError

LARGEST = 2**20  # bytes of a file of keys


class Keys:
    """The keys that are let in, by the names of their owners; kept as hashes.

    Attributes:
        hashes: of the keys, by owner.
    """

    def __init__(self, keys: Mapping[str, str]) -> None:
        """Remember the hashes.

        Args:
            keys: by owner.
        """
        self.hashes = {owner: _hash(key) for owner, key in keys.items()}

    @classmethod
    def read(cls, path: Path) -> Keys:
        """Read a file of lines `KEY` or `NAME KEY`; those that start with `#` are comments.

        Args:
            path: the file.

        Raises:
            InvalidInputError: no key in it, or a line that is none; the line's content is not told.
            OSError: it cannot be read.
        """
        try:
            lines = read_bounded(path, LARGEST).decode("utf-8").splitlines()
        except UnicodeDecodeError:
            raise InvalidInputError(f"{path}: expected a text file with one key a line") from None
        keys: dict[str, str] = {}
        for number, line in enumerate(lines, 1):
            words = line.split()
            if not words or words[0].startswith("#"):
                continue
            owner, key = words if len(words) == 2 else (f"key-{number}", words[0])
            if len(words) > 2 or not (key.isascii() and key.isprintable()) or owner in keys:
                raise InvalidInputError(
                    f"{path}: line {number}: expected KEY or NAME KEY, printable ASCII, every name once"
                )
            keys[owner] = key
        if not keys:
            raise InvalidInputError(f"{path}: no key in it; expected one a line")
        return cls(keys)

    def owner(self, authorization: str | None) -> str | None:
        """Return whose key a request brings; None if it brings none of them.

        Args:
            authorization: the request's header.
        """
        scheme, _, given = (authorization or "").partition(" ")
        found, offered = None, _hash(given.strip())
        for owner, known in self.hashes.items():  # all of them: the time says nothing about which fits
            if hmac.compare_digest(known, offered):
                found = owner
        return found if scheme.lower() == "bearer" else None


class Admission:
    """How many requests are received or computed at once, of everybody and of each client."""

    def __init__(self, most: int, most_of_one: int) -> None:
        """Start with none.

        Args:
            most: of everybody.
            most_of_one: of one client.
        """
        self.most, self.most_of_one = most, most_of_one
        self._held: Counter[str] = Counter()

    @property
    def held(self) -> int:
        """How many there are."""
        return self._held.total()

    @contextmanager
    def turn(self, client: str) -> Iterator[None]:
        """Count one request as long as it lasts.

        Args:
            client: whose it is.

        Raises:
            ApiError: there are as many as may be.
        """
        if self.held >= self.most:
            raise ApiError(
                429,
                f"{self.held} requests wait already, as many as this server takes; try again",
                code="rate_limit_exceeded",
                retry_after=1,
            )
        if self._held[client] >= self.most_of_one:
            raise ApiError(
                429,
                f"{self.most_of_one} requests of yours are open, as many as one may have; wait for one",
                code="rate_limit_exceeded",
                retry_after=1,
            )
        self._held[client] += 1
        try:
            yield
        finally:
            self._held[client] -= 1
            if not self._held[client]:
                del self._held[client]


def _hash(key: str) -> bytes:
    return sha256(key.encode("utf-8", "surrogatepass")).digest()
