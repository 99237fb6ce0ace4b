"""Running any mix of adapters in one batch of one frozen Whisper.

    session = Session(base)
    session.seat([danish, None, polish])                # one row each; None is the base model
    session.model.generate(features, language=["da", "en", "pl"], num_beams=5)

A session is a view of the base model: the same weights under modules of its own, whose linears add what
the session's rows ask for. There is no global active adapter and no hook; the base model is never touched,
and two threads with a session each do not see one another.

Adapters of one layout (modules and ranks) share a lane: `[rows, size]`, gathered once per batch by copying
whole buffers, zero where a row has no such adapter. A row's arithmetic depends on its own lane and the
batch's shape alone, and another lane adds exact zeros to it, so whatever its neighbours carry, its output
is the same to the bit (invariant 6), and cost does not depend on how many adapters are resident.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from adapter_hub.errors import InvalidInputError
from adapter_hub.runtime.base_model import BaseModel
from adapter_hub.runtime.loading import Layout, ResidentAdapter

# what a row carries: nothing, an adapter, or several with weights
Experts = ResidentAdapter | Sequence[tuple[ResidentAdapter, float]] | None


class Seat:
    """The rows of a session's current batch, seen by every adapted linear.

    Attributes:
        rows: how many audios the batch holds; 0 where any number may come (all rows alike).
        beams: how often each row is repeated by beam search.
        lanes: by layout and place among a row's experts, the gathered weights `[rows, size]`.
    """

    def __init__(self) -> None:
        self.rows = 0
        self.beams = 1
        self.lanes: dict[tuple[Layout, int], Tensor] = {}

    def fold(self, x: Tensor) -> Tensor:
        """Return `[rows, time, width]` with the beams of a row, which are adjacent, folded into time."""
        if self.rows and x.shape[0] not in (self.rows, self.rows * self.beams):
            raise InvalidInputError(
                f"a batch of {x.shape[0]} reached a session seated for {self.rows} rows "
                f"and {self.beams} beams; seat the session for this batch"
            )
        return x.reshape(self.rows or 1, -1, x.shape[-1])


class AdaptedLinear(nn.Linear):
    """A linear of a session's view: the base model's own weights, plus its seat's updates.

    `pairs` holds the gathered `A` `[rows, rank, in]` and `B` `[rows, rank, out]` of every lane.
    """

    seat: Seat
    pairs: list[tuple[Tensor, Tensor]]

    @classmethod
    def over(cls, linear: nn.Linear, seat: Seat) -> AdaptedLinear:
        """Return a view of `linear`; its weight and bias are the same tensors."""
        new = cls.__new__(cls)
        new.__dict__ = _own_dictionary(linear) | {"seat": seat, "pairs": []}
        return new

    def forward(self, x: Tensor) -> Tensor:
        """Return `x W' + bias + x A' B` for every row's own `A` and `B`."""
        y = F.linear(x, self.weight, self.bias)
        if not self.pairs:
            return y
        folded, out = self.seat.fold(x), self.seat.fold(y)
        for a, b in self.pairs:
            out = torch.baddbmm(out, torch.bmm(folded, a.transpose(1, 2)), b)
        return out.reshape(y.shape)


class Session:
    """A view of the base model for one batch at a time; one per thread. No weight is copied.

    Attributes:
        model: a `WhisperForConditionalGeneration` over the base model's weights, with its own adapters.
    """

    def __init__(self, base: BaseModel) -> None:
        self.base = base
        self._seat = Seat()
        self._linears: dict[str, AdaptedLinear] = {}
        self.model: Any = self._view(base.model, "", {})

    def seat(self, rows: Sequence[Experts], *, beams: int = 1) -> None:
        """Give every row of the next batches its adapters.

        Args:
            rows: for every audio of the batch, what it carries.
            beams: the number of beams that `generate` will be called with.

        Raises:
            InvalidInputError: no rows.
        """
        if not rows:
            raise InvalidInputError("no rows to seat; expected one entry per audio of the batch")
        self._seat.rows, self._seat.beams = len(rows), beams
        self._gather(rows)

    def seat_all(self, experts: Experts) -> None:
        """Give every row of batches of any size the same adapters."""
        self._seat.rows, self._seat.beams = 0, 1
        self._gather([experts])

    def _gather(self, rows: Sequence[Experts]) -> None:
        wanted: dict[tuple[Layout, int], list[tuple[int, ResidentAdapter, float]]] = {}
        for row, experts in enumerate(rows):
            seen: dict[Layout, int] = {}
            for adapter, weight in _pairs(experts):
                place = seen[adapter.layout] = seen.get(adapter.layout, -1) + 1
                wanted.setdefault((adapter.layout, place), []).append((row, adapter, weight))
        # one order for all batches, so that a row's sums do not depend on what its neighbours carry
        order = sorted(wanted, key=repr) if len(wanted) > 1 else wanted
        lanes = {key: self._lane(key, len(rows), wanted[key]) for key in order}
        self._seat.lanes = lanes
        for linear in self._linears.values():
            linear.pairs = []
        for (layout, _), lane in lanes.items():
            for part in layout.parts:
                self._linears[part.shape.path].pairs.append(part.matrices(lane))

    def _lane(
        self, key: tuple[Layout, int], rows: int, entries: Sequence[tuple[int, ResidentAdapter, float]]
    ) -> Tensor:
        """Return the gathered weights, in the buffer of the last batch where it fits."""
        layout, lane = key[0], self._seat.lanes.get(key)
        if lane is None or lane.shape[0] != rows:
            lane = torch.zeros(rows, layout.size, dtype=self.base.dtype, device=self.base.device)
        else:
            lane.zero_()
        for row, adapter, weight in entries:
            lane[row].copy_(adapter.buffer)
            if weight != 1.0:
                lane[row, layout.middle :] *= weight
        return lane

    def _view(self, module: nn.Module, path: str, memo: dict[int, nn.Module]) -> nn.Module:
        """Return the same tensors under modules of this session's own."""
        if id(module) in memo:
            return memo[id(module)]
        new: nn.Module
        if type(module) is nn.Linear:
            new = self._linears[path] = AdaptedLinear.over(module, self._seat)
        else:
            new = copy.copy(module)
            new.__dict__ = _own_dictionary(module)
        memo[id(module)] = new
        new.__dict__["_modules"] = {
            name: None if child is None else self._view(child, f"{path}.{name}" if path else name, memo)
            for name, child in module._modules.items()
        }
        return new


def _pairs(experts: Experts) -> Sequence[tuple[ResidentAdapter, float]]:
    if experts is None:
        return []
    return [(experts, 1.0)] if isinstance(experts, ResidentAdapter) else experts


def _own_dictionary(module: nn.Module) -> dict[str, Any]:
    """Return a module's attributes with tables of its own, which hold the same tensors."""
    return module.__dict__ | {
        "_parameters": dict(module._parameters),
        "_buffers": dict(module._buffers),
    }
