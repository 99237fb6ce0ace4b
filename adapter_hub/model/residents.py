"""The adapters in memory: loaded when first asked for, evicted when the budget is full.

    residents = Residents(load, budget=4 * 2**30)
    danish = residents.get(ref)                # loads it, or finds it
    residents.pin(ref)                         # stays until it is unpinned

The one used longest ago goes first. An adapter that a batch still uses lives until that batch is done,
whatever is evicted here. One lock guards the table; the file is read outside it, once, however many
threads ask.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from typing import Generic, TypeVar

from adapter_hub.errors import InvalidInputError
from adapter_hub.model.loading import ResidentAdapter

BUDGET = 8 * 2**30  # bytes; about 160 adapters of 13 million parameters in float32

Key = TypeVar("Key", bound=Hashable)


class Residents(Generic[Key]):
    """Adapters under a budget of bytes.

    Attributes:
        budget: bytes that all of them may take.
    """

    def __init__(self, load: Callable[[Key], ResidentAdapter], *, budget: int = BUDGET) -> None:
        """Start empty.

        Args:
            load: reads an adapter; what it raises, `get` raises.
            budget: bytes of all adapters together.
        """
        self.budget = budget
        self._load = load
        self._found: OrderedDict[Key, Future[ResidentAdapter]] = OrderedDict()
        self._pinned: set[Key] = set()
        self._lock = threading.Lock()

    def get(self, key: Key) -> ResidentAdapter:
        """Return an adapter, loaded if need be; others make room for it.

        Raises:
            InvalidInputError: with those that are pinned it does not fit into the budget.
        """
        with self._lock:
            future = self._found.get(key)
            ours = future is None
            if future is None:
                future = self._found[key] = Future()
            self._found.move_to_end(key)
        if not ours:
            return future.result()
        try:
            adapter = self._load(key)
            future.set_result(adapter)
            self._make_room(key)
        except BaseException as error:
            with self._lock:
                self._found.pop(key, None)
            if not future.done():
                future.set_exception(error)
            raise
        return adapter

    def pin(self, key: Key) -> ResidentAdapter:
        """Load an adapter if need be, and keep it until it is unpinned."""
        with self._lock:
            self._pinned.add(key)
        try:
            return self.get(key)
        except BaseException:
            self.unpin(key)
            raise

    def unpin(self, key: Key) -> None:
        """Let an adapter be evicted again."""
        with self._lock:
            self._pinned.discard(key)

    def evict(self, key: Key) -> None:
        """Forget an adapter now; one that is not there is no error."""
        with self._lock:
            self._pinned.discard(key)
            self._found.pop(key, None)

    def keys(self) -> list[Key]:
        """Return what is in memory, the one used longest ago first."""
        with self._lock:
            return list(self._found)

    @property
    def bytes(self) -> int:
        """The memory that they take together."""
        with self._lock:
            return self._bytes()

    def _bytes(self) -> int:
        return sum(item.result().bytes for item in self._found.values() if item.done())

    def _make_room(self, newest: Key) -> None:
        with self._lock:
            total = self._bytes()
            for key in list(self._found):
                if total <= self.budget:
                    return
                future = self._found[key]
                if key != newest and key not in self._pinned and future.done():
                    total -= future.result().bytes
                    del self._found[key]
            if total > self.budget:
                raise InvalidInputError(
                    f"{newest}: {total} bytes of adapters with those that are pinned, the budget is "
                    f"{self.budget}; unpin one or raise the budget"
                )
