"""A bulk job on Ray Data: a pool of actors, each with one base model, on this machine or on a cluster.

    summary = run(job, rows, out, OnRay(2, "local"), tell=print, progress=show)

A unit of work is one shard. Ray gives it to another actor if the one that has it dies, and nothing else is
done again. Actors return the bytes of shards and write nothing, so an actor whose driver was killed does no
harm, and only the driver needs the output's folder. Recordings are read where the actors are, and adapters
and the base model are loaded there: from the places that the job names, which have to be theirs, too.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from adapter_hub.bulk.attempts import Attempts
from adapter_hub.bulk.job import Job, Opened
from adapter_hub.bulk.plan import Block, Plan
from adapter_hub.bulk.rows import Row
from adapter_hub.bulk.running import Shard, Work, made
from adapter_hub.bulk.shards import Column
from adapter_hub.errors import AdapterHubError, InvalidInputError, MissingExtraError, UnreachableError
from adapter_hub.escaping import shown
from adapter_hub.formats.reference import is_local
from adapter_hub.native_notes import without_native_notes

LOCAL = "local"  # a cluster of this machine alone, for as long as the job takes
ATTEMPTS = 3  # at a unit of work; Ray itself would go on for ever with one that brings every worker down
AHEAD = 2  # units of work that wait at an actor, the one that it does among them
LOUDEST = logging.ERROR  # of what Ray says itself


@dataclass(frozen=True)
class OnRay:
    """Transcribes on a cluster of Ray.

    Attributes:
        workers: actors, each with a base model.
        address: of the cluster, as `ray.init` takes it; `local` starts one on this machine.
    """

    workers: int
    address: str = LOCAL

    def __call__(self, work: Work) -> Iterator[Shard]:
        """Yield shards as they are done, in any order.

        Args:
            work: to do.

        Raises:
            MissingExtraError: Ray is not installed. UnreachableError: no such cluster, or it broke off.
            AdapterHubError: what a worker raised.
        """
        if not work.blocks:
            return
        blocks = {block.number: block for block in work.blocks}
        # Ray tells of dead workers on stdout, which is for data
        with (
            Path(os.devnull).open("w", encoding="utf-8") as nowhere,
            redirect_stdout(nowhere),
            _connected(self.address, self.workers) as ray,
        ):
            try:
                yield from self._shards(ray, work, blocks)
            except (ray.exceptions.RayError, ray.data.exceptions.SystemException) as error:
                reason = shown(" ".join(str(error).split()) or type(error).__name__, 300)
                raise UnreachableError(
                    f"Ray gave up ({reason}); what is done is kept: start the command again to go on"
                ) from None

    def _shards(self, ray: Any, work: Work, blocks: Mapping[int, Block]) -> Iterator[Shard]:
        cpus, gpus = _share(ray, self.workers)
        attempts = ray.remote(num_cpus=0, max_restarts=-1)(Attempts).remote()
        inputs = [
            {"number": number, "rows": _as_text(block.rows), "start": block.start, "name": block.name}
            for number, block in blocks.items()
        ]
        found = ray.data.from_items(inputs, override_num_blocks=len(inputs)).map_batches(
            _Actor,
            batch_size=1,
            compute=ray.data.ActorPoolStrategy(
                size=min(self.workers, len(inputs)), max_tasks_in_flight_per_actor=AHEAD
            ),
            fn_constructor_kwargs={
                "job": _for_elsewhere(work.job),
                "attempts": attempts,
                "plan": work.plan.to_bytes(),
                "columns": dict(work.columns),
                "threads": max(1, int(cpus)),
            },
            num_cpus=cpus,
            num_gpus=gpus if work.job.places.get("device") != "cpu" else 0,
        )
        for line in found.iter_rows():
            if line["error"]:
                raise AdapterHubError(line["error"])
            yield Shard(blocks[line["number"]], line["data"], line["seconds"], line["failed"])


@dataclass
class _Actor:
    """One worker: loads the job when its first unit of work comes, and keeps it."""

    job: Job
    attempts: Any
    plan: bytes
    columns: Mapping[str, Column]
    threads: int
    _opened: Opened | None = field(default=None, init=False)

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, list[Any]]:
        """Transcribe a unit of work; what goes wrong with all of it is an answer, too.

        Args:
            batch: of one row: a number, rows as text, the place of the first row and the shard's name.
        """
        number = int(batch["number"][0])
        answer = {"number": number, "data": b"", "seconds": 0.0, "failed": 0, "error": ""}
        rows = _from_text(str(batch["rows"][0]))
        try:
            self._count(number, rows)
            block = Block(number, int(batch["start"][0]), rows, str(batch["name"][0]))
            shard = made(self._job(), block, self.columns)
            answer |= {"data": shard.data, "seconds": shard.seconds, "failed": shard.failed}
        except AdapterHubError as error:
            answer["error"] = str(error)
        except OSError as error:
            answer["error"] = f"a worker: {error}"
        return {name: [value] for name, value in answer.items()}

    def _count(self, number: int, rows: Sequence[Row]) -> None:
        """Refuse a unit of work that brought several workers down."""
        import ray  # noqa: PLC0415 - an extra

        if ray.get(self.attempts.begin.remote(number)) > ATTEMPTS:
            raise UnreachableError(
                f"{ATTEMPTS} workers died, one after another, with the rows from {shown(rows[0].id, 100)} to "
                f"{shown(rows[-1].id, 100)}: out of memory? Take fewer workers, fewer --shard-rows, or leave "
                "the recording out; what is done is kept"
            )

    def _job(self) -> Opened:
        if self._opened is None:
            torch.set_num_threads(self.threads)
            self._opened = self.job.go_on(Plan.parse(self.plan, "plan"), logging.getLogger(__name__).warning)
        return self._opened


def _for_elsewhere(job: Job) -> Job:
    """Return a job whose base model is found from every folder."""
    name, equals, folder = str(job.how.get("base_model") or "").rpartition("=")
    if not folder or not (equals or is_local(folder)):
        return job
    return replace(job, how={**job.how, "base_model": f"{name}{equals}{Path(folder).absolute()}"})


def _as_text(rows: Sequence[Row]) -> str:
    return json.dumps([[str(row.file), *row.to_json()] for row in rows])


def _from_text(text: str) -> tuple[Row, ...]:
    return tuple(
        Row(
            row_id,
            audio,
            Path(file),
            tuple(part) if part else None,
            tuple(cell) if cell else None,
            language,
            model,
            columns,
        )
        for file, row_id, audio, part, cell, language, model, columns in json.loads(text)
    )


@contextmanager
def _connected(address: str, workers: int) -> Iterator[Any]:
    """Connect to a cluster, quietly and without a request to anybody else, and leave it in the end."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # only silences a warning
    os.environ.setdefault("RAY_DATA_DISABLE_PROGRESS_BARS", "1")
    try:
        import ray  # noqa: PLC0415 - an extra
        import ray.data.exceptions  # noqa: PLC0415
    except ImportError:
        raise MissingExtraError("several workers and --address need Ray", "ray") from None
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": LOUDEST, "configure_logging": False}
    if address == LOCAL:
        quiet |= {"include_dashboard": False, "num_cpus": max(workers, _cpus())}
    try:
        with without_native_notes():
            logging.getLogger("ray").setLevel(LOUDEST)  # importing it has set another
            ray.init(address=address, **quiet)
    except (OSError, RuntimeError, ValueError, AssertionError, ImportError, ray.exceptions.RayError) as error:
        reason = shown(" ".join(str(error).split()) or type(error).__name__, 300)
        raise UnreachableError(
            f"--address {shown(address, 100)}: no cluster of Ray there ({reason})"
        ) from None
    logging.getLogger("ray.data").setLevel(LOUDEST)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = context.print_on_execution_start = False
    try:
        yield ray
    finally:
        ray.shutdown()


def _cpus() -> int:
    """Return how many CPUs this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _share(ray: Any, workers: int) -> tuple[float, float]:
    """Return a worker's share of the cluster's CPUs and GPUs: whole CPUs, at least one."""
    there = ray.cluster_resources()
    cpus = int(there.get("CPU", 0)) // workers
    if cpus < 1:
        raise InvalidInputError(
            f"{workers} workers on a cluster of {int(there.get('CPU', 0))} CPUs; expected at least one each"
        )
    gpus = float(there.get("GPU", 0.0))
    return float(cpus), min(1.0, gpus / workers) if gpus else 0.0
