"""Mixtures of sources: languages row by row, weights, hours, and what the manifest says of them."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_training import WORDS, places, recipe
from small_whisper import write_speech

from adapter_hub.data.dataset import read_dataset
from adapter_hub.errors import InvalidInputError
from adapter_hub.model.base_model import BaseModel
from adapter_hub.trainers.data.examples import IGNORED, targets
from adapter_hub.trainers.data.mixture import choose_hours, epoch_length, epoch_rows
from adapter_hub.trainers.data.preparing import prepare
from adapter_hub.trainers.data.rows import RowRules
from adapter_hub.trainers.data.sources import Source
from adapter_hub.trainers.loop.batches import BLUR, LengthGroupedSampler
from adapter_hub.trainers.training import train


def write_data(folder: Path, count: int = 4, seconds: float = 0.5, **columns: Any) -> Path:
    folder.mkdir(parents=True)
    rows = []
    for i in range(count):
        write_speech(folder / f"{i}.wav", seconds=seconds + 0.1 * i, seed=i)
        rows.append({"file_name": f"{i}.wav", "text": WORDS[i % 6], **columns})
    (folder / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def source(folder: Path, **options: Any) -> Source:
    return Source(read_dataset(folder), **options)


def token(base: BaseModel, language: str) -> int:
    return int(base.processor.tokenizer.convert_tokens_to_ids(f"<|{language}|>"))


def test_without_weights_every_epoch_visits_every_row_once() -> None:
    assert epoch_rows([1.0] * 7, 0, 1) == epoch_rows([1.0] * 7, 5, 2) == list(range(7))


def test_whole_weights_are_exactly_that_many_visits() -> None:
    assert epoch_rows([2.0, 1.0, 3.0], 4, 1) == [0, 0, 1, 2, 2, 2]


@pytest.mark.parametrize("weights", [[0.5] * 9, [0.3, 2.7, 1.0, 0.25, 0.9], [0.01] * 30, [1.5]])
def test_every_epoch_is_of_one_length_and_every_row_gets_its_share(weights: list[float]) -> None:
    epochs = 200
    visits: Counter[int] = Counter()
    for epoch in range(epochs):
        rows = epoch_rows(weights, epoch, random_seed=3)
        assert len(rows) == epoch_length(weights)
        assert rows == sorted(rows)
        visits.update(rows)
    scale = epoch_length(weights) / sum(weights)
    if all(weight < 1 for weight in weights):  # otherwise the rounding falls on the fractions alone
        for row, weight in enumerate(weights):
            assert abs(visits[row] - weight * scale * epochs) <= 4
    assert sum(visits.values()) == epochs * epoch_length(weights)


def test_another_random_seed_chooses_other_rows() -> None:
    weights = [0.25] * 40
    assert epoch_rows(weights, 0, 1) == epoch_rows(weights, 0, 1)
    assert epoch_rows(weights, 0, 1) != epoch_rows(weights, 0, 2)
    assert epoch_rows(weights, 0, 1) != epoch_rows(weights, 1, 1)


def test_hours_choose_rows_by_seed_and_id_alone() -> None:
    ids, seconds = [f"{i}.wav" for i in range(50)], [360.0] * 50
    chosen = choose_hours(ids, seconds, 1.0, random_seed=1)
    assert len(chosen) == 10
    assert choose_hours(ids[::-1], seconds, 1.0, random_seed=1) == sorted(49 - i for i in chosen)
    assert set(chosen) < set(choose_hours(ids, seconds, 2.0, random_seed=1))
    assert chosen != choose_hours(ids, seconds, 1.0, random_seed=2)


def test_a_row_speaks_its_own_language_else_its_sources_else_the_adapters(
    tmp_path: Path, base: BaseModel
) -> None:
    own = source(write_data(tmp_path / "own", 1, language="ja-JP"), language="pl")
    theirs = source(write_data(tmp_path / "theirs", 1), language="pl")
    borrowed = source(
        write_data(tmp_path / "borrowed", 1, language="csb"), language="csb", decode_language="pl"
    )
    recipes = source(write_data(tmp_path / "recipes", 1))
    rules = RowRules(language="mdw", decode_language="zh")
    prepared = prepare([own, theirs, borrowed, recipes], base, rules)
    assert [example.language for example in prepared.examples] == ["ja", "pl", "pl", "zh"]
    assert [example.tokens[1] for example in prepared.examples] == [
        token(base, language) for language in ("ja", "pl", "pl", "zh")
    ]


def test_each_rows_own_prompt_is_given_and_not_predicted(tmp_path: Path, base: BaseModel) -> None:
    sources = [source(write_data(tmp_path / name, 1), language=name) for name in ("da", "pl")]
    examples = prepare(sources, base, RowRules()).examples
    assert {example.prompt for example in examples} == {4}
    inputs, labels = targets(examples, end=base.processor.tokenizer.eos_token_id)
    assert inputs[0, 1] == token(base, "da")
    assert inputs[1, 1] == token(base, "pl")
    assert (labels[:, :3] == IGNORED).all()
    assert labels[0, 3] == examples[0].tokens[4]


def test_rows_of_an_unknown_language_are_refused_and_told_how_to_borrow(
    tmp_path: Path, base: BaseModel
) -> None:
    folder = write_data(tmp_path / "mboshi", 2, language="mdw")
    with pytest.raises(InvalidInputError, match=r"mboshi: 0.wav: language 'mdw': .*decode_language"):
        prepare([source(folder)], base, RowRules(language="da"))
    with pytest.raises(InvalidInputError, match="the language of 0.wav is not known; name it in the recipe"):
        prepare([source(write_data(tmp_path / "plain", 1))], base, RowRules())


def test_lengths_outside_the_recipes_are_dropped_with_the_limit(tmp_path: Path, base: BaseModel) -> None:
    rules = RowRules(language="da", shortest_seconds=0.55, longest_seconds=0.75)
    prepared = prepare([source(write_data(tmp_path / "da", 4))], base, rules)
    assert [example.id for example in prepared.examples] == ["1.wav", "2.wav"]
    assert {row.id: row.reason for row in prepared.dropped} == {
        "0.wav": "0.wav: 0.50 s of audio; data.shortest_seconds is 0.55",
        "3.wav": "3.wav: 0.80 s of audio; data.longest_seconds is 0.75",
    }


def test_hours_cut_a_source_the_same_way_wherever_it_stands(tmp_path: Path, base: BaseModel) -> None:
    folder = write_data(tmp_path / "pl", 12)
    other = source(write_data(tmp_path / "da", 2))
    cut = source(folder, language="pl", hours=3.0 / 3600)
    rules = RowRules(language="da", random_seed=7)
    first = prepare([other, cut], base, rules)
    second = prepare([cut, other], base, rules)
    chosen = [example.id for example in first.examples if example.language == "pl"]
    assert chosen == [example.id for example in second.examples if example.language == "pl"]
    assert 0 < first.sources[1].hours <= 3.0 / 3600
    assert first.sources[1] == second.sources[0]
    assert len(chosen) == first.sources[1].utterances < 12
    with pytest.raises(InvalidInputError, match="the first row drawn is longer than hours = 1e-05"):
        prepare([source(folder, hours=1e-5)], base, rules)


def test_the_sampler_repeats_rows_by_weight_and_keeps_the_length(tmp_path: Path, base: BaseModel) -> None:
    sources = [
        source(write_data(tmp_path / "da", 6), weight=2.0),
        source(write_data(tmp_path / "pl", 5), language="pl", weight=0.5),
    ]
    prepared = prepare(sources, base, RowRules(language="da"))
    sampler = LengthGroupedSampler(prepared.examples, 4, random_seed=1)
    for epoch in range(3):
        sampler.set_epoch(epoch)
        visits = Counter(sampler)
        assert sum(visits.values()) == len(sampler) == 14
        assert all(visits[row] == 2 for row in range(6))


def test_weights_of_one_leave_the_order_as_it_always_was(tmp_path: Path, base: BaseModel) -> None:
    examples = prepare([source(write_data(tmp_path / "da", 10))], base, RowRules(language="da")).examples
    lengths = np.array([example.features.shape[1] for example in examples])
    rng = np.random.default_rng((5, 2))
    order = np.argsort(lengths * rng.uniform(1 - BLUR, 1 + BLUR, 10), kind="stable")
    groups = [order[i : i + 4] for i in range(0, 10, 4)]
    wanted = [int(row) for i in rng.permutation(2) for row in groups[i]] + [int(row) for row in groups[2]]
    sampler = LengthGroupedSampler(examples, 4, random_seed=5)
    sampler.set_epoch(2)
    assert list(sampler) == wanted


def test_a_mixture_trains_and_the_manifest_names_every_source(
    tmp_path: Path, data: Path, base_folder: Path
) -> None:
    write_data(tmp_path / "polish", 5)
    path = recipe(tmp_path, base_folder)
    text = path.read_text().replace('train = "data/train"\n', "").replace('dev = "data/dev"\n', "")
    mixture = """
[[data.train]]
folder = "data/train"
license = "CC-BY-4.0"
[[data.train]]
folder = "polish"
language = "pl"
weight = 2
id = "mls"
license = "CC0-1.0"
[[data.dev]]
folder = "data/dev"
"""
    path.write_text(text + mixture)
    artifact = train(path, tmp_path / "out", **places(tmp_path))
    danish, polish = artifact.manifest.data
    assert (danish.id, danish.split, danish.utterances, danish.license) == ("data", "train", 12, "CC-BY-4.0")
    assert (polish.id, polish.split, polish.utterances, polish.license) == ("mls", "all", 5, "CC0-1.0")
    assert danish.sha256 != polish.sha256
    assert artifact.manifest.training is not None
    assert artifact.manifest.training.steps == 2 * 6  # two epochs of 12 + 2 x 5 rows in batches of 4
