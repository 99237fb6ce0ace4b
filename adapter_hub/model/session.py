"""Running any mix of adapters in one batch of one frozen Whisper.

    session = Session(base)
    session.seat([danish, None, polish, [(danish, 0.5), (polish, 0.5)]])    # None is the base model

Each row of the next batch carries nothing, one adapter (an expert pair is one), or several with weights.
A session is a view of the base model: the same weights under modules of its own, whose linears add what
the session's rows ask for (see `adapter_hub.model.updates`). There is no global active adapter and no
hook; nothing is injected, the base model is never touched, and two threads with a session each do not see
one another. Seating a mixed batch costs a copy of its rows' decoder matrices, however many adapters are
resident; a batch that carries one adapter, or none, costs nothing. Where decoder steps are recorded (see
`adapter_hub.model.graphs`) one adapter is copied once, too, so that steps find every batch's matrices at
the same addresses.
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
from adapter_hub.model.base_model import BaseModel
from adapter_hub.model.gathering import Entry, Gathered, width_of
from adapter_hub.model.graphs import Recorder, Replays, recorder_of, usual_rows
from adapter_hub.model.layout import EXPERTS, RANKS, Part, padded_rank
from adapter_hub.model.loading import ResidentAdapter
from adapter_hub.model.packing import packed_linear
from adapter_hub.model.updates import Lane, Solo, Update

# what a row carries: nothing, an adapter, or several with weights
Experts = ResidentAdapter | Sequence[tuple[ResidentAdapter, float]] | None
WIDEST_LANE = RANKS[-1]  # a row of higher rank is computed by itself


@dataclass
class Seat:
    """The rows of a session's current batch, seen by every linear of its view.

    Attributes:
        rows: how many; 0 where any number may come, all alike.
        room: how many the linears of a step compute: these, and others to fill up to a usual number.
        updates: by path of the linear.
    """

    rows: int = 0
    room: int = 0
    updates: dict[str, Update] = field(default_factory=dict)


class AdaptedLinear(nn.Linear):
    """A linear of a session's view: the base model's own weights, plus what the rows add."""

    path: str
    seat: Seat
    steps: bool  # whether it computes in every decoder step
    autocast: str | None  # the kind of its device, where there is autocast
    packed: Tensor | None  # the weight once more, for small batches on a CPU

    @classmethod
    def over(cls, linear: nn.Linear, path: str, seat: Seat) -> AdaptedLinear:
        """Return a view of `linear`; its weight and bias are the same tensors."""
        new, kind = cls.__new__(cls), linear.weight.device.type
        new.__dict__ = _own_dictionary(linear) | {
            "path": path,
            "seat": seat,
            "steps": of_a_step(path),
            "autocast": kind if torch.amp.is_autocast_available(kind) else None,
            "packed": None,
        }
        return new

    def forward(self, x: Tensor) -> Tensor:
        """Return `x W' + bias + x A' B` for every row's own `A` and `B`; `x` is `[rows, n, inputs]`."""
        update, rows = self.seat.updates.get(self.path), self.seat.rows
        own = update is not None or self.packed is not None  # products that autocast does not cast for
        if own and self.autocast and torch.is_autocast_enabled(self.autocast):
            with torch.autocast(self.autocast, enabled=False):
                return self.forward(x.to(self.weight.dtype))
        if self.packed is not None and not torch.is_grad_enabled():
            y = packed_linear(x, self.packed, self.bias)
        else:
            y = F.linear(x, self.weight, self.bias)
        if update is None:
            return y
        if not rows:
            update.add_(x.reshape(1, -1, x.shape[-1]), y.view(1, -1, y.shape[-1]))
        elif x.shape[0] == (self.seat.room if self.steps else rows):
            update.add_(x, y)
        else:
            raise InvalidInputError(
                f"a batch of {x.shape[0]} reached a session seated for {rows} rows; "
                "seat the session for this batch"
            )
        return y


@dataclass
class Session:
    """A view of the base model for one batch at a time; one per thread. No weight is copied.

    On a GPU it is for the default stream: its memory goes from batch to batch, and waits for no other stream.

    Attributes:
        base: the base model.
        recorder: how decoder steps are recorded; None is the way of the base model's device, if it has one.
        model: a `WhisperForConditionalGeneration` over the base model's weights, with its own adapters.
        replays: the steps that were recorded; None where none are.
    """

    base: BaseModel
    recorder: Recorder | None = None
    model: Any = field(init=False)
    replays: Replays | None = field(init=False)
    _rows: Seat = field(init=False, default_factory=Seat)
    _linears: dict[str, AdaptedLinear] = field(init=False, default_factory=dict)
    _alike: WeakKeyDictionary[ResidentAdapter, dict[int, dict[str, Update]]] = field(
        init=False, default_factory=WeakKeyDictionary
    )
    _buffers: dict[str, Tensor] = field(init=False, default_factory=dict)
    _gathered: Gathered = field(init=False)

    def __post_init__(self) -> None:
        self.model = self._view(self.base.model, "", {})
        self._gathered = Gathered(self.base.dtype, self.base.device)  # asking the model takes a while
        record = self.recorder or recorder_of(self._gathered.device)
        self.replays = None if record is None else Replays(record)

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

    def widen(self, room: int) -> None:
        """Make the linears of a step compute `room` rows; those behind the seated ones carry nothing."""
        self._rows.room = room
        for path, update in self._rows.updates.items():
            if of_a_step(path):
                lanes = [self._gathered.widened(path, lane, room) for lane in update.lanes]
                self._rows.updates[path] = Update(lanes, update.solos)

    def keep(self, order: list[int], room: int | None = None) -> None:
        """Go on with some of the rows, in this order; a row that comes earlier now is moved there.

        Args:
            order: the rows.
            room: how many the linears of a step shall compute, these included; by default no others.
        """
        self._rows.rows = len(order)
        self._rows.room = room or len(order)
        self._rows.updates = {
            path: update.keep(order, self._rows.room if of_a_step(path) else len(order))
            for path, update in self._rows.updates.items()
        }

    def addresses(self) -> tuple[object, ...]:
        """Return where the linears of a step find what the rows carry, and in which shapes."""
        updates = sorted(self._rows.updates.items())
        return tuple((path, *update.addresses()) for path, update in updates if of_a_step(path))

    def buffer(self, name: str, shape: Sequence[int], dtype: torch.dtype | None = None) -> Tensor:
        """Return memory for decoding, by name: that of earlier batches where it is enough."""
        size, found = math.prod(shape), self._buffers.get(name)
        if found is None or found.numel() < size:
            with torch.inference_mode(mode=False):  # written to whether or not inference mode is on then
                found = torch.empty(size, dtype=dtype or self._gathered.dtype, device=self._gathered.device)
            self._buffers[name] = found
        return found[:size].view(shape)

    def _seat(self, rows: Sequence[Experts], count: int) -> None:
        first = rows[0]
        self._rows.updates = {}
        self._gathered.forget()  # what a seating left undone that ran out of memory
        if isinstance(first, ResidentAdapter) and all(row is first for row in rows) and _whole(first):
            updates = self._shared(first, len(rows))
        else:
            entries: dict[str, list[Entry]] = {}
            for row, experts in enumerate(rows):
                for adapter, weight in _pairs(experts):
                    for path, part in adapter.layout.items():
                        entries.setdefault(path, []).append(Entry(row, part, adapter, weight))
            updates = {path: self._update(path, own, len(rows)) for path, own in entries.items()}
        self._gathered.copy()
        self._rows.rows = self._rows.room = count
        self._rows.updates = updates

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
        if self.replays is None:
            return known[rows]
        return known[rows] | {
            path: self._copied(path, part, adapter, rows)
            for path, part in adapter.layout.items()
            if of_a_step(path)
        }

    def _copied(self, path: str, part: Part, adapter: ResidentAdapter, rows: int) -> Update:
        """Return the update of rows that all carry one adapter, in memory of the session's own."""
        if self._gathers(path, part.rank, gated=part.gated):
            return Update(lanes=[self._gathered.shared(path, part, adapter, rows)])
        alike = [Entry(row, part, adapter, 1.0) for row in range(rows)]
        return Update(solos=self._gathered.solos(path, alike, alike=True))

    def _update(self, path: str, entries: Sequence[Entry], rows: int) -> Update:
        """Sort the rows of one linear into lanes and rows by themselves."""
        lanes: dict[tuple[bool, int], dict[int, list[Entry]]] = {}
        alone: list[Entry] = []
        for (row, gated), own in _by_row(entries):
            width = width_of(own)
            if not self._gathers(path, width, gated=gated) or (gated and len(own) > 1):
                alone += own
            else:
                lanes.setdefault((gated, width), {})[row] = own
        recorded = self.replays is not None and of_a_step(path)
        update = Update()
        if recorded:
            update.solos = self._gathered.solos(path, alone)
        else:
            update.solos = [Solo.of(e.row, e.part, e.adapter.buffer, e.weight) for e in alone]
        room = usual_rows(rows) if recorded else rows
        for (gated, width), members in sorted(lanes.items()):
            update.lanes.append(self._gathered.lane(path, gated, width, members, rows, room))
        return update

    def _gathers(self, path: str, width: int, *, gated: bool) -> bool:
        """Whether rows are computed side by side: see `adapter_hub.model.updates`."""
        if width > WIDEST_LANE * (EXPERTS if gated else 1):
            return False
        # on a GPU always: there a call costs more than what it computes for a row
        return of_a_step(path) or self._gathered.device.type != "cpu"

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


def of_a_step(path: str) -> bool:
    """Tell whether a linear computes in every decoder step; of the others a row is a thousand positions.

    >>> of_a_step("model.decoder.layers.0.encoder_attn.q_proj")
    True
    >>> of_a_step("model.decoder.layers.0.encoder_attn.k_proj")
    False
    """
    of_the_audio = path.endswith(("encoder_attn.k_proj", "encoder_attn.v_proj"))
    return path == "proj_out" or (".decoder." in path and not of_the_audio)


def _by_row(entries: Sequence[Entry]) -> Iterator[tuple[tuple[int, bool], list[Entry]]]:
    """Yield the gated and the plain adapters of every row."""
    found: dict[tuple[int, bool], list[Entry]] = {}
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
