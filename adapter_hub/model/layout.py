"""Where an adapter's matrices are in its buffer.

    module = adapter.layout["model.decoder.layers.0.fc1"]
    module.lora_a(adapter.buffer), module.lora_b(adapter.buffer)   # [rank, in_features], [out_features, rank]

The matrices are views: for a LoRA in the base model's dtype the buffer is the data of its file, as it was
read. `B` already holds the scaling (`lora_alpha / r`). The two halves of a token-gated expert pair are
stacked into one matrix, each padded to half the rank, followed by the gate's two rows, so that one product
with the input gives both halves and the gate.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from torch import Tensor

EXPERTS = 2  # a gate weighs two: the parent, then the child
RANKS = (8, 16, 32, 64)


def padded_rank(rank: int) -> int:
    """Return the rank at which a rank is computed: few sizes, so that similar ranks share a product.

    >>> [padded_rank(rank) for rank in (1, 8, 9, 32, 65, 200)]
    [8, 8, 16, 32, 128, 256]
    """
    return next((width for width in RANKS if width >= rank), -(-rank // RANKS[-1]) * RANKS[-1])


@dataclass(frozen=True)
class ModuleLayout:
    """Where one adapted linear's matrices are in the buffer.

    Attributes:
        path: of the linear in the base model.
        rank: of the update; of a gated one both halves, padded.
        in_features: of the linear.
        out_features: of the linear.
        a_start: where `A` starts, in values from the buffer's beginning.
        b_start: where `B` starts.
        bias_start: where the gate's two biases start; None where there is no gate.
    """

    path: str
    rank: int
    in_features: int
    out_features: int
    a_start: int
    b_start: int
    bias_start: int | None = None

    @property
    def gated(self) -> bool:
        """Whether a gate weighs its two halves for every token."""
        return self.bias_start is not None

    def lora_a(self, buffer: Tensor) -> Tensor:
        """Return `A`, `[rank, in_features]`, a view of the buffer; two rows more where there is a gate."""
        rows = self.rank + EXPERTS * self.gated
        return buffer[self.a_start : self.a_start + rows * self.in_features].view(rows, self.in_features)

    def lora_b(self, buffer: Tensor) -> Tensor:
        """Return `B` times the scaling, `[out_features, rank]`, a view of the buffer."""
        return buffer[self.b_start : self.b_start + self.rank * self.out_features].view(
            self.out_features, self.rank
        )

    def gate_bias(self, buffer: Tensor) -> Tensor | None:
        """Return the gate's biases, `[2]`, a view of the buffer; None where there is no gate."""
        return None if self.bias_start is None else buffer[self.bias_start : self.bias_start + EXPERTS]


@dataclass(frozen=True)
class AdapterLayout(Mapping[str, ModuleLayout]):
    """The adapted linears by path; `size` is the number of values in the buffer."""

    modules: tuple[ModuleLayout, ...]
    size: int

    @cached_property
    def _by_path(self) -> dict[str, ModuleLayout]:
        return {module.path: module for module in self.modules}

    def __getitem__(self, path: str) -> ModuleLayout:
        return self._by_path[path]

    def __iter__(self) -> Iterator[str]:
        return iter(self._by_path)

    def __len__(self) -> int:
        return len(self.modules)
