"""The memory in which a session gathers the matrices of its rows, kept from batch to batch.

    gathered = Gathered(dtype, device)
    lane = gathered.lane(path, gated, width, members, rows=8, room=8)   # of rows with adapters of their own
    lane = gathered.shared(path, part, adapter, rows=8)     # of rows that all carry one
    gathered.copy()                                         # now they hold what they shall

All copies of a batch are made together, in a few calls of a GPU. What was gathered lies where an earlier
batch of the same kind had it, so that steps recorded for that one serve this one, too
(see `adapter_hub.model.graphs`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from adapter_hub.model.layout import EXPERTS, Part, padded_rank
from adapter_hub.model.loading import ResidentAdapter
from adapter_hub.model.updates import Lane, Solo


@dataclass(frozen=True)
class Entry:
    """One adapter's share in one row of one linear."""

    row: int
    part: Part
    adapter: ResidentAdapter
    weight: float


@dataclass(frozen=True)
class Store:
    """The memory of a lane, or of a row by itself, of one linear."""

    a: Tensor  # [rows, width, inputs]; two more than `width` where there is a gate
    b: Tensor  # [rows, outputs, width]
    bias: Tensor | None  # [rows, 1, 2]

    def lane(self, rows: int, *, shared: bool = False) -> Lane:
        """Return its first rows, or its only one as that of all rows."""
        a, b, bias = self.a.transpose(1, 2), self.b.transpose(1, 2), self.bias
        if shared:
            bias = None if bias is None else bias.expand(rows, -1, -1)
            return Lane(a.expand(rows, -1, -1), b.expand(rows, -1, -1), bias, shared=True)
        return Lane(a[:rows], b[:rows], None if bias is None else bias[:rows])


@dataclass
class Gathered:
    """Stores by linear and kind, and the copies that are due.

    Attributes:
        dtype: of the base model.
        device: where it is.
    """

    dtype: torch.dtype
    device: torch.device
    _stores: dict[tuple[object, ...], Store] = field(default_factory=dict)
    _copies: list[tuple[Tensor, Tensor]] = field(default_factory=list)

    def lane(
        self, path: str, gated: bool, width: int, members: Mapping[int, Sequence[Entry]], rows: int, room: int
    ) -> Lane:
        """Return a lane of rows with adapters of their own, behind one another in a row.

        Args:
            path: of the linear.
            gated: whether its parts have gates.
            width: of the lane.
            members: what each row has in it; rows that have nothing are left out.
            rows: of the batch.
            room: rows that there shall be memory for, at least.
        """
        part = next(iter(members.values()))[0].part
        store = self._store((path, gated, width), part, width, room)
        for row in range(rows):
            a, b, start = store.a[row], store.b[row], 0
            for entry in members.get(row, ()):
                stop = start + entry.part.rank
                bias = None if store.bias is None else store.bias[row, 0]
                self._put(entry, a[start : stop + EXPERTS * gated], b[:, start:stop], bias)
                start = stop
            if start < width:  # what another batch left there
                a[start:].zero_()
                b[:, start:].zero_()
        return store.lane(rows)

    def shared(self, path: str, part: Part, adapter: ResidentAdapter, rows: int) -> Lane:
        """Return a lane of rows that all carry one adapter."""
        store = self._store((path, part.gated, part.rank, "shared"), part, part.rank, 1)
        self._put(Entry(0, part, adapter, 1.0), store.a[0], store.b[0], _first(store.bias))
        return store.lane(rows, shared=True)

    def solos(self, path: str, entries: Iterable[Entry], *, alike: bool = False) -> list[Solo]:
        """Return rows by themselves; with `alike` all of them carry the same."""
        found: list[Solo] = []
        for number, entry in enumerate(entries):
            part = entry.part
            key = (path, part.gated, part.rank, "solo", 0 if alike else number)
            store = self._store(key, part, part.rank, 1)
            if not (alike and number):
                self._put(entry, store.a[0], store.b[0], _first(store.bias))
            a, b = store.a[0].t(), store.b[0].t()
            found.append(Solo(entry.row, a, b, 1.0, _first(store.bias), part.gated))
        return found

    def widened(self, path: str, lane: Lane, room: int) -> Lane:
        """Return a lane with rows behind it that carry nothing of meaning, `room` in all."""
        gated, width = lane.bias is not None, lane.b.shape[1]
        if lane.shared:
            return self._stores[path, gated, width, "shared"].lane(room, shared=True)
        return self._stores[path, gated, width].lane(room)

    def forget(self) -> None:
        """Drop the copies that are due."""
        self._copies = []

    def copy(self) -> None:
        """Make the copies that are due."""
        copies, self._copies = self._copies, []
        groups = [copies]
        if self.device.type != "cpu":  # a GPU copies dense ones in a few calls
            groups = [
                [pair for pair in copies if pair[0].is_contiguous() == dense] for dense in (True, False)
            ]
        for pairs in filter(None, groups):
            torch._foreach_copy_([to for to, _ in pairs], [source for _, source in pairs])

    def _put(self, entry: Entry, a: Tensor, b: Tensor, bias: Tensor | None) -> None:
        part, buffer = entry.part, entry.adapter.buffer
        self._copies.append((a, part.a_of(buffer)))
        if entry.weight == 1.0:
            self._copies.append((b, part.b_of(buffer)))
        else:
            torch.mul(part.b_of(buffer), entry.weight, out=b)
        own = part.bias_of(buffer)
        if bias is not None and own is not None:
            self._copies.append((bias, own))

    def _store(self, key: tuple[object, ...], part: Part, width: int, rows: int) -> Store:
        """Return memory for at least this many rows: that of earlier batches where it is enough."""
        store = self._stores.get(key)
        if store is None or store.a.shape[0] < rows:
            gated = EXPERTS * part.gated
            a = self._zeros(rows, width + gated, part.inputs)
            bias = self._zeros(rows, 1, EXPERTS) if gated else None
            store = self._stores[key] = Store(a, self._zeros(rows, part.outputs, width), bias)
        return store

    def _zeros(self, *shape: int) -> Tensor:
        """Return new memory that may be written to whether or not inference mode is on then."""
        with torch.inference_mode(mode=False):
            return torch.zeros(shape, dtype=self.dtype, device=self.device)


def _first(bias: Tensor | None) -> Tensor | None:
    return None if bias is None else bias[0, 0]


def width_of(entries: Sequence[Entry]) -> int:
    """Return the width at which the adapters of one row are computed."""
    return padded_rank(sum(entry.part.rank for entry in entries))
