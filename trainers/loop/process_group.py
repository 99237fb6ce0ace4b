"""The processes that train together, as torchrun or `accelerate launch` start them; by default only this one.

    processes = ProcessGroup.join(use_gpu=False)
    with processes.synchronised():            # what fails in one process fails in all, and is reported once
        inputs = gather(…)
    folder = processes.from_main(lambda: last_checkpoint(work))

The main process writes files and reports; the others only compute. Messages between them go through gloo,
beside the channel of the gradients, so that they work the same with GPUs and need no round trip to them.
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

PATIENCE = timedelta(hours=2)  # for the slowest process between two messages; a dead one is noticed at once
T = TypeVar("T")


class OtherProcessError(AdapterHubError):
    """Another process failed and reports the error; this one only ends."""


def is_main_process() -> bool:
    """Tell whether this process writes files and reports, by the variables that torchrun sets."""
    return int(os.environ.get("WORLD_SIZE", "1")) == 1 or os.environ.get("RANK", "0") == "0"


@dataclass(frozen=True)
class ProcessGroup:
    """This process among those that train together.

    Attributes:
        rank: of this process, from 0.
        world_size: number of processes.
        local_rank: rank among those on this machine, from 0.
    """

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0
    _group: Any = None

    @classmethod
    def join(cls, *, use_gpu: bool) -> ProcessGroup:
        """Join the processes that the environment variables of torchrun describe.

        Args:
            use_gpu: exchange gradients by NCCL, with one GPU per process; else by gloo.

        Raises:
            InvalidInputError: fewer GPUs than processes on this machine.
        """
        world_size = int(os.environ.get("WORLD_SIZE", "1"))
        if world_size == 1 or "RANK" not in os.environ:
            return cls()
        rank, local_rank = int(os.environ["RANK"]), int(os.environ.get("LOCAL_RANK", "0"))
        if use_gpu:
            if local_rank >= torch.cuda.device_count():
                raise InvalidInputError(
                    f"training: {local_rank + 1} processes or more on a machine with "
                    f"{torch.cuda.device_count()} GPUs; start one per GPU"
                )
            torch.cuda.set_device(local_rank)
        if not distributed.is_initialized():
            distributed.init_process_group("nccl" if use_gpu else "gloo")
        return cls(rank, world_size, local_rank, distributed.new_group(backend="gloo", timeout=PATIENCE))

    @property
    def is_main(self) -> bool:
        """Whether this is the process that writes files and reports."""
        return self.rank == 0

    def all_reduce(self, *values: int) -> list[int]:
        """Return each value summed over all processes."""
        if self.world_size == 1:
            return list(values)
        tensor = torch.tensor(values, dtype=torch.int64)
        distributed.all_reduce(tensor, group=self._group)
        return [int(value) for value in tensor]

    @contextlib.contextmanager
    def synchronised(self) -> Iterator[None]:
        """Wait at the end for all processes; an error in one of them is raised in all.

        Raises:
            AdapterHubError: in the main process, whichever failed. OtherProcessError: in the others.
        """
        error: AdapterHubError | None = None
        try:
            yield
        except AdapterHubError as caught:
            error = caught
        if self.world_size == 1:
            if error is not None:
                raise error
            return
        errors: list[str | None] = [None] * self.world_size
        distributed.all_gather_object(errors, None if error is None else str(error), group=self._group)
        failed = [rank for rank, message in enumerate(errors) if message is not None]
        if not failed:
            return
        if not self.is_main:
            raise OtherProcessError(f"process {failed[0]} of {self.world_size}: {errors[failed[0]]}")
        raise error if error is not None else AdapterHubError(f"process {failed[0]}: {errors[failed[0]]}")

    def from_main(self, make: Callable[[], T]) -> T:
        """Return, in all processes, what `make` returns in the main one; its error is raised in all.

        Args:
            make: called in the main process only; what it returns is pickled.
        """
        made: list[Any] = [None]
        with self.synchronised():
            if self.is_main:
                made[0] = make()
        if self.world_size > 1:
            distributed.broadcast_object_list(made, src=0, group=self._group)
        found: T = made[0]
        return found

    @contextlib.contextmanager
    def explain_lost_peer(self) -> Iterator[None]:
        """Turn the loss of another process, noticed in the exchange of gradients, into one line.

        Raises:
            AdapterHubError: in the main process. OtherProcessError: in the others.
        """
        try:
            yield
        except RuntimeError as error:
            lost = isinstance(error, distributed.DistError) or "gloo" in str(error)
            if self.world_size == 1 or not lost:
                raise
            message = "training: another process ended; see its message, then run the same command to resume"
            raise (AdapterHubError if self.is_main else OtherProcessError)(message) from None

    def leave(self) -> None:
        """Leave the process group in an orderly way."""
        if self.world_size > 1 and distributed.is_initialized():
            distributed.destroy_process_group()
