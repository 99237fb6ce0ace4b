"""The arithmetic of adapters: what is added to a linear's output, row by row.

An `Update` belongs to one linear and one batch. It has two forms, and which one a row takes depends on
its own adapter alone, never on its neighbours':

    Lane    `A` and `B` of all rows gathered side by side, zero where a row has none: two products for the
            whole batch, however many adapters are in it. For decoding, where a row is a few positions.
    Solo    one row by itself, straight from the adapter's buffer: nothing is gathered, and rows without an
            adapter cost nothing. For the encoder, where a row is a thousand positions, and for high ranks,
            so that one average of many adapters does not tax every row.

A lane's product has the same shape whatever is in it, and zeros add nothing, so a row's bits do not depend
on what the others carry (invariant 6). Ranks are padded to a few widths, so that most batches need one
lane.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from adapter_hub.model.layout import EXPERTS, Part


def gate(h: Tensor, bias: Tensor | None) -> Tensor:
    """Weigh the two halves of `h` `[..., rank + 2]` by the gate in its last two columns.

    Returns:
        `[..., rank]`.
    """
    logits = h[..., -EXPERTS:]
    logits = logits if bias is None else logits + bias
    weights = logits.softmax(-1, dtype=torch.float32).to(h.dtype)
    return (h[..., :-EXPERTS].unflatten(-1, (EXPERTS, -1)) * weights.unsqueeze(-1)).flatten(-2)


@dataclass(frozen=True)
class Lane:
    """All rows at once: `a` `[rows, inputs, width]`, `b` `[rows, width, outputs]`, both views.

    Where all rows carry one adapter they are views of its own buffer, `shared` by the rows: nothing is
    gathered, and the products have the same shapes and bits.
    """

    a: Tensor
    b: Tensor
    bias: Tensor | None = None  # [rows, 1, 2] of gates
    shared: bool = False

    @classmethod
    def of(cls, part: Part, buffer: Tensor, rows: int) -> Lane:
        """Return the lane of rows that all carry one adapter."""
        a, b, bias = part.a_of(buffer), part.b_of(buffer), part.bias_of(buffer)
        return cls(
            a.t().expand(rows, -1, -1),
            b.t().expand(rows, -1, -1),
            None if bias is None else bias.expand(rows, 1, -1),
            shared=True,
        )

    def add_(self, x: Tensor, y: Tensor) -> None:
        """Add the updates of `x` `[rows, n, inputs]` to `y` `[rows, n, outputs]`."""
        h = torch.bmm(x, self.a)
        if self.bias is not None:
            h = gate(h, self.bias)
        y.baddbmm_(h, self.b)

    def keep(self, order: list[int], room: int) -> Lane:
        """Return the lane of the rows `order`, moved to the front in place, and others up to `room`."""
        moved = [] if self.shared else order
        a, b = move(self.a, moved, room), move(self.b, moved, room)
        return Lane(a, b, None if self.bias is None else move(self.bias, moved, room), self.shared)

    def addresses(self) -> tuple[object, ...]:
        """Return where its matrices are, and in which shapes."""
        return address(self.a), address(self.b), None if self.bias is None else address(self.bias)


@dataclass(frozen=True)
class Solo:
    """One row: the adapter's own matrices, weighted."""

    row: int
    a: Tensor  # [inputs, rank], a view
    b: Tensor  # [rank, outputs], a view
    weight: float = 1.0
    bias: Tensor | None = None
    gated: bool = False

    @classmethod
    def of(cls, row: int, part: Part, buffer: Tensor, weight: float) -> Solo:
        """Return the update of one row by one adapter."""
        a, b = part.a_of(buffer).t(), part.b_of(buffer).t()
        return cls(row, a, b, weight, part.bias_of(buffer), part.gated)

    def add_(self, x: Tensor, y: Tensor) -> None:
        """Add the update of row `x[row]` to `y[row]`."""
        h = torch.mm(x[self.row], self.a)
        if self.gated:
            h = gate(h, self.bias)
        y[self.row].addmm_(h, self.b, alpha=self.weight)

    def addresses(self) -> tuple[object, ...]:
        """Return which row it is of, with which weight, and where its matrices are."""
        bias = None if self.bias is None else address(self.bias)
        return self.row, self.weight, address(self.a), address(self.b), bias


@dataclass
class Update:
    """What the rows of a batch add to one linear."""

    lanes: list[Lane] = field(default_factory=list)
    solos: list[Solo] = field(default_factory=list)

    def add_(self, x: Tensor, y: Tensor) -> None:
        """Add to `y` `[rows, n, outputs]`, in place, the updates of `x` `[rows, n, inputs]`."""
        for lane in self.lanes:
            lane.add_(x, y)
        for solo in self.solos:
            solo.add_(x, y)

    def keep(self, order: list[int], room: int) -> Update:
        """Return the update of the rows `order`; those that fell behind the end have moved forward."""
        places = {source: place for place, source in enumerate(order)}
        solos = [replace(solo, row=places[solo.row]) for solo in self.solos if solo.row in places]
        return Update([lane.keep(order, room) for lane in self.lanes], solos)

    def addresses(self) -> tuple[object, ...]:
        """Return where its matrices are, and in which shapes."""
        return (*(lane.addresses() for lane in self.lanes), *(solo.addresses() for solo in self.solos))


def address(tensor: Tensor) -> tuple[object, ...]:
    """Return where a tensor is and how it lies there."""
    return tensor.data_ptr(), tuple(tensor.shape), tensor.stride()


def move(tensor: Tensor, order: Sequence[int], room: int | None = None) -> Tensor:
    """Return the rows `order` of a tensor, moved to its front in place, and others up to `room`.

    A row that is moved must come from behind the front, where nothing is needed any more.
    """
    for place, source in enumerate(order):
        if place != source:
            tensor[place].copy_(tensor[source])
    return tensor[: len(order) if room is None else room]
