"""Weights in the order in which a CPU's matrix kernels read them.

    packed = pack(linear.weight)               # None where there is nothing to gain, or no such kernel
    y = packed_linear(x, packed, linear.bias)

A decoder step multiplies a few rows with large matrices, and MKL reorders such a matrix in every call. oneDNN
takes one that was reordered before: 1.2 to 3 times as fast, at the cost of a second copy of the decoder's
weights. PyTorch has these calls for its own compiler (`torch.ops.mkldnn`); without them nothing is packed.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

WORTHWHILE = 2**18  # values; smaller matrices fit into the cache as they are
USUAL_ROWS = 8  # of the other matrix; the order suits any number above one


def pack(weight: Tensor) -> Tensor | None:
    """Return a copy of a weight in the kernel's order; None where that gains nothing or is not possible.

    Args:
        weight: `[outputs, inputs]`; only float32 on a CPU is packed.
    """
    fits = weight.device.type == "cpu" and weight.dtype == torch.float32 and weight.numel() >= WORTHWHILE
    if not fits or not torch.backends.mkldnn.is_available():
        return None
    kernels: Any = torch.ops.mkldnn
    try:
        packed: Tensor = kernels._reorder_linear_weight(weight, USUAL_ROWS)
        packed_linear(weight.new_zeros(2, weight.shape[1]), packed, None)
    except (AttributeError, NotImplementedError, RuntimeError):  # another PyTorch, another processor
        return None
    return packed


def packed_linear(x: Tensor, packed: Tensor, bias: Tensor | None) -> Tensor:
    """Return `x W' + bias` for a packed `W`.

    Args:
        x: `[..., inputs]` float32.
        packed: returned by `pack`.
        bias: `[outputs]`.
    """
    kernels: Any = torch.ops.mkldnn
    y: Tensor = kernels._linear_pointwise(x, packed, bias, "none", [], "")
    return y
