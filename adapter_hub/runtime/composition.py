"""Running any mix of adapters in one batch of one frozen Whisper.

    session = Session(base)
    session.seat([danish, None, polish, [(danish, 0.5), (polish, 0.5)]])    # None is the base model

Each row of the next batch carries nothing, one adapter (an expert pair is one), or several with weights.
A session is a view of the base model: the same weights under modules of its own, whose linears add what
the session's rows ask for (see `adapter_hub.runtime.updates`). There is no global active adapter and no
hook; nothing is injected, the base model is never touched, and two threads with a session each do not see
one another. Seating a mixed batch costs a copy of its rows' decoder matrices, however many adapters are
resident; a batch that carries one adapter, or none, costs nothing.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from adapter_hub.errors import InvalidInputError
from adapter_hub.runtime.base_model import BaseModel
from adapter_hub.runtime.layout import EXPERTS, RANKS, Part, padded_rank
from adapter_hub.runtime.loading import ResidentAdapter
from adapter_hub.runtime.packing import packed_linear
from adapter_hub.runtime.updates import Lane, Solo, Update

# what a row carries: nothing, an adapter, or several with weights
Experts = ResidentAdapter | Sequence[tuple[ResidentAdapter, float]] | None
WIDEST_LANE = RANKS[-1]  # a row of higher rank is computed by itself


@dataclass
class Seat:
    """The rows of a session's current batch, seen by every linear of its view.

    Attributes:
        rows: how many; 0 where any number may come, all alike.
        updates: by path of the linear.
    """

    rows: int = 0
    updates: dict[str, Update] = field(default_factory=dict)


class AdaptedLinear(nn.Linear):
    """A linear of a session's view: the base model's own weights, plus what the rows add."""

    path: str
    seat: Seat
    packed: Tensor | None  # the weight once more, for small batches on a CPU

    @classmethod
    def over(cls, linear: nn.Linear, path: str, seat: Seat) -> AdaptedLinear:
        """Return a view of `linear`; its weight and bias are the same tensors."""
        new = cls.__new__(cls)
        new.__dict__ = _own_dictionary(linear) | {"path": path, "seat": seat, "packed": None}
        return new

    def forward(self, x: Tensor) -> Tensor:
        """Return `x W' + bias + x A' B` for every row's own `A` and `B`; `x` is `[rows, n, inputs]`."""
        if self.packed is not None and not torch.is_grad_enabled():
            y = packed_linear(x, self.packed, self.bias)
        else:
            y = F.linear(x, self.weight, self.bias)
        update, rows = self.seat.updates.get(self.path), self.seat.rows
        if update is None:
            return y
        if not rows:
            update.add_(x.reshape(1, -1, x.shape[-1]), y.view(1, -1, y.shape[-1]))
        elif x.shape[0] == rows:
            update.add_(x, y)
        else:
            raise InvalidInputError(
                f"a batch of {x.shape[0]} reached a session seated for {rows} rows; "
                "seat the session for this batch"
            )
        return y


@dataclass
class _Store:
    """The memory of one lane of one linear, kept from batch to batch."""

    a: Tensor
    b: Tensor
    bias: Tensor | None


@dataclass(frozen=True)
class _Entry:
    """One adapter's share in one row of one linear."""

    row: int
    part: Part
    adapter: ResidentAdapter
    weight: float


@dataclass
class Session:
    """A view of the base model for one batch at a time; one per thread. No weight is copied.

    Attributes:
        base: the base model.
        model: a `WhisperForConditionalGeneration` over the base model's weights, with its own adapters.
    """

    base: BaseModel
    model: Any = field(init=False)
    _rows: Seat = field(init=False, default_factory=Seat)
    _linears: dict[str, AdaptedLinear] = field(init=False, default_factory=dict)
    _alike: WeakKeyDictionary[ResidentAdapter, dict[int, dict[str, Update]]] = field(
        init=False, default_factory=WeakKeyDictionary
    )
    _buffers: dict[str, Tensor] = field(init=False, default_factory=dict)
    _stores: dict[tuple[str, bool, int], _Store] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self.model = self._view(self.base.model, "", {})

    def seat(self, rows: Sequence[Experts]) -> None:
        """Give every row of the next batches its adapters.

        Args:
            rows: for every audio of the batch, what it carries.

        Raises:
            InvalidInputError: no rows.
        """
        if not rows:
            raise InvalidInputError("no rows to seat; expected one entry per audio of the batch")
        self._seat(rows, len(rows))

    def seat_all(self, experts: Experts) -> None:
        """Give every row of batches of any size the same adapters."""
        self._seat([experts], 0)

    def pack(self) -> None:
        """Prepare the decoder's linears for steps of a few rows."""
        for path, packed in self.base.packed.items():
            self._linears[path].packed = packed

    def keep(self, order: list[int]) -> None:
        """Go on with some of the rows, in this order; a row that comes earlier now is moved there."""
        self._rows.rows = len(order)
        self._rows.updates = {path: update.keep(order) for path, update in self._rows.updates.items()}

    def buffer(self, name: str, shape: Sequence[int]) -> Tensor:
        """Return memory for decoding, by name: that of earlier batches where it is enough."""
        size, found = math.prod(shape), self._buffers.get(name)
        if found is None or found.numel() < size:
            found = self._buffers[name] = self._empty(size)
        return found[:size].view(shape)

    def _seat(self, rows: Sequence[Experts], count: int) -> None:
        first = rows[0]
        self._rows.rows = count
        if isinstance(first, ResidentAdapter) and all(row is first for row in rows) and _whole(first):
            self._rows.updates = self._shared(first, len(rows))
            return
        entries: dict[str, list[_Entry]] = {}
        for row, experts in enumerate(rows):
            for adapter, weight in _pairs(experts):
                for path, part in adapter.layout.items():
                    entries.setdefault(path, []).append(_Entry(row, part, adapter, weight))
        self._rows.updates = {path: self._update(path, own, len(rows)) for path, own in entries.items()}

    def _shared(self, adapter: ResidentAdapter, rows: int) -> dict[str, Update]:
        """Return the updates of rows that all carry one adapter: views of its buffer, remembered."""
        known = self._alike.setdefault(adapter, {})
        if rows not in known:
            known[rows] = {
                path: Update(lanes=[Lane.of(part, adapter.buffer, rows)])
                if self._gathers(path, part.rank, gated=part.gated)
                else Update(solos=[Solo.of(row, part, adapter.buffer, 1.0) for row in range(rows)])
                for path, part in adapter.layout.items()
            }
        return known[rows]

    def _update(self, path: str, entries: Sequence[_Entry], rows: int) -> Update:
        """Sort the rows of one linear into lanes and rows by themselves."""
        update = Update()
        lanes: dict[tuple[bool, int], dict[int, list[_Entry]]] = {}
        for (row, gated), own in _by_row(entries):
            width = padded_rank(sum(entry.part.rank for entry in own))
            if not self._gathers(path, width, gated=gated) or (gated and len(own) > 1):
                update.solos += [Solo.of(row, e.part, e.adapter.buffer, e.weight) for e in own]
            else:
                lanes.setdefault((gated, width), {})[row] = own
        for (gated, width), members in sorted(lanes.items()):
            update.lanes.append(self._lane(path, gated, width, members, rows))
        return update

    def _gathers(self, path: str, width: int, *, gated: bool) -> bool:
        """Whether rows are computed side by side: see `adapter_hub.runtime.updates`."""
        if width > WIDEST_LANE * (EXPERTS if gated else 1):
            return False
        of_a_step = ".decoder." in path and not path.endswith(("encoder_attn.k_proj", "encoder_attn.v_proj"))
        # on a GPU always: there a call costs more than what it computes for a row
        return of_a_step or path == "proj_out" or self.base.device.type != "cpu"

    def _lane(self, path: str, gated: bool, width: int, members: dict[int, list[_Entry]], rows: int) -> Lane:
        part = next(iter(members.values()))[0].part
        store = self._store(path, gated, width, part, rows)
        for row in range(rows):
            a, b, start = store.a[row], store.b[row], 0
            for entry in members.get(row, ()):
                stop = start + entry.part.rank
                buffer = entry.adapter.buffer
                a[start : stop + EXPERTS * gated] = entry.part.a_of(buffer)
                if entry.weight == 1.0:
                    b[:, start:stop] = entry.part.b_of(buffer)
                else:
                    torch.mul(entry.part.b_of(buffer), entry.weight, out=b[:, start:stop])
                bias = entry.part.bias_of(buffer)
                if store.bias is not None and bias is not None:
                    store.bias[row, 0] = bias
                start = stop
            if start < width:  # what another batch left there
                a[start:].zero_()
                b[:, start:].zero_()
        biases = None if store.bias is None else store.bias[:rows]
        return Lane(store.a[:rows].transpose(1, 2), store.b[:rows].transpose(1, 2), biases)

    def _store(self, path: str, gated: bool, width: int, part: Part, rows: int) -> _Store:
        """Return memory for at least this many rows: that of earlier batches where it is enough."""
        store = self._stores.get((path, gated, width))
        if store is None or store.a.shape[0] < rows:
            a = self._empty(rows, width + EXPERTS * gated, part.inputs)
            b = self._empty(rows, part.outputs, width)
            bias = self._empty(rows, 1, EXPERTS).zero_() if gated else None
            store = self._stores[path, gated, width] = _Store(a, b, bias)
        return store

    def _empty(self, *shape: int) -> Tensor:
        """Return new memory that may be written to whether or not inference mode is on then."""
        with torch.inference_mode(mode=False):
            return torch.empty(shape, dtype=self.base.dtype, device=self.base.device)

    def _view(self, module: nn.Module, path: str, memo: dict[int, nn.Module]) -> nn.Module:
        """Return the same tensors under modules of this session's own."""
        if id(module) in memo:
            return memo[id(module)]
        new: nn.Module
        if type(module) is nn.Linear:
            new = self._linears[path] = AdaptedLinear.over(module, path, self._rows)
        else:
            new = copy.copy(module)
            new.__dict__ = _own_dictionary(module)
        memo[id(module)] = new
        new.__dict__["_modules"] = {
            name: None if child is None else self._view(child, f"{path}.{name}" if path else name, memo)
            for name, child in module._modules.items()
        }
        return new


def _by_row(entries: Sequence[_Entry]) -> Iterator[tuple[tuple[int, bool], list[_Entry]]]:
    """Yield the gated and the plain adapters of every row."""
    found: dict[tuple[int, bool], list[_Entry]] = {}
    for entry in entries:
        found.setdefault((entry.row, entry.part.gated), []).append(entry)
    yield from found.items()


def _pairs(experts: Experts) -> Sequence[tuple[ResidentAdapter, float]]:
    if experts is None:
        return []
    return [(experts, 1.0)] if isinstance(experts, ResidentAdapter) else experts


def _whole(adapter: ResidentAdapter) -> bool:
    """Whether all its ranks are computed as they are, without padding."""
    return all(part.rank == padded_rank(part.rank) for part in adapter.layout.values())


def _own_dictionary(module: nn.Module) -> dict[str, Any]:
    """Return a module's attributes with tables of its own, which hold the same tensors."""
    return module.__dict__ | {
        "_parameters": dict(module._parameters),
        "_buffers": dict(module._buffers),
    }
