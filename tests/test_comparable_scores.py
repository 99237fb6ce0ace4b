"""Adapters are chosen and sorted by scores that compare: of equal data, split, metric and normaliser."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from command_line import Run
from making import make_artifact

from adapter_hub.exchange import Places, publish
from adapter_hub.model.base_model import BaseModel
from adapter_hub.registry.file import FileRegistry
from adapter_hub.stores.folder import FolderStore
from adapter_hub.transcription.candidates import find_candidates

SAME = {
    "data": "fleurs",
    "split": "test",
    "data_sha256": "a" * 64,
    "normaliser": "basic/1",
    "decoding": "beam 5",
    "metric": "wer",
    "n": 300,
}
Scores = list[dict[str, Any]]
Listing = Callable[..., FileRegistry]


@pytest.fixture
def listing(base: BaseModel, tmp_path: Path) -> Listing:
    """Makes a registry of adapters for one language, by name, with scores."""

    def make(**scores: Scores) -> FileRegistry:
        path = tmp_path / "registry.json"
        for name in scores:
            made = make_artifact(
                tmp_path / name, f"small/{name}", seed=len(name) + ord(name[0]), base_model=base.pin
            )
            publish(made.path, Places(FileRegistry(path), FolderStore(tmp_path / "store")))
        tree = json.loads(path.read_text())
        for name, found in scores.items():
            tree["adapters"][f"small/{name}"]["1.0.0"]["scores"] = found
        tree["sequence"] += 1
        path.write_text(json.dumps(tree))
        return FileRegistry(path)

    return make


def order(registry: FileRegistry, base: BaseModel) -> list[str]:
    """The candidates of `auto`, the first choice first."""
    candidate, found = find_candidates([registry], base).get("da"), []
    while candidate:
        found.append(str(candidate.ref).split("@")[0].removeprefix("small/"))
        candidate = candidate.next
    return found


def score(value: float, **changes: Any) -> dict[str, Any]:
    return {**SAME, "value": value, **changes}


UNLIKE = [
    {"split": "train", "n": 1000},
    {"split": "dev"},
    {"data_sha256": "b" * 64},
    {"metric": "cer"},
    {"normaliser": "none/1"},
    {"n": 10},
]


@pytest.mark.parametrize("unlike", UNLIKE, ids=lambda item: ",".join(item))
def test_a_score_that_does_not_compare_changes_nothing(
    unlike: dict[str, Any], listing: Listing, base: BaseModel
) -> None:
    registry = listing(a=[score(0.12)], z=[score(0.01, **unlike)])
    assert order(registry, base) == ["a", "z"]


@pytest.mark.parametrize("split", ["train", "train-clean-100", "train[:50]", "Training"])
def test_scores_on_training_data_never_compare(split: str, listing: Listing, base: BaseModel) -> None:
    registry = listing(a=[score(0.12, split=split)], z=[score(0.01, split=split)])
    assert order(registry, base) == ["a", "z"]


def test_the_lower_rate_of_those_that_compare_comes_first(listing: Listing, base: BaseModel) -> None:
    registry = listing(a=[score(0.12)], b=[], z=[score(0.08), score(0.5, metric="cer")])
    assert order(registry, base) == ["z", "a", "b"]


def test_those_that_are_beaten_come_after_all_that_beat_them(listing: Listing, base: BaseModel) -> None:
    other = {"data_sha256": "b" * 64}
    registry = listing(a=[score(0.12)], b=[score(0.01, **other)], c=[score(0.08), score(0.3, **other)], d=[])
    assert order(registry, base) == ["b", "c", "a", "d"]


def test_an_adapter_without_scores_is_not_behind_one_with_scores(listing: Listing, base: BaseModel) -> None:
    assert order(listing(a=[], z=[score(0.01)]), base) == ["a", "z"]


def names(run: Run, *words: str) -> list[str]:
    return [row["name"] for row in run("list", "--json", *words).json if row["name"].startswith("small/")]


def test_list_sorts_by_scores_that_compare_and_the_rest_by_name(
    listing: Listing, run: Run, tmp_path: Path
) -> None:
    listing(
        a=[score(0.01, split="train")],
        b=[score(0.3)],
        c=[score(0.02, data_sha256="b" * 64)],
        d=[score(0.2)],
        e=[score(0.03, metric="cer")],
        f=[score(0.04, normaliser="none/1")],
    )
    words = ["--sort", "wer", "--data", "fleurs"]
    assert names(run, *words) == [f"small/{name}" for name in "dbacef"]
    said = run("list", *words)
    assert "3 versions with a WER on fleurs not sorted by it" in said.err
    row = next(line for line in said.out.splitlines() if line.startswith("small/a@"))
    assert "%" not in row  # a rate on what it was trained on is not shown as one
