"""Batches of clips of similar length, and each process's share of every optimiser step.

    sampler = LengthGroupedSampler(examples, batch_size=16, random_seed=1)
    batches = ShardedBatchSampler(sampler, accumulation=2, shortest=0)       # of the only process
    batches = ShardedBatchSampler(sampler, accumulation=2, shortest=0, rank=1, world_size=2)

The recipe decides which rows a step of the optimiser sees, `batch_size * accumulation` of them, whatever
the number of processes: they share first the accumulated batches, then the rows of each batch. Everything
random depends on seed, epoch and position in the epoch alone, so resumed and shared runs see the same.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset, Sampler

from adapter_hub.trainers.data.examples import IGNORED, Example, pad, targets
from adapter_hub.trainers.data.mixture import epoch_length, epoch_rows
from adapter_hub.trainers.data.spec_augment import mask

FRAMES_PER_SECOND = 100  # of Whisper's features
BLUR = 0.05  # of the lengths that are sorted by: a twentieth of a batch is padding, no batch recurs


class BatchRow(NamedTuple):
    """One row of a batch.

    Attributes:
        example: index among the examples.
        frames: of the whole batch, padding included, whichever process has the longest row.
        mask_seed: seeds the random masks of SpecAugment.
        counts: False for a row that only fills the batch of a process whose share is empty.
    """

    example: int
    frames: int
    mask_seed: tuple[int, ...]
    counts: bool = True


class LengthGroupedSampler(Sampler[int]):
    """Shuffles every epoch differently, so that a batch holds examples of similar length.

    A row comes as often as its weight says. The order depends on `random_seed` and epoch alone.

    Args:
        examples: in the order of the data.
        batch_size: examples that are grouped.
        random_seed: with the epoch, decides the order.
    """

    def __init__(self, examples: Sequence[Example], batch_size: int, random_seed: int) -> None:
        self.lengths = np.array([example.features.shape[1] for example in examples])
        self.weights = [example.weight for example in examples]
        self.batch_size, self.random_seed, self.epoch = batch_size, random_seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch's order."""
        self.epoch = epoch

    def __len__(self) -> int:
        return epoch_length(self.weights)

    def __iter__(self) -> Iterator[int]:
        for group in self.groups():
            yield from map(int, group)

    def groups(self) -> list[NDArray[np.int64]]:
        """Return the epoch's batches, each an array of example indices; the last one may be short."""
        rows = np.array(epoch_rows(self.weights, self.epoch, self.random_seed))
        rng = np.random.default_rng((self.random_seed, self.epoch))
        blurred = self.lengths[rows] * rng.uniform(1 - BLUR, 1 + BLUR, len(rows))
        order = rows[np.argsort(blurred, kind="stable")]
        groups = [order[i : i + self.batch_size] for i in range(0, len(order), self.batch_size)]
        # a short one stays last: steps of the whole epoch weigh the same
        whole = groups[:-1] if len(groups[-1]) < self.batch_size else groups
        return [*(whole[i] for i in rng.permutation(len(whole))), *groups[len(whole) :]]


class ShardedBatchSampler(Sampler[list[BatchRow]]):
    """The batches of one process.

    Args:
        sampler: groups the rows into batches.
        accumulation: batches whose gradients make one optimiser step, of all processes together.
        shortest: frames that every batch has at least; more where its longest example has more.
        rank: of this process, from 0.
        world_size: number of processes.

    Attributes:
        accumulation: batches of this process that make one step.
    """

    def __init__(
        self,
        sampler: LengthGroupedSampler,
        accumulation: int,
        shortest: int,
        *,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self.sampler, self.shortest = sampler, shortest
        # so many processes take different batches of a step; the others share the rows of each batch
        self.parallel = math.gcd(accumulation, world_size)
        self.accumulation = accumulation // self.parallel
        self.offset = rank % self.parallel
        self.shard, self.shards = rank // self.parallel, world_size // self.parallel
        self._batches_per_step = accumulation

    @property
    def steps_per_epoch(self) -> int:
        """How many steps of the optimiser an epoch has."""
        return -(-len(self) // self.accumulation)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch."""
        self.sampler.set_epoch(epoch)

    def __len__(self) -> int:
        steps, rest = divmod(-(-len(self.sampler) // self.sampler.batch_size), self._batches_per_step)
        return steps * self.accumulation + -(-rest // self.parallel)

    def __iter__(self) -> Iterator[list[BatchRow]]:
        groups = self.sampler.groups()
        for first in range(0, len(groups), self._batches_per_step):
            of_step = range(first, min(first + self._batches_per_step, len(groups)))
            for start in range(first, of_step.stop, self.parallel):
                number = start + self.offset
                yield self._batch(groups, number) if number in of_step else self._filler(groups[first])

    def _batch(self, groups: Sequence[NDArray[np.int64]], number: int) -> list[BatchRow]:
        group, epoch = groups[number], (self.sampler.random_seed, self.sampler.epoch)
        frames = self._frames(group)
        position = number * self.sampler.batch_size
        mine = range(self.shard, len(group), self.shards)
        return [BatchRow(int(group[i]), frames, (*epoch, position + i)) for i in mine] or self._filler(group)

    def _filler(self, group: NDArray[np.int64]) -> list[BatchRow]:
        """Return a batch that adds nothing: every process takes part in every exchange of gradients."""
        row = int(group[np.argmin(self.sampler.lengths[group])])
        return [BatchRow(row, self._frames(np.array([row])), (0,), counts=False)]

    def _frames(self, group: NDArray[np.int64]) -> int:
        return frames_of(int(self.sampler.lengths[group].max()), self.shortest)


def frames_of(longest: int, shortest: int) -> int:
    """Return the frames of a batch, an even number, as Whisper's encoder halves them.

    >>> frames_of(301, 0), frames_of(301, 1500)
    (302, 1500)

    Args:
        longest: frames of its longest example.
        shortest: frames that every batch has at least.
    """
    return max(longest + longest % 2, shortest)


def dev_batches(
    examples: Sequence[Example], batch_size: int, shortest: int, *, rank: int = 0, world_size: int = 1
) -> list[list[BatchRow]]:
    """Return this process's batches of the dev examples, shortest first; they are never masked.

    Args:
        examples: of the dev split.
        batch_size: rows of a batch.
        shortest: frames that every batch has at least.
        rank: of this process, from 0.
        world_size: number of processes.
    """
    lengths = np.array([example.features.shape[1] for example in examples])
    order = np.argsort(lengths, kind="stable")
    batches = []
    for first in range(0, len(order), batch_size):
        group = order[first : first + batch_size]
        frames = frames_of(int(lengths[group].max()), shortest)
        batches.append([BatchRow(int(row), frames, (0,)) for row in group])
    return batches[rank::world_size]


class ExampleDataset(Dataset[tuple[BatchRow, Example]]):
    """Examples by their row of a batch."""

    def __init__(self, examples: Sequence[Example]) -> None:
        self.examples = examples

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, row: BatchRow) -> tuple[BatchRow, Example]:
        return row, self.examples[row.example]


class Collator:
    """Stacks examples into a batch.

    Args:
        end: id of end-of-text, the padding of decoder inputs.
        masked: mask features as SpecAugment does.
    """

    def __init__(self, end: int, *, masked: bool) -> None:
        self.end, self.masked = end, masked

    def unmasked(self) -> Collator:
        """Return the one for batches that are not trained on."""
        return Collator(self.end, masked=False)

    def __call__(self, rows: Sequence[tuple[BatchRow, Example]]) -> dict[str, torch.Tensor]:
        """Return what the model takes.

        Args:
            rows: of one batch.

        Returns:
            `input_features` `[batch, mels, frames]` float32, `decoder_input_ids` and `labels`
            `[batch, tokens]` int64, where `IGNORED` does not count.
        """
        examples = [example for _, example in rows]
        features = pad(examples, rows[0][0].frames)
        inputs, labels = targets(examples, self.end)
        for (row, example), values, label in zip(rows, features, labels, strict=True):
            if self.masked:
                mask(values[:, : example.features.shape[1]], np.random.default_rng(row.mask_seed))
            if not row.counts:
                label[:] = IGNORED
        return {
            "input_features": torch.from_numpy(features),
            "decoder_input_ids": torch.from_numpy(inputs),
            "labels": torch.from_numpy(labels),
        }
