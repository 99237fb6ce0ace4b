"""The low-rank updates of a batch: what adapters add to a linear's output, row by row.

A `LowRankUpdate` belongs to one linear and one batch: `y += x A' B` for the `A` and `B` of every row's own
adapter (LoRA, arXiv:2106.09685). It has two forms, and which one a row takes depends on its own adapter
alone, never on its neighbours':

    BatchedUpdate   `A` and `B` of all rows gathered into one tensor each, zero where a row has none: two
                    batched products for the whole batch, however many adapters are in it. For decoding,
                    where a row is a few positions.
    RowUpdate       one row by itself, straight from the adapter's buffer: nothing is gathered, and rows
                    without an adapter cost nothing. For the encoder, where a row is a thousand positions,
                    and for high ranks, so that one average of many adapters does not tax every row.

Serving many adapters in one batch is also what S-LoRA (arXiv:2311.03285) and Punica do, with kernels of their
own; here it is done with PyTorch's. A batched product has the same shape whatever is in it, and zeros add
nothing, so a row's bits do not depend on what the others carry (invariant 6). Ranks are padded to a few
widths, so that most batches need a single batched update.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from adapter_hub.model.layout import EXPERTS, ModuleLayout


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
class BatchedUpdate:
    """All rows at once: `a` `[rows, in_features, width]`, `b` `[rows, width, out_features]`, both views.

    Where all rows carry one adapter they are views of its own buffer, `shared` by the rows: nothing is
    gathered, and the products have the same shapes and bits.
    """

    a: Tensor
    b: Tensor
    bias: Tensor | None = None  # [rows, 1, 2] of gates
    shared: bool = False

    @classmethod
    def of(cls, module: ModuleLayout, buffer: Tensor, rows: int) -> BatchedUpdate:
        """Return the update of rows that all carry one adapter."""
        a, b, bias = module.lora_a(buffer), module.lora_b(buffer), module.gate_bias(buffer)
        return cls(
            a.t().expand(rows, -1, -1),
            b.t().expand(rows, -1, -1),
            None if bias is None else bias.expand(rows, 1, -1),
            shared=True,
        )

    def add_(self, x: Tensor, y: Tensor) -> None:
        """Add the updates of `x` `[rows, n, in_features]` to `y` `[rows, n, out_features]`."""
        h = torch.bmm(x, self.a)
        if self.bias is not None:
            h = gate(h, self.bias)
        y.baddbmm_(h, self.b)

    def keep(self, order: list[int], padded_rows: int) -> BatchedUpdate:
        """Return the update of the rows `order`, moved to the front in place, padded to `padded_rows`."""
        moved = [] if self.shared else order
        a, b = move(self.a, moved, padded_rows), move(self.b, moved, padded_rows)
        return BatchedUpdate(
            a, b, None if self.bias is None else move(self.bias, moved, padded_rows), self.shared
        )

    def addresses(self) -> tuple[object, ...]:
        """Return where its matrices are, and in which shapes."""
        return address(self.a), address(self.b), None if self.bias is None else address(self.bias)


@dataclass(frozen=True)
class RowUpdate:
    """One row: the adapter's own matrices, weighted."""

    row: int
    a: Tensor  # [in_features, rank], a view
    b: Tensor  # [rank, out_features], a view
    weight: float = 1.0
    bias: Tensor | None = None
    gated: bool = False

    @classmethod
    def of(cls, row: int, module: ModuleLayout, buffer: Tensor, weight: float) -> RowUpdate:
        """Return the update of one row by one adapter."""
        a, b = module.lora_a(buffer).t(), module.lora_b(buffer).t()
        return cls(row, a, b, weight, module.gate_bias(buffer), module.gated)

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
class LowRankUpdate:
    """What the rows of a batch add to one linear."""

    batched: list[BatchedUpdate] = field(default_factory=list)
    by_row: list[RowUpdate] = field(default_factory=list)

    def add_(self, x: Tensor, y: Tensor) -> None:
        """Add to `y` `[rows, n, out_features]`, in place, the updates of `x` `[rows, n, in_features]`."""
        for update in (*self.batched, *self.by_row):
            update.add_(x, y)

    def keep(self, order: list[int], padded_rows: int) -> LowRankUpdate:
        """Return the update of the rows `order`; those that fell behind the end have moved forward."""
        places = {source: place for place, source in enumerate(order)}
        by_row = [replace(update, row=places[update.row]) for update in self.by_row if update.row in places]
        return LowRankUpdate([update.keep(order, padded_rows) for update in self.batched], by_row)

    def addresses(self) -> tuple[object, ...]:
        """Return where its matrices are, and in which shapes."""
        return (*(update.addresses() for update in (*self.batched, *self.by_row)),)


def address(tensor: Tensor) -> tuple[object, ...]:
    """Return where a tensor is and how it lies there."""
    return tensor.data_ptr(), tuple(tensor.shape), tensor.stride()


def move(tensor: Tensor, order: Sequence[int], padded_rows: int | None = None) -> Tensor:
    """Return the rows `order` of a tensor, moved to its front in place, and others up to `padded_rows`.

    A row that is moved must come from behind the front, where nothing is needed any more.
    """
    for place, source in enumerate(order):
        if place != source:
            tensor[place].copy_(tensor[source])
    return tensor[: len(order) if padded_rows is None else padded_rows]
