"""Batches: what processes share is what one process would have had, row by row."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import skip_first_batches
from torch.utils.data import DataLoader
from transformers import TrainerState

from adapter_hub.trainers.data.examples import IGNORED, Example
from adapter_hub.trainers.loop.batches import (
    BatchRow,
    Collator,
    ExampleDataset,
    LengthGroupedSampler,
    ShardedBatchSampler,
    dev_batches,
)
from adapter_hub.trainers.loop.callbacks import ChooseEpoch


def examples(count: int) -> list[Example]:
    rng = np.random.default_rng(7)
    found = []
    for i in range(count):
        features = rng.standard_normal((80, int(rng.integers(40, 400)))).astype(np.float16)
        tokens = (1, 2, 3, *range(10, 10 + int(rng.integers(1, 9))), 0)
        found.append(Example(str(i), features, -1.5, tokens, 1.0, 3, "da"))
    return found


def steps(samplers: list[ShardedBatchSampler], accumulation: int) -> list[list[BatchRow]]:
    """Return the rows of every step, over all processes."""
    batches = [list(sampler) for sampler in samplers]
    assert {len(found) for found in batches} == {len(sampler) for sampler in samplers}
    local = samplers[0].accumulation
    return [
        [row for found in batches for batch in found[first : first + local] for row in batch]
        for first in range(0, len(batches[0]), local)
    ]


@pytest.mark.parametrize("rows", [3, 16, 29, 41])
@pytest.mark.parametrize("accumulation", [1, 2, 3, 4])
@pytest.mark.parametrize("count", [1, 2, 3, 4, 6])
def test_every_step_has_the_same_rows_masks_and_padding_however_many_processes_share_it(
    rows: int, accumulation: int, count: int
) -> None:
    material = examples(rows)
    sampler = LengthGroupedSampler(material, 4, random_seed=1)
    sampler.set_epoch(2)
    alone = steps([ShardedBatchSampler(sampler, accumulation, 0)], accumulation)
    shared = steps(
        [ShardedBatchSampler(sampler, accumulation, 0, rank=rank, world_size=count) for rank in range(count)],
        accumulation,
    )
    assert len(shared) == len(alone) == math.ceil(math.ceil(rows / 4) / accumulation)
    for one, other in zip(alone, shared, strict=True):
        assert all(row.counts for row in one)
        assert sorted(row for row in other if row.counts) == sorted(one)
    assert sorted(row.example for step in alone for row in step) == list(range(rows))


@pytest.mark.parametrize("done", [0, 3, 5, 8, 11])
def test_a_resumed_epoch_goes_on_with_its_own_rows_whichever_loader_skips_those_before(done: int) -> None:
    material = examples(18)
    batches = ShardedBatchSampler(LengthGroupedSampler(material, 2, random_seed=1), 2, 0)
    assert batches.steps_per_epoch == 5
    whole = []
    for epoch in range(3):
        batches.set_epoch(epoch)
        whole += list(batches)
    epoch, steps = divmod(done, 5)
    batches.set_epoch(0)  # what a new process knows of it
    ChooseEpoch(batches).on_epoch_begin(None, TrainerState(global_step=done), None)
    rows: Any = batches
    loader = DataLoader(ExampleDataset(material), batch_sampler=rows, collate_fn=lambda pairs: pairs)
    skipped: Any = skip_first_batches(loader, 2 * steps)  # as transformers does it; before 5.17 nothing more
    seen = [[row for row, _ in batch] for batch in skipped]
    assert seen == whole[9 * epoch + 2 * steps : 9 * (epoch + 1)]


def test_a_process_without_a_row_of_its_own_gets_a_batch_that_adds_nothing() -> None:
    material = examples(5)
    sampler = LengthGroupedSampler(material, 4, random_seed=1)
    last = list(ShardedBatchSampler(sampler, 1, 0, rank=1, world_size=2))[-1]
    assert [row.counts for row in last] == [False]
    rows = ExampleDataset(material)
    batch = Collator(0, masked=True)([rows[row] for row in last])
    assert bool((batch["labels"] == IGNORED).all())


def test_batches_are_as_long_as_their_longest_row_or_as_is_asked_for_and_even() -> None:
    material = examples(9)
    sampler = LengthGroupedSampler(material, 4, random_seed=1)
    for shortest in (0, 250, 800):
        for batch in ShardedBatchSampler(sampler, 1, shortest):
            longest = max(material[row.example].features.shape[1] for row in batch)
            assert {row.frames for row in batch} == {max(longest + longest % 2, shortest)}
            features = Collator(0, masked=False)([ExampleDataset(material)[row] for row in batch])[
                "input_features"
            ]
            assert features.shape == (len(batch), 80, batch[0].frames)


def test_masks_follow_from_seed_epoch_and_position_and_differ_for_a_row_that_is_seen_twice() -> None:
    material = examples(1)
    collate = Collator(0, masked=True)

    def features(*seed: int) -> torch.Tensor:
        return collate([(BatchRow(0, 400, seed), material[0])])["input_features"]

    assert torch.equal(features(1, 0, 5), features(1, 0, 5))
    assert not torch.equal(features(1, 0, 5), features(1, 0, 6))
    assert not torch.equal(features(1, 0, 5), features(1, 1, 5))


@pytest.mark.parametrize("count", [1, 2, 5])
def test_dev_rows_are_evaluated_once_by_some_process_and_never_masked(count: int) -> None:
    material = examples(11)
    batches = [
        batch for rank in range(count) for batch in dev_batches(material, 4, 0, rank=rank, world_size=count)
    ]
    assert sorted(row.example for batch in batches for row in batch) == list(range(11))
