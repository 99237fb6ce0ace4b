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
    """Weigh the two halves of a token-gated expert pair (the paper's LoRA MoE, arXiv:2406.06619).

    Args:
        h: `[..., rank + 2]`: the halves side by side, then the gate's two logits.
        bias: of the gate, broadcast to `[..., 2]`.

    Returns:
        `[..., rank]`, in the dtype of `h`; the softmax is computed in float32.
    """
    logits = h[..., -EXPERTS:]
    logits = logits if bias is None else logits + bias
    weights = logits.softmax(-1, dtype=torch.float32).to(h.dtype)
    return (h[..., :-EXPERTS].unflatten(-1, (EXPERTS, -1)) * weights.unsqueeze(-1)).flatten(-2)


@dataclass(frozen=True)
class BatchedUpdate:
    """The update of all rows at once.

    Attributes:
        a: `[rows, in_features, width]`, a view; `width` is the padded rank, and two more with a gate.
        b: `[rows, width, out_features]`, a view; it holds the scaling and the weight of each term.
        bias: of gates, `[rows, 1, 2]`.
        shared: all rows carry one adapter, and the tensors are views of its own buffer: nothing is gathered,
            and the products have the same shapes and bits.
    """

    a: Tensor
    b: Tensor
    bias: Tensor | None = None
    shared: bool = False

    @classmethod
    def of(cls, module: ModuleLayout, buffer: Tensor, rows: int) -> BatchedUpdate:
        """Return the update of rows that all carry one adapter, as views of its buffer.

        Args:
            module: where the adapter's matrices are.
            buffer: the adapter's.
            rows: of the batch.
        """
        a, b, bias = module.lora_a(buffer), module.lora_b(buffer), module.gate_bias(buffer)
        return cls(
            a.t().expand(rows, -1, -1),
            b.t().expand(rows, -1, -1),
            None if bias is None else bias.expand(rows, 1, -1),
            shared=True,
        )

    def add_(self, x: Tensor, y: Tensor) -> None:
        """Add the updates of all rows to `y`, in place.

        Args:
            x: `[rows, n, in_features]`.
            y: `[rows, n, out_features]`.
        """
        h = torch.bmm(x, self.a)
        if self.bias is not None:
            h = gate(h, self.bias)
        y.baddbmm_(h, self.b)

    def keep(self, order: list[int], padded_rows: int) -> BatchedUpdate:
        """Return the update of some rows, moved to the front in place.

        Args:
            order: the rows.
            padded_rows: rows that the returned update computes, these included.
        """
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
    """The update of one row by one adapter.

    Attributes:
        row: of the batch.
        a: `[in_features, rank]`, a view; two columns more with a gate.
        b: `[rank, out_features]`, a view; it holds the scaling.
        weight: of the adapter in a weighted sum.
        bias: of a gate, `[2]`.
        gated: a gate weighs the two halves.
    """

    row: int
    a: Tensor
    b: Tensor
    weight: float = 1.0
    bias: Tensor | None = None
    gated: bool = False

    @classmethod
    def of(cls, row: int, module: ModuleLayout, buffer: Tensor, weight: float) -> RowUpdate:
        """Return the update of one row, as views of the adapter's buffer.

        Args:
            row: of the batch.
            module: where the adapter's matrices are.
            buffer: the adapter's.
            weight: of the adapter in a weighted sum.
        """
        a, b = module.lora_a(buffer).t(), module.lora_b(buffer).t()
        return cls(row, a, b, weight, module.gate_bias(buffer), module.gated)

    def add_(self, x: Tensor, y: Tensor) -> None:
        """Add the row's update to `y`, in place.

        Args:
            x: `[rows, n, in_features]`.
            y: `[rows, n, out_features]`.
        """
        h = torch.mm(x[self.row], self.a)
        if self.gated:
            h = gate(h, self.bias)
        y[self.row].addmm_(h, self.b, alpha=self.weight)

    def addresses(self) -> tuple[object, ...]:
        """Return its row and weight, and where its matrices are."""
        bias = None if self.bias is None else address(self.bias)
        return self.row, self.weight, address(self.a), address(self.b), bias


@dataclass
class LowRankUpdate:
    """What the rows of a batch add to one linear: `batched` rows, and others `by_row`."""

    batched: list[BatchedUpdate] = field(default_factory=list)
    by_row: list[RowUpdate] = field(default_factory=list)

    def add_(self, x: Tensor, y: Tensor) -> None:
        """Add the updates of all rows to `y`, in place.

        Args:
            x: `[rows, n, in_features]`.
            y: `[rows, n, out_features]`.
        """
        for batched in self.batched:
            batched.add_(x, y)
        for single in self.by_row:
            single.add_(x, y)

    def keep(self, order: list[int], padded_rows: int) -> LowRankUpdate:
        """Return the update of some rows, in this order.

        Args:
            order: the rows.
            padded_rows: rows that batched updates compute, these included.
        """
        places = {source: place for place, source in enumerate(order)}
        by_row = [replace(update, row=places[update.row]) for update in self.by_row if update.row in places]
        return LowRankUpdate([update.keep(order, padded_rows) for update in self.batched], by_row)

    def addresses(self) -> tuple[object, ...]:
        """Return where its matrices are, and in which shapes."""
        batched = tuple(update.addresses() for update in self.batched)
        return batched + tuple(update.addresses() for update in self.by_row)


def address(tensor: Tensor) -> tuple[object, ...]:
    """Return where a tensor is in memory, its shape and its strides."""
    return tensor.data_ptr(), tuple(tensor.shape), tensor.stride()


def move(tensor: Tensor, order: Sequence[int], padded_rows: int | None = None) -> Tensor:
    """Return the rows `order` of a tensor, moved to its front in place.

    Args:
        tensor: `[rows, ...]`.
        order: the rows to keep; a row that changes place has to come from beyond the first `len(order)`.
        padded_rows: rows to return, these first; None is no others.
    """
    for place, source in enumerate(order):
        if place != source:
            tensor[place].copy_(tensor[source])
    return tensor[: len(order) if padded_rows is None else padded_rows]
