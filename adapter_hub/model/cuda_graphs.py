"""Recorded decoder steps: on a GPU a step is one call, not a thousand.

    steps = RecordedSteps(recorder)
    key = steps.number(addresses)
    steps.run(key, step)             # the first time as it is, the second time recorded, then replayed

A decoder step of a few rows is a thousand small calls, and a GPU waits for every one of them. A CUDA graph
replays all of them at once, with the addresses and shapes that they were recorded with. So a step that is
recorded reads and writes memory of the session's own (`adapter_hub.decoding.static_steps`), and the key of a
recording is every address and shape in it: a step with the same key can be replayed, whichever batch or
adapter is there now. No compiler is needed on the user's machine.

A recording is replayed on the current stream, and sessions do not wait for other streams: use them on the
device's default stream, as every thread does that does not choose one.

Nothing here has run on a GPU yet, so recording is off unless `ADAPTER_HUB_GRAPHS=1` asks for it. A recorder
is any function that takes a step, computes nothing that lasts, and returns what computes the step; so all but
the call into CUDA is tested without a GPU.
"""

from __future__ import annotations

import gc
import itertools
import os
import threading
import warnings
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import torch

from adapter_hub.errors import InvalidInputError
from adapter_hub.model.memory import is_out_of_memory

SWITCH = "ADAPTER_HUB_GRAPHS"
# recordings of a session. They share the memory of what they compute, but a graph by itself takes up to 64 KB
# of a GPU's memory for every call in it (NVIDIA's forum, 244901): Whisper large's decoder up to some 80 MB
MOST = 64
FEW_ROWS = (1, 2, 4, 8)
MORE_ROWS = 8  # more than those are rounded up to a multiple of this

Step = Callable[[], None]
Recorder = Callable[[Step], Step]

_recording = threading.Lock()  # one thread at a time: CUDA's modes of capturing are global


def padded_row_count(rows: int) -> int:
    """Return for how many rows a step is recorded that computes `rows`: few sizes, so few recordings.

    >>> [padded_row_count(rows) for rows in (1, 3, 8, 9, 17)]
    [1, 4, 8, 16, 24]
    """
    return next((few for few in FEW_ROWS if few >= rows), -(-rows // MORE_ROWS) * MORE_ROWS)


def recorder_for(device: torch.device) -> Recorder | None:
    """Return how steps are recorded on a device; None where they are not: by default they never are.

    Args:
        device: of the base model.

    Raises:
        InvalidInputError: `ADAPTER_HUB_GRAPHS` is neither 0 nor 1.
    """
    switch = os.environ.get(SWITCH, "0")
    if switch not in ("0", "1"):
        raise InvalidInputError(
            f"{SWITCH}={switch}: expected 1 (record decoder steps on a GPU) or 0 (do not, the default)"
        )
    return CudaGraphRecorder(device) if device.type == "cuda" and switch == "1" else None


@dataclass
class RecordedSteps:
    """Recorded steps by key; the one used longest ago makes room for a new one.

    Attributes:
        record: records a step; None once recording has failed.
        most: recordings to keep, at most.
    """

    record: Recorder | None
    most: int = MOST
    _known: OrderedDict[Hashable, Step | None] = field(default_factory=OrderedDict)
    _numbers: OrderedDict[Hashable, int] = field(default_factory=OrderedDict)
    _next: Iterator[int] = field(default_factory=itertools.count)

    def number(self, addresses: Hashable) -> int:
        """Return a number that stands for hundreds of addresses and shapes, so that no step compares them.

        Args:
            addresses: of everything that a step reads and writes; equal ones get the same number while they
                are remembered, and no number is given twice.
        """
        number = self._numbers.pop(addresses, None)
        self._numbers[addresses] = number = next(self._next) if number is None else number
        if len(self._numbers) > self.most:
            self._numbers.popitem(last=False)
        return number

    def run(self, key: Hashable, step: Step) -> None:
        """Compute a step: as it is the first time, recorded the second time, and replayed from then on.

        Args:
            key: stands for every address and shape in the step; looked up at every step.
            step: computes it, in memory that stays where it is.
        """
        if self.record is None:
            step()
            return
        if key not in self._known:
            self._known[key] = None  # libraries initialise themselves when first called
            if len(self._known) > self.most:
                self._known.popitem(last=False)
            step()
            return
        self._known.move_to_end(key)
        replay = self._known[key]
        if replay is None:
            replay = self._recorded(self.record, step)
            if self.record is not None:
                self._known[key] = replay
        replay()

    def _recorded(self, record: Recorder, step: Step) -> Step:
        """Return a recording; or the step itself where recording fails, and from now on."""
        try:
            return record(step)
        except RuntimeError as error:
            if is_out_of_memory(error):
                raise
            self.record = None
            self._known.clear()
            reason = " ".join(str(error).split())[:200]
            warnings.warn(
                f"decoder steps cannot be recorded here ({reason}); going on without recording; "
                f"unset {SWITCH} to do so from the start",
                stacklevel=2,
            )
            return step


@dataclass
class CudaGraphRecorder:
    """Records the steps of one session as CUDA graphs whose intermediate results share one pool of memory.

    They may share it: nothing in it is needed once a step is done. The stream is the session's own, too: all
    graphs of a stream share the workspace of their matrix products, in the pool of whichever was recorded
    first, and PyTorch gives it back with any of them (pytorch#193402), whoever else goes on using it.

    A recording that fails leaves the thread on the stream that it was on. Before PyTorch 2.13 the allocator
    then believes for good that one is under way (pytorch#180395), and frees no cached memory any more.
    """

    device: torch.device
    _pool: Any = None
    _stream: Any = None

    def __call__(self, step: Step) -> Step:
        """Return the graph of a step, which has to have been computed once before.

        Args:
            step: to record.

        Raises:
            RuntimeError: the step cannot be recorded, or the memory is not enough.
        """
        with _recording, torch.cuda.device(self.device):
            if self._stream is None:  # torch.cuda.graph has one for the process, on whichever GPU was first
                self._stream, self._pool = torch.cuda.Stream(), torch.cuda.graph_pool_handle()
            graph = torch.cuda.CUDAGraph()
            torch.cuda.synchronize()  # an earlier error is raised here, not while recording
            # recording computes nothing, so neither stream has to wait for the other
            with torch.cuda.stream(self._stream), _no_garbage_collection():
                # other threads go on with their own work in the meantime
                graph.capture_begin(pool=self._pool, capture_error_mode="thread_local")
                try:
                    step()
                except BaseException:
                    with suppress(RuntimeError):  # only says that the recording is broken
                        graph.capture_end()
                    raise
                graph.capture_end()
        replay: Step = graph.replay
        return replay


def empty_cache() -> None:
    """Return the memory that PyTorch caches to the GPUs, if possible; never while a step is recorded."""
    with _recording, suppress(RuntimeError):  # refused after a recording that failed: see CudaGraphRecorder
        torch.cuda.empty_cache()


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Keep other graphs from being collected meanwhile: destroying them may break a recording."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
