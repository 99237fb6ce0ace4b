"""Batches: rows of like length together, every step's rows shared out among the processes that train.

    order = LikeLengths(examples, batch_size=16, random_seed=1)
    batches = Shares(order, accumulation=2, chunk=None)                  # of the only process
    batches = Shares(order, accumulation=2, chunk=None, rank=1, count=2)   # of the second of two

The recipe decides which rows a step of the optimiser sees, `batch_size * accumulation` of them, whatever
the number of processes: they share first the accumulated parts, then the rows of each part. Everything
random depends on seed, epoch and place in the epoch alone, so resumed and shared runs see the same.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset, Sampler

from adapter_hub.trainers.data.examples import IGNORED, Example, pad, targets
from adapter_hub.trainers.data.mixture import epoch_length, epoch_rows
from adapter_hub.trainers.loop.spec_augment import mask

BLUR = 0.05  # of the lengths that are sorted by: a twentieth of a batch is padding, none comes twice


class Place(NamedTuple):
    """A row in its batch.

    Attributes:
        row: of the examples.
        frames: of the batch, padding included, whichever process has the longest row.
        seed: of its masks.
        counts: False for a row that only keeps a process company whose share is empty.
    """

    row: int
    frames: int
    seed: tuple[int, ...]
    counts: bool = True


class LikeLengths(Sampler[int]):
    """Shuffles every epoch anew, so that a batch holds examples of like length.

    A row comes as often as its weight says. The order depends on `random_seed` and epoch alone.
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
        """Return the epoch's batches; the last one may be short."""
        rows = np.array(epoch_rows(self.weights, self.epoch, self.random_seed))
        rng = np.random.default_rng((self.random_seed, self.epoch))
        blurred = self.lengths[rows] * rng.uniform(1 - BLUR, 1 + BLUR, len(rows))
        order = rows[np.argsort(blurred, kind="stable")]
        groups = [order[i : i + self.batch_size] for i in range(0, len(order), self.batch_size)]
        # a short one stays last: steps of the whole epoch weigh the same
        whole = groups[:-1] if len(groups[-1]) < self.batch_size else groups
        return [*(whole[i] for i in rng.permutation(len(whole))), *groups[len(whole) :]]


class Shares(Sampler[list[Place]]):
    """The batches of one process.

    Args:
        order: of the rows.
        accumulation: batches of `order` whose gradients make a step.
        chunk: frames that every batch has; None: as many as its longest example.
        rank: of this process, from 0.
        count: of processes.
    """

    def __init__(
        self, order: LikeLengths, accumulation: int, chunk: int | None, *, rank: int = 0, count: int = 1
    ) -> None:
        self.order, self.chunk = order, chunk
        # processes that take turns at the parts of a step; the others share each part's rows
        self.turns = math.gcd(accumulation, count)
        self.accumulation = accumulation // self.turns
        self.turn, self.share, self.shares = rank % self.turns, rank // self.turns, count // self.turns
        self._whole = accumulation

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch; transformers calls it."""
        self.order.set_epoch(epoch)

    def __len__(self) -> int:
        steps, rest = divmod(-(-len(self.order) // self.order.batch_size), self._whole)
        return steps * self.accumulation + -(-rest // self.turns)

    def __iter__(self) -> Iterator[list[Place]]:
        groups = self.order.groups()
        for first in range(0, len(groups), self._whole):
            of_step = range(first, min(first + self._whole, len(groups)))
            for part in range(first, of_step.stop, self.turns):
                number = part + self.turn
                yield self._batch(groups, number) if number in of_step else self._company(groups[first])

    def _batch(self, groups: Sequence[NDArray[np.int64]], number: int) -> list[Place]:
        group, epoch = groups[number], (self.order.random_seed, self.order.epoch)
        frames = self._frames(group)
        place = number * self.order.batch_size
        mine = range(self.share, len(group), self.shares)
        return [Place(int(group[i]), frames, (*epoch, place + i)) for i in mine] or self._company(group)

    def _company(self, group: NDArray[np.int64]) -> list[Place]:
        """Every process takes part in every exchange of gradients, with nothing to add if need be."""
        row = int(group[np.argmin(self.order.lengths[group])])
        return [Place(row, self._frames(np.array([row])), (0,), counts=False)]

    def _frames(self, group: NDArray[np.int64]) -> int:
        longest = int(self.order.lengths[group].max())
        return self.chunk or longest + longest % 2


def dev_batches(
    examples: Sequence[Example], batch_size: int, chunk: int | None, *, rank: int = 0, count: int = 1
) -> list[list[Place]]:
    """Return the batches of examples that are only listened to: shortest first, never masked."""
    lengths = np.array([example.features.shape[1] for example in examples])
    order = np.argsort(lengths, kind="stable")
    batches = []
    for first in range(0, len(order), batch_size):
        group = order[first : first + batch_size]
        longest = int(lengths[group].max())
        batches.append([Place(int(row), chunk or longest + longest % 2, (0,)) for row in group])
    return batches[rank::count]


class Rows(Dataset[tuple[Place, Example]]):
    """Examples by their place in a batch."""

    def __init__(self, examples: Sequence[Example]) -> None:
        self.examples = examples

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, place: Place) -> tuple[Place, Example]:
        return place, self.examples[place.row]


class Collator:
    """Stacks examples into a batch.

    Args:
        end: id of end-of-text, the padding of decoder inputs.
        masked: mask features as SpecAugment does.
    """

    def __init__(self, end: int, *, masked: bool) -> None:
        self.end, self.masked = end, masked

    def __call__(self, rows: Sequence[tuple[Place, Example]]) -> dict[str, torch.Tensor]:
        """Return `input_features` [batch, mels, frames], `decoder_input_ids` and `labels` [batch, tokens]."""
        examples = [example for _, example in rows]
        features = pad(examples, rows[0][0].frames)
        inputs, labels = targets(examples, self.end)
        for (place, example), row, label in zip(rows, features, labels, strict=True):
            if self.masked:
                mask(row[:, : example.features.shape[1]], np.random.default_rng(place.seed))
            if not place.counts:
                label[:] = IGNORED
        return {
            "input_features": torch.from_numpy(features),
            "decoder_input_ids": torch.from_numpy(inputs),
            "labels": torch.from_numpy(labels),
        }


class Loader(DataLoader[Any]):
    """A `DataLoader` that tells its batches the epoch."""

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch."""
        shares: Any = self.batch_sampler
        shares.set_epoch(epoch)
