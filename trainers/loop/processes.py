"""The processes of one training, as torchrun or `accelerate launch` start them; by default the only one.

    processes = Processes.join(use_gpu=False)
    with processes.together():            # what fails in one process fails in all, and is told once
        inputs = gather(…)
    folder = processes.from_first(lambda: last_checkpoint(work))

The first process writes and talks; the others only compute. Agreements go through gloo, beside the channel
of the gradients, so that they work the same for GPUs and need no round trip to them.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import distributed

from adapter_hub.errors import AdapterHubError, InvalidInputError

PATIENCE = timedelta(hours=2)  # for the slowest process between two agreements; a dead one is noticed at once
T = TypeVar("T")


class ElsewhereError(AdapterHubError):
    """Another process tells what went wrong; this one only ends."""


def is_first() -> bool:
    """Tell whether this process writes and talks, by what torchrun has set for it."""
    return int(os.environ.get("WORLD_SIZE", "1")) == 1 or os.environ.get("RANK", "0") == "0"


@dataclass(frozen=True)
class Processes:
    """This process among those that train together.

    Attributes:
        rank: from 0.
        count: of all.
        local_rank: among those on this machine, from 0.
    """

    rank: int = 0
    count: int = 1
    local_rank: int = 0
    _group: Any = None

    @classmethod
    def join(cls, *, use_gpu: bool) -> Processes:
        """Meet the others that the environment tells of.

        Raises:
            InvalidInputError: fewer GPUs than processes on this machine.
        """
        count = int(os.environ.get("WORLD_SIZE", "1"))
        if count == 1 or "RANK" not in os.environ:
            return cls()
        rank, local_rank = int(os.environ["RANK"]), int(os.environ.get("LOCAL_RANK", "0"))
        if use_gpu:
            if local_rank >= torch.cuda.device_count():
                raise InvalidInputError(
                    f"training: {local_rank + 1} processes or more on a machine with "
                    f"{torch.cuda.device_count()} GPUs; start one a GPU"
                )
            torch.cuda.set_device(local_rank)
        if not distributed.is_initialized():
            distributed.init_process_group("nccl" if use_gpu else "gloo")
        return cls(rank, count, local_rank, distributed.new_group(backend="gloo", timeout=PATIENCE))

    @property
    def first(self) -> bool:
        """Whether this is the one that writes and talks."""
        return self.rank == 0

    def sums(self, *values: int) -> list[int]:
        """Return each value summed over all processes."""
        if self.count == 1:
            return list(values)
        tensor = torch.tensor(values, dtype=torch.int64)
        distributed.all_reduce(tensor, group=self._group)
        return [int(value) for value in tensor]

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """Wait at the end until all are there; an error in one of them is raised in all.

        Raises:
            AdapterHubError: in the first process, whoever failed. ElsewhereError: in the others.
        """
        error: AdapterHubError | None = None
        try:
            yield
        except AdapterHubError as caught:
            error = caught
        if self.count == 1:
            if error is not None:
                raise error
            return
        told: list[str | None] = [None] * self.count
        distributed.all_gather_object(told, None if error is None else str(error), group=self._group)
        failed = [rank for rank, message in enumerate(told) if message is not None]
        if not failed:
            return
        if not self.first:
            raise ElsewhereError(f"process {failed[0]} of {self.count}: {told[failed[0]]}")
        raise error if error is not None else AdapterHubError(f"process {failed[0]}: {told[failed[0]]}")

    def from_first(self, make: Callable[[], T]) -> T:
        """Return what the first process makes, in all of them; its error is everybody's."""
        made: list[Any] = [None]
        with self.together():
            if self.first:
                made[0] = make()
        if self.count > 1:
            distributed.broadcast_object_list(made, src=0, group=self._group)
        found: T = made[0]
        return found

    @contextlib.contextmanager
    def lost(self) -> Iterator[None]:
        """Turn the end of another process, noticed in the exchange of gradients, into one line.

        Raises:
            AdapterHubError: in the first process. ElsewhereError: in the others.
        """
        try:
            yield
        except RuntimeError as error:
            of_others = isinstance(error, distributed.DistError) or "gloo" in str(error)
            if self.count == 1 or not of_others:
                raise
            message = "training: another process ended; see its message, then run the same command to resume"
            raise (AdapterHubError if self.first else ElsewhereError)(message) from None

    def part(self) -> None:
        """Close the channels, so that nobody is missed."""
        if self.count > 1 and distributed.is_initialized():
            distributed.destroy_process_group()
