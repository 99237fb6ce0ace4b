"""The adapters in memory: loaded when first asked for, evicted when the budget is full.

    residents = Residents(load, budget=4 * 2**30)
    danish = residents.get(ref)                # loads it, or finds it

The one used longest ago is evicted first. An adapter that a batch still uses lives until that batch is done,
whatever is evicted here. One lock guards the table; files are read outside of it, each once, however many
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
        budget: bytes that all of them together may take.
    """

    def __init__(self, load: Callable[[Key], ResidentAdapter], *, budget: int = BUDGET) -> None:
        """Start empty.

        Args:
            load: reads the adapter of a key; what it raises, `get` raises.
            budget: bytes for all adapters together.
        """
        self.budget = budget
        self._load = load
        self._found: OrderedDict[Key, Future[ResidentAdapter]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Key) -> ResidentAdapter:
        """Return an adapter, loaded if need be; others are evicted to make room for it.

        Args:
            key: given to `load` if the adapter is not in memory.

        Raises:
            InvalidInputError: it is larger than the budget. And what `load` raises.
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

    def held(self) -> list[ResidentAdapter]:
        """Return the adapters that are in memory, the one used longest ago first."""
        with self._lock:
            done = [future for future in self._found.values() if future.done()]
        return [future.result() for future in done if future.exception() is None]

    def _make_room(self, newest: Key) -> None:
        with self._lock:
            total = sum(item.result().bytes for item in self._found.values() if item.done())
            for key in list(self._found):
                if total <= self.budget:
                    return
                future = self._found[key]
                if key != newest and future.done():
                    total -= future.result().bytes
                    del self._found[key]
            if total > self.budget:
                raise InvalidInputError(
                    f"{newest}: {total} bytes, more than the budget of {self.budget} bytes for adapters in "
                    "memory; expected a smaller adapter, or a larger budget"
                )
