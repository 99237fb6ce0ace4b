"""Recorded decoder steps: on a GPU a step is one call, not a thousand.

    replays = Replays(recorder)
    replays.run(key, step)          # the first time as it is, the second time recorded, then replayed

A decoder step of a few rows is a thousand small calls, and a GPU waits for every one of them. A CUDA graph
plays all of them at once, with the addresses and shapes that they were recorded with. So a step that is
recorded reads and writes memory of the session's own (`adapter_hub.runtime.static_steps`), and the key of a
recording is every address and shape in it: what agrees with the key may be replayed, whichever batch or
adapter lies there now. No compiler is needed on the user's machine.

`ADAPTER_HUB_GRAPHS=0` switches recording off. A recorder is any function that takes a step, computes nothing
that lasts, and returns what computes the step; so all but the call into CUDA is tested without a GPU.
Nothing here has run on a GPU yet.
"""

from __future__ import annotations

import os
import threading
import warnings
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any

import torch

from adapter_hub.errors import InvalidInputError
from adapter_hub.runtime.memory import is_out_of_memory

SWITCH = "ADAPTER_HUB_GRAPHS"
MOST = 64  # recordings of a session: they share the memory of what they compute
FEW_ROWS = (1, 2, 4, 8)
MORE_ROWS = 8  # more than those are rounded up to a multiple of this

Step = Callable[[], None]
Recorder = Callable[[Step], Step]

_recording = threading.Lock()  # one thread at a time: CUDA's modes of capturing are global


def usual_rows(rows: int) -> int:
    """Return for how many rows a step is recorded that is needed for `rows`: few numbers, few recordings.

    >>> [usual_rows(rows) for rows in (1, 3, 8, 9, 17)]
    [1, 4, 8, 16, 24]
    """
    return next((few for few in FEW_ROWS if few >= rows), -(-rows // MORE_ROWS) * MORE_ROWS)


def recorder_of(device: torch.device) -> Recorder | None:
    """Return how steps are recorded on a device; None where they are not.

    Raises:
        InvalidInputError: `ADAPTER_HUB_GRAPHS` is neither 0 nor 1.
    """
    switch = os.environ.get(SWITCH, "1")
    if switch not in ("0", "1"):
        raise InvalidInputError(
            f"{SWITCH}={switch}: expected 1 (record decoder steps on a GPU) or 0 (do not)"
        )
    return CudaGraphs(device) if device.type == "cuda" and switch == "1" else None


@dataclass
class Replays:
    """Recorded steps by key; the one used longest ago makes room for a new one.

    Attributes:
        record: how; None from when it failed on.
        most: recordings, at most.
    """

    record: Recorder | None
    most: int = MOST
    _known: OrderedDict[Hashable, Step | None] = field(default_factory=OrderedDict)

    def run(self, key: Hashable, step: Step) -> None:
        """Compute a step.

        Args:
            key: every address and shape that the step has to do with.
            step: computes it, in memory that stays where it is.
        """
        if self.record is None:
            step()
            return
        if key not in self._known:
            self._known[key] = None  # libraries make ready what they need when first called
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
                f"decoder steps cannot be recorded here ({reason}); going on without, slower; "
                f"{SWITCH}=0 does so from the start",
                stacklevel=2,
            )
            return step


@dataclass
class CudaGraphs:
    """Records steps as CUDA graphs whose intermediate results share one pool of memory.

    They may share it: nothing in it is needed once a step is done.
    """

    device: torch.device
    _pool: Any = None

    def __call__(self, step: Step) -> Step:
        """Return the graph of a step that has been computed once before."""
        with _recording, torch.cuda.device(self.device):
            if self._pool is None:
                self._pool = torch.cuda.graph_pool_handle()
            graph = torch.cuda.CUDAGraph()
            # other threads go on with their own work in the meantime
            with torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):
                step()
        replay: Step = graph.replay
        return replay
