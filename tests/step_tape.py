"""A recorder for CPUs that is as strict as a CUDA graph: the test double of a machine, not of our code.

It writes down every call into ATen with the tensors that it was made with, and plays exactly those calls
again: no Python of the step runs any more, so a step that depends on anything but its tensors is found out
by wrong results. What would break a capture raises `CaptureError`: reading a value back, and taking data
from outside. Before every replay all intermediate results are overwritten, as those of other graphs in the
same pool would do it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

# a value of a tensor that Python wants, shapes that depend on values, data that comes from outside
FORBIDDEN = (
    "_local_scalar_dense", "item", "equal", "is_nonzero", "nonzero", "masked_select", "unique", "_unique2",
    "lift_fresh", "_to_copy_from", "pin_memory", "rand", "bernoulli_", "multinomial",
)  # fmt: skip


class CaptureError(RuntimeError):
    """What a CUDA graph could not hold."""


class _Writer(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, Any, Any, Any]] = []
        self.before: dict[int, tuple[torch.UntypedStorage, torch.UntypedStorage]] = {}
        self.made: dict[int, Tensor] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = func.overloadpacket.__name__
        if name in FORBIDDEN:
            raise CaptureError(f"{name} within a step that is recorded")
        if func._schema.is_mutable:
            for tensor in tensors_of((args, kwargs)):
                storage = tensor.untyped_storage()
                if storage.data_ptr() not in self.made:
                    self.before.setdefault(storage.data_ptr(), (storage, storage.clone()))
        out = func(*args, **kwargs)
        given = {tensor.untyped_storage().data_ptr() for tensor in tensors_of((args, kwargs))}
        made = [tensor for tensor in tensors_of(out) if tensor.untyped_storage().data_ptr() not in given]
        self.made |= {tensor.untyped_storage().data_ptr(): tensor for tensor in made}
        if made or func._schema.is_mutable:  # not what returns a view: reshape may do either
            self.calls.append((func, args, kwargs, out))
        return out


class Tape:
    """A recorder; counts its recordings and their replays."""

    def __init__(self) -> None:
        self.recorded = self.replayed = 0

    def __call__(self, step: Callable[[], None]) -> Callable[[], None]:
        """Record a step; what it changed outside is put back, since recording computes nothing."""
        with _Writer() as writer:
            step()
        for storage, copy in writer.before.values():
            storage.copy_(copy)
        self.recorded += 1

        def replay() -> None:
            self.replayed += 1
            for tensor in writer.made.values():
                if tensor.is_floating_point():
                    tensor.fill_(math.nan)
            for func, args, kwargs, out in writer.calls:
                if func._schema.is_mutable:
                    func(*args, **kwargs)
                else:
                    for old, new in zip(tensors_of(out), tensors_of(func(*args, **kwargs)), strict=True):
                        old.copy_(new)

        return replay


def tensors_of(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]
