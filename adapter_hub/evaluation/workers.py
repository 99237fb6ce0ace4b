"""Spreading an evaluation over processes of this machine, each with a base model of its own.

    workers = Workers(4, functools.partial(load, "mini/da"), transcriber)
    for answer in workers.map(score, batches):         # in order, as if one process had done it
        ...

What is spread are whole batches, the same that one process would decode, so that the texts are the same, too.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context
from typing import Any, TypeVar

import torch

from adapter_hub.errors import AdapterHubError, ConflictError
from adapter_hub.transcription.transcriber import Transcriber

Batch = TypeVar("Batch")
Answer = TypeVar("Answer")
Opening = Callable[[], Transcriber]  # of functions and values that can be sent to another process
Identity = tuple[str, str | None]  # digests of base model and adapter


@dataclass(frozen=True)
class Workers:
    """Processes that transcribe as a transcriber of this process does.

    Attributes:
        count: of processes.
        opening: opens the transcriber there.
        like: the one of this process; another base model or adapter there is an error.
    """

    count: int
    opening: Opening
    like: Transcriber

    def map(self, work: Callable[[Transcriber, Batch], Answer], batches: Sequence[Batch]) -> Iterator[Answer]:
        """Yield what a function makes of every batch, in order.

        Args:
            work: that can be sent to another process.
            batches: of what it takes.

        Raises:
            AdapterHubError: what a process raised; or one died.
        """
        count = max(1, min(self.count, len(batches)))
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        context = get_context("spawn")  # CUDA does not survive a fork
        start = (self.opening, identity_of(self.like), max(1, cores // count))
        pool = ProcessPoolExecutor(count, context, initializer=_start, initargs=start)
        try:
            for answer in pool.map(_Asked(work), batches):
                if isinstance(answer, _Failure):
                    raise AdapterHubError(answer.message)
                yield answer
        except BrokenProcessPool:
            raise AdapterHubError(
                f"one of {count} workers died, perhaps for lack of memory; take fewer --workers"
            ) from None
        finally:
            pool.shutdown(cancel_futures=True)


def identity_of(transcriber: Transcriber) -> Identity:
    """Return which base model and adapter a transcriber has.

    Args:
        transcriber: for one adapter, or for the base model alone.
    """
    return transcriber.base.digest, transcriber.adapter.digest if transcriber.adapter else None


def untold(line: str) -> None:
    """Pass over a warning, which the first process has told already."""


@dataclass(frozen=True)
class _Failure:
    """An error of a worker; those with arguments of their own cannot be sent as they are."""

    message: str


@dataclass
class _Here:
    """What this process is for, if it is a worker."""

    opening: Opening | None = None
    wanted: Identity = ("", None)
    transcriber: Transcriber | None = None

    def opened(self) -> Transcriber:
        if self.transcriber is None:
            assert self.opening is not None
            transcriber = self.opening()
            if identity_of(transcriber) != self.wanted:
                raise ConflictError(
                    "a worker found another base model or adapter under the same name: it changed meanwhile; "
                    "start again"
                )
            self.transcriber = transcriber
        return self.transcriber


_here = _Here()


def _start(opening: Opening, wanted: Identity, threads: int) -> None:
    """Prepare a worker; on Ctrl-C the first process ends it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(threads)
    _here.opening, _here.wanted = opening, wanted


@dataclass(frozen=True)
class _Asked:
    """Work on a batch, in a worker."""

    work: Callable[[Transcriber, Any], Any]

    def __call__(self, batch: Any) -> Any:
        try:
            return self.work(_here.opened(), batch)
        except AdapterHubError as error:
            return _Failure(str(error))
        except OSError as error:
            return _Failure(f"a worker: {error}")
