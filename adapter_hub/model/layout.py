"""Where an adapter's matrices are in its buffer.

    part = adapter.layout["model.decoder.layers.0.fc1"]
    part.a_of(adapter.buffer), part.b_of(adapter.buffer)      # [rank, inputs], [outputs, rank]

The matrices are views: of a LoRA in the base model's dtype the buffer is the data of its file, as it was
read. `B` already holds the scaling. The two halves of a token-gated expert pair are stacked into one
matrix, each padded to half the rank, with the gate's two rows behind them, so that one product with the
input gives both halves and the gate.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from torch import Tensor

EXPERTS = 2  # a gate weighs two: the parent, then the child
RANKS = (8, 16, 32, 64)


def padded_rank(rank: int) -> int:
    """Return the width at which a rank is computed: few widths, so that adapters of like ranks meet.

    >>> [padded_rank(rank) for rank in (1, 8, 9, 32, 65, 200)]
    [8, 8, 16, 32, 128, 256]
    """
    return next((width for width in RANKS if width >= rank), -(-rank // RANKS[-1]) * RANKS[-1])


@dataclass(frozen=True)
class Part:
    """The update of one linear.

    Attributes:
        path: of the linear in the base model.
        rank: of the update; of a gated one both halves, padded.
        a: where `A` starts in the buffer.
        b: where `B` starts.
        bias: where the gate's two biases start; None where there is no gate.
    """

    path: str
    rank: int
    inputs: int
    outputs: int
    a: int
    b: int
    bias: int | None = None

    @property
    def gated(self) -> bool:
        """Whether a gate weighs its two halves for every token."""
        return self.bias is not None

    def a_of(self, buffer: Tensor) -> Tensor:
        """Return `A`, `[rank, inputs]`; two rows more where there is a gate."""
        rows = self.rank + EXPERTS * self.gated
        return buffer[self.a : self.a + rows * self.inputs].view(rows, self.inputs)

    def b_of(self, buffer: Tensor) -> Tensor:
        """Return `B` times the scaling, `[outputs, rank]`."""
        return buffer[self.b : self.b + self.rank * self.outputs].view(self.outputs, self.rank)

    def bias_of(self, buffer: Tensor) -> Tensor | None:
        """Return the gate's biases, `[2]`."""
        return None if self.bias is None else buffer[self.bias : self.bias + EXPERTS]


@dataclass(frozen=True)
class Layout(Mapping[str, Part]):
    """The parts of an adapter by path; `size` is the number of values in its buffer."""

    parts: tuple[Part, ...]
    size: int

    @cached_property
    def _by_path(self) -> dict[str, Part]:
        return {part.path: part for part in self.parts}

    def __getitem__(self, path: str) -> Part:
        return self._by_path[path]

    def __iter__(self) -> Iterator[str]:
        return iter(self._by_path)

    def __len__(self) -> int:
        return len(self.parts)
