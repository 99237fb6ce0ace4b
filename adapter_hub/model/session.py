"""Running any mix of adapters in one batch of one frozen Whisper.

    session = Session(base)
    session.set_adapters([danish, None, polish, [(danish, 0.5), (polish, 0.5)]])    # None is the base model
    session.model(input_features=features, decoder_input_ids=tokens).logits         # one row of each

Each row of the next batch has no adapter, one (an expert pair is one), or several with weights. A session is
a view of the base model: the same weights under modules of its own, whose linears add the low-rank updates of
the batch's rows (see `adapter_hub.model.low_rank_updates`). There is no global active adapter and no hook;
nothing is injected, the base model is never touched, and two threads with a session each do not affect one
another. Setting the adapters of a mixed batch costs a copy of its rows' decoder matrices, however many
adapters are resident; a batch with the same adapter in all rows, or none, costs nothing. Where decoder steps
are recorded (see `adapter_hub.model.cuda_graphs`) one adapter is copied once, too, so that steps find every
batch's matrices at the same addresses.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from adapter_hub.errors import InvalidInputError
from adapter_hub.model.base_model import BaseModel, is_positionwise
from adapter_hub.model.cuda_graphs import RecordedSteps, Recorder, padded_row_count, recorder_for
from adapter_hub.model.gathered_weights import GatheredWeights, Term, padded_rank_of
from adapter_hub.model.layout import EXPERTS, RANKS, ModuleLayout, padded_rank
from adapter_hub.model.loading import ResidentAdapter
from adapter_hub.model.low_rank_updates import BatchedUpdate, LowRankUpdate, RowUpdate
from adapter_hub.model.packing import packed_linear

# the adapters of a row: none, one, or several with weights
RowAdapters = ResidentAdapter | Sequence[tuple[ResidentAdapter, float]] | None
HIGHEST_BATCHED_RANK = RANKS[-1]  # a row of a higher rank is computed by itself


@dataclass
class BatchRows:
    """The rows of a session's current batch, seen by every linear of its view.

    Attributes:
        rows: how many; 0 where any number may come, all alike.
        padded_rows: how many the linears of a decoder step compute: these, and others that fill the batch up
            to a size for which steps are recorded.
        updates: the low-rank update of each linear, by its path.
    """

    rows: int = 0
    padded_rows: int = 0
    updates: dict[str, LowRankUpdate] = field(default_factory=dict)


class AdaptedLinear(nn.Linear):
    """A linear of a session's view: the base model's own weights, plus what the rows add."""

    path: str
    batch: BatchRows
    steps: bool  # whether it computes in every decoder step
    autocast: str | None  # its device's type, where PyTorch has autocast for it
    packed: Tensor | None  # the weight once more, for small batches on a CPU

    @classmethod
    def over(cls, linear: nn.Linear, path: str, batch: BatchRows) -> AdaptedLinear:
        """Return a view of `linear`; its weight and bias are the same tensors.

        Args:
            linear: of the base model.
            path: its path in the base model, by which its update is found.
            batch: the session's rows.
        """
        new, kind = cls.__new__(cls), linear.weight.device.type
        new.__dict__ = _own_dictionary(linear) | {
            "path": path,
            "batch": batch,
            "steps": of_a_step(path),
            "autocast": kind if torch.amp.is_autocast_available(kind) else None,
            "packed": None,
        }
        return new

    def forward(self, x: Tensor) -> Tensor:
        """Return `x W' + bias + x A' B'` with every row's own `A` and `B` (LoRA, equation 3).

        Args:
            x: `[rows, n, in_features]`, in the base model's dtype or, under autocast, any.

        Returns:
            `[rows, n, out_features]`.

        Raises:
            InvalidInputError: the batch has another number of rows than adapters were set for.
        """
        update, rows = self.batch.updates.get(self.path), self.batch.rows
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
        elif x.shape[0] == (self.batch.padded_rows if self.steps else rows):
            update.add_(x, y)
        else:
            raise InvalidInputError(
                f"a batch of {x.shape[0]} rows reached a session whose adapters are set for {rows}; "
                "call set_adapters for this batch"
            )
        return y


class AdaptedPositionwiseLinear(AdaptedLinear):
    """The same for a convolution over single positions, whose channels come before the positions."""

    def forward(self, x: Tensor) -> Tensor:
        """Return what `AdaptedLinear.forward` does.

        Args:
            x: `[rows, in_features, n]`.

        Returns:
            `[rows, out_features, n]`.

        Raises:
            InvalidInputError: as `AdaptedLinear.forward`.
        """
        return super().forward(x.transpose(1, 2)).transpose(1, 2)


@dataclass
class Session:
    """A view of the base model for one batch at a time; one per thread. No weight is copied.

    On a GPU it is for the default stream: its memory goes from batch to batch, and waits for no other stream.

    Attributes:
        base: the base model.
        recorder: how decoder steps are recorded; None asks `recorder_for` about the base model's device.
        model: a `WhisperForConditionalGeneration` over the base model's weights, with its own adapters.
        between_steps: called before every decoder step; it may compute with another session.
        recorded_steps: the steps that were recorded; None where none are.
    """

    base: BaseModel
    recorder: Recorder | None = None
    model: Any = field(init=False)
    between_steps: Callable[[], object] | None = field(init=False, default=None)
    recorded_steps: RecordedSteps | None = field(init=False)
    _batch: BatchRows = field(init=False, default_factory=BatchRows)
    _linears: dict[str, AdaptedLinear] = field(init=False, default_factory=dict)
    _shared_updates: WeakKeyDictionary[ResidentAdapter, dict[int, dict[str, LowRankUpdate]]] = field(
        init=False, default_factory=WeakKeyDictionary
    )
    _buffers: dict[str, Tensor] = field(init=False, default_factory=dict)
    _gathered: GatheredWeights = field(init=False)

    def __post_init__(self) -> None:
        self.model = self._view(self.base.model, "", {})
        self._gathered = GatheredWeights(
            self.base.dtype, self.base.device
        )  # asking the model for its dtype takes a while
        record = self.recorder or recorder_for(self._gathered.device)
        self.recorded_steps = None if record is None else RecordedSteps(record)

    def set_adapters(self, rows: Sequence[RowAdapters]) -> None:
        """Give every row of the next batches its adapters.

        Args:
            rows: for every row of the batch None (the base model), an adapter, or several with weights, whose
                updates are summed.

        Raises:
            InvalidInputError: no rows.
        """
        if not rows:
            raise InvalidInputError("no rows; expected one entry for each row of the batch")
        self._set_adapters(rows, len(rows))

    def set_adapter(self, adapters: RowAdapters) -> None:
        """Give every row of batches of any size the same adapters.

        Args:
            adapters: None (the base model), an adapter, or several with weights.
        """
        self._set_adapters([adapters], 0)

    def pack(self) -> None:
        """Let the decoder's linears use weights packed for a CPU: see `adapter_hub.model.packing`."""
        for path, packed in self.base.packed.items():
            self._linears[path].packed = packed

    def pad(self, padded_rows: int) -> None:
        """Let the linears of a decoder step compute more rows than the batch has.

        Args:
            padded_rows: how many; those beyond the batch's carry arbitrary values.
        """
        self._batch.padded_rows = padded_rows
        for path, update in self._batch.updates.items():
            if of_a_step(path):
                batched = [self._gathered.padded(path, item, padded_rows) for item in update.batched]
                self._batch.updates[path] = LowRankUpdate(batched, update.by_row)

    def keep(self, order: list[int], padded_rows: int | None = None) -> None:
        """Go on with some of the rows, in this order; a row that comes earlier now is moved there.

        Args:
            order: the rows.
            padded_rows: how many the linears of a step compute, these included; None is no others.
        """
        self._batch.rows = len(order)
        self._batch.padded_rows = padded_rows or len(order)
        self._batch.updates = {
            path: update.keep(order, self._batch.padded_rows if of_a_step(path) else len(order))
            for path, update in self._batch.updates.items()
        }

    def addresses(self) -> tuple[object, ...]:
        """Return where the linears of a step find the rows' matrices, and in which shapes."""
        updates = sorted(self._batch.updates.items())
        return tuple((path, *update.addresses()) for path, update in updates if of_a_step(path))

    def buffer(self, name: str, shape: Sequence[int], dtype: torch.dtype | None = None) -> Tensor:
        """Return memory for decoding: that of earlier batches where it is enough.

        Args:
            name: under which the memory is kept.
            shape: of the tensor that is returned.
            dtype: of it; None is the base model's.

        Returns:
            A tensor whose values may be anything.
        """
        size, found = math.prod(shape), self._buffers.get(name)
        if found is None or found.numel() < size:
            with torch.inference_mode(mode=False):  # written to whether or not inference mode is on then
                found = torch.empty(size, dtype=dtype or self._gathered.dtype, device=self._gathered.device)
            self._buffers[name] = found
        return found[:size].view(shape)

    def _set_adapters(self, rows: Sequence[RowAdapters], count: int) -> None:
        first = rows[0]
        self._batch.updates = {}
        if self.recorded_steps is not None and self.recorded_steps.record is None:
            self.recorded_steps = None  # recording has failed: fixed shapes would only take longer
        self._gathered.drop_pending()  # what was left undone when memory ran out
        if isinstance(first, ResidentAdapter) and all(row is first for row in rows) and _whole(first):
            updates = self._shared(first, len(rows))
        else:
            terms: dict[str, list[Term]] = {}
            for row, adapters in enumerate(rows):
                for adapter, weight in _terms(adapters):
                    for path, module in adapter.layout.items():
                        terms.setdefault(path, []).append(Term(row, module, adapter, weight))
            updates = {path: self._update(path, own, len(rows)) for path, own in terms.items()}
        self._gathered.copy_pending()
        self._batch.rows = self._batch.padded_rows = count
        self._batch.updates = updates

    def _shared(self, adapter: ResidentAdapter, rows: int) -> dict[str, LowRankUpdate]:
        """Return the updates of rows that all carry one adapter: views of its buffer, which are kept."""
        known = self._shared_updates.setdefault(adapter, {})
        if rows not in known:
            known[rows] = {
                path: LowRankUpdate(batched=[BatchedUpdate.of(module, adapter.buffer, rows)])
                if self._gathers(path, module.rank, gated=module.gated)
                else LowRankUpdate(
                    by_row=[RowUpdate.of(row, module, adapter.buffer, 1.0) for row in range(rows)]
                )
                for path, module in adapter.layout.items()
            }
        if self.recorded_steps is None:
            return known[rows]
        return known[rows] | {
            path: self._copied(path, module, adapter, rows)
            for path, module in adapter.layout.items()
            if of_a_step(path)
        }

    def _copied(self, path: str, module: ModuleLayout, adapter: ResidentAdapter, rows: int) -> LowRankUpdate:
        """Return the update of rows that all carry one adapter, in the session's own memory."""
        if self._gathers(path, module.rank, gated=module.gated):
            return LowRankUpdate(batched=[self._gathered.shared(path, module, adapter, rows)])
        alike = [Term(row, module, adapter, 1.0) for row in range(rows)]
        return LowRankUpdate(by_row=self._gathered.by_row(path, alike, alike=True))

    def _update(self, path: str, terms: Sequence[Term], rows: int) -> LowRankUpdate:
        """Sort the rows of one linear into those that are computed together and those by themselves."""
        batched: dict[tuple[bool, int], dict[int, list[Term]]] = {}
        single: list[Term] = []
        for (row, gated), own in _by_row(terms):
            width = padded_rank_of(own)
            if not self._gathers(path, width, gated=gated) or (gated and len(own) > 1):
                single += own
            else:
                batched.setdefault((gated, width), {})[row] = own
        recorded = self.recorded_steps is not None and of_a_step(path)
        update = LowRankUpdate()
        if recorded:
            update.by_row = self._gathered.by_row(path, single)
        else:
            update.by_row = [
                RowUpdate.of(term.row, term.module, term.adapter.buffer, term.weight) for term in single
            ]
        padded_rows = padded_row_count(rows) if recorded else rows
        for (gated, width), members in sorted(batched.items()):
            update.batched.append(self._gathered.batched(path, gated, width, members, rows, padded_rows))
        return update

    def _gathers(self, path: str, width: int, *, gated: bool) -> bool:
        """Whether rows are computed together: see `adapter_hub.model.low_rank_updates`."""
        if width > HIGHEST_BATCHED_RANK * (EXPERTS if gated else 1):
            return False
        # on a GPU always: a call costs more there than computing one row
        return of_a_step(path) or self._gathered.device.type != "cpu"

    def _view(self, module: nn.Module, path: str, memo: dict[int, nn.Module]) -> nn.Module:
        """Return the same tensors under modules of this session's own."""
        if id(module) in memo:
            return memo[id(module)]
        new: nn.Module
        if type(module) is nn.Linear:
            new = self._linears[path] = AdaptedLinear.over(module, path, self._batch)
        elif is_positionwise(module):
            view = self.base.linears[path]
            new = self._linears[path] = AdaptedPositionwiseLinear.over(view, path, self._batch)
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


def _by_row(terms: Sequence[Term]) -> Iterator[tuple[tuple[int, bool], list[Term]]]:
    """Yield the gated and the plain adapters of every row."""
    found: dict[tuple[int, bool], list[Term]] = {}
    for term in terms:
        found.setdefault((term.row, term.module.gated), []).append(term)
    yield from found.items()


def _terms(adapters: RowAdapters) -> Sequence[tuple[ResidentAdapter, float]]:
    if adapters is None:
        return []
    return [(adapters, 1.0)] if isinstance(adapters, ResidentAdapter) else adapters


def _whole(adapter: ResidentAdapter) -> bool:
    """Whether all its ranks are computed as they are, without padding."""
    return all(module.rank == padded_rank(module.rank) for module in adapter.layout.values())


def _own_dictionary(module: nn.Module) -> dict[str, Any]:
    """Return a module's attributes with tables of its own, which hold the same tensors."""
    return module.__dict__ | {
        "_parameters": dict(module._parameters),
        "_buffers": dict(module._buffers),
    }
