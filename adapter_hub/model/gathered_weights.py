"""The memory in which a session gathers the matrices of its rows, kept from batch to batch.

    gathered = GatheredWeights(dtype, device)
    update = gathered.batched(path, gated, width, by_row, rows=8, padded_rows=8)  # adapters of their own
    update = gathered.shared(path, module, adapter, rows=8)     # rows that all carry one adapter
    gathered.copy_pending()                                     # now the matrices are there

All copies of a batch are made together, in a few calls of a GPU. What is gathered goes where an earlier
batch of the same kind had it, so that decoder steps recorded for that batch serve this one too
(see `adapter_hub.model.cuda_graphs`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from adapter_hub.model.layout import EXPERTS, ModuleLayout, padded_rank
from adapter_hub.model.loading import ResidentAdapter
from adapter_hub.model.low_rank_updates import BatchedUpdate, RowUpdate


@dataclass(frozen=True)
class Term:
    """One term of the sum that a row adds to a linear: `weight` times one adapter's update.

    Attributes:
        row: of the batch.
        module: where the adapter's matrices for this linear are.
        adapter: whose they are.
        weight: 1.0 but for a weighted sum of adapters.
    """

    row: int
    module: ModuleLayout
    adapter: ResidentAdapter
    weight: float


@dataclass(frozen=True)
class WeightBuffers:
    """The memory for the matrices of one linear: of all rows of a batch, or of a single one.

    Attributes:
        a: `[rows, width, in_features]`, the base model's dtype; two rows more than `width` with a gate.
        b: `[rows, out_features, width]`.
        bias: of gates, `[rows, 1, 2]`.
    """

    a: Tensor
    b: Tensor
    bias: Tensor | None

    def batched(self, rows: int, *, shared: bool = False) -> BatchedUpdate:
        """Return the update of its first rows; with `shared` its only row stands for all of them."""
        a, b, bias = self.a.transpose(1, 2), self.b.transpose(1, 2), self.bias
        if shared:
            bias = None if bias is None else bias.expand(rows, -1, -1)
            return BatchedUpdate(a.expand(rows, -1, -1), b.expand(rows, -1, -1), bias, shared=True)
        return BatchedUpdate(a[:rows], b[:rows], None if bias is None else bias[:rows])


@dataclass
class GatheredWeights:
    """Buffers by linear and kind, and the copies into them that are still to be made.

    Attributes:
        dtype: of the base model.
        device: where it is.
    """

    dtype: torch.dtype
    device: torch.device
    _buffers: dict[tuple[object, ...], WeightBuffers] = field(default_factory=dict)
    _pending: list[tuple[Tensor, Tensor]] = field(default_factory=list)

    def batched(
        self,
        path: str,
        gated: bool,
        width: int,
        by_row: Mapping[int, Sequence[Term]],
        rows: int,
        padded_rows: int,
    ) -> BatchedUpdate:
        """Return the update of rows with adapters of their own; the terms of a row are concatenated.

        Args:
            path: of the linear.
            gated: whether a gate weighs the two halves of each row's matrices.
            width: the padded rank at which all rows are computed.
            by_row: the terms of each row; rows without any are left out and get zeros.
            rows: of the batch.
            padded_rows: rows to have memory for, at least.
        """
        module = next(iter(by_row.values()))[0].module
        buffers = self._buffers_for((path, gated, width), module, width, padded_rows)
        for row in range(rows):
            a, b, start = buffers.a[row], buffers.b[row], 0
            for term in by_row.get(row, ()):
                stop = start + term.module.rank
                bias = None if buffers.bias is None else buffers.bias[row, 0]
                self._schedule(term, a[start : stop + EXPERTS * gated], b[:, start:stop], bias)
                start = stop
            if start < width:  # an earlier batch may have left something there
                a[start:].zero_()
                b[:, start:].zero_()
        return buffers.batched(rows)

    def shared(self, path: str, module: ModuleLayout, adapter: ResidentAdapter, rows: int) -> BatchedUpdate:
        """Return the update of `rows` rows that all carry one adapter, whose matrices are copied once.

        Args:
            path: of the linear.
            module: where the adapter's matrices for it are.
            adapter: whose they are.
            rows: of the batch.
        """
        buffers = self._buffers_for((path, module.gated, module.rank, "shared"), module, module.rank, 1)
        self._schedule(Term(0, module, adapter, 1.0), buffers.a[0], buffers.b[0], _first(buffers.bias))
        return buffers.batched(rows, shared=True)

    def by_row(self, path: str, terms: Iterable[Term], *, alike: bool = False) -> list[RowUpdate]:
        """Return the updates of rows that are computed by themselves.

        Args:
            path: of the linear.
            terms: one or more for each row.
            alike: all terms are of one adapter, whose matrices are copied once.
        """
        found: list[RowUpdate] = []
        for number, term in enumerate(terms):
            module = term.module
            key = (path, module.gated, module.rank, "single", 0 if alike else number)
            buffers = self._buffers_for(key, module, module.rank, 1)
            if not (alike and number):
                self._schedule(term, buffers.a[0], buffers.b[0], _first(buffers.bias))
            a, b = buffers.a[0].t(), buffers.b[0].t()
            found.append(RowUpdate(term.row, a, b, 1.0, _first(buffers.bias), module.gated))
        return found

    def padded(self, path: str, update: BatchedUpdate, padded_rows: int) -> BatchedUpdate:
        """Return an update over `padded_rows` rows, of which those beyond its own hold arbitrary values.

        Args:
            path: of the linear.
            update: of the batch's rows, returned by `batched` or `shared`.
            padded_rows: rows to compute.
        """
        gated, width = update.bias is not None, update.b.shape[1]
        if update.shared:
            return self._buffers[path, gated, width, "shared"].batched(padded_rows, shared=True)
        return self._buffers[path, gated, width].batched(padded_rows)

    def drop_pending(self) -> None:
        """Forget the copies that are still to be made."""
        self._pending = []

    def copy_pending(self) -> None:
        """Make the copies that are still to be made."""
        copies, self._pending = self._pending, []
        groups = [copies]
        if self.device.type != "cpu":  # a GPU copies dense ones in a few calls
            groups = [
                [pair for pair in copies if pair[0].is_contiguous() == dense] for dense in (True, False)
            ]
        for pairs in filter(None, groups):
            torch._foreach_copy_([to for to, _ in pairs], [source for _, source in pairs])

    def _schedule(self, term: Term, a: Tensor, b: Tensor, bias: Tensor | None) -> None:
        module, buffer = term.module, term.adapter.buffer
        self._pending.append((a, module.lora_a(buffer)))
        if term.weight == 1.0:
            self._pending.append((b, module.lora_b(buffer)))
        else:
            torch.mul(module.lora_b(buffer), term.weight, out=b)
        own = module.gate_bias(buffer)
        if bias is not None and own is not None:
            self._pending.append((bias, own))

    def _buffers_for(
        self, key: tuple[object, ...], module: ModuleLayout, width: int, rows: int
    ) -> WeightBuffers:
        """Return memory for at least this many rows: that of earlier batches where it is enough."""
        buffers = self._buffers.get(key)
        if buffers is None or buffers.a.shape[0] < rows:
            gated = EXPERTS * module.gated
            a = self._zeros(rows, width + gated, module.in_features)
            bias = self._zeros(rows, 1, EXPERTS) if gated else None
            buffers = self._buffers[key] = WeightBuffers(
                a, self._zeros(rows, module.out_features, width), bias
            )
        return buffers

    def _zeros(self, *shape: int) -> Tensor:
        """Return new memory that can be written to in and outside of inference mode."""
        with torch.inference_mode(mode=False):
            return torch.zeros(shape, dtype=self.dtype, device=self.device)


def _first(bias: Tensor | None) -> Tensor | None:
    return None if bias is None else bias[0, 0]


def padded_rank_of(terms: Sequence[Term]) -> int:
    """Return the padded rank at which the terms of one row are computed."""
    return padded_rank(sum(term.module.rank for term in terms))
