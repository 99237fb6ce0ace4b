"""Adapters in memory: a budget, the one used longest ago evicted first."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from adapter_hub.errors import InvalidInputError, NotFoundError
from adapter_hub.model.layout import AdapterLayout
from adapter_hub.model.loading import ResidentAdapter
from adapter_hub.model.residents import Residents


def loader(log: list[str], pause: float = 0.0) -> Callable[[str], ResidentAdapter]:
    def load(key: str) -> ResidentAdapter:
        log.append(key)
        time.sleep(pause)
        if key == "absent":
            raise NotFoundError("absent: no such adapter")
        return ResidentAdapter(key, AdapterLayout((), 25), torch.zeros(25))  # 100 bytes

    return load


def test_the_one_used_longest_ago_makes_room() -> None:
    log: list[str] = []
    residents = Residents(loader(log), budget=300)
    for key in ("a", "b", "c", "a", "d"):
        assert residents.get(key).name == key
    assert log == ["a", "b", "c", "d"]
    for key in ("c", "a", "d"):  # still there
        residents.get(key)
    assert log == ["a", "b", "c", "d"]
    residents.get("b")
    assert log == ["a", "b", "c", "d", "b"]


def test_what_is_larger_than_the_budget_is_refused_and_leaves_nothing_behind() -> None:
    log: list[str] = []
    residents = Residents(loader(log), budget=99)
    for _ in range(2):
        with pytest.raises(InvalidInputError, match="a: 100 bytes, more than the budget of 99 bytes"):
            residents.get("a")
    assert log == ["a", "a"]


def test_what_cannot_be_loaded_leaves_nothing_behind() -> None:
    log: list[str] = []
    residents = Residents(loader(log), budget=1000)
    for _ in range(2):
        with pytest.raises(NotFoundError, match="no such adapter"):
            residents.get("absent")
    assert log == ["absent", "absent"]


def test_threads_that_ask_at_once_cause_one_load() -> None:
    log: list[str] = []
    residents = Residents(loader(log, pause=0.05), budget=1000)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(residents.get, ["a"] * 8))
    assert log == ["a"]
    assert len({id(item) for item in found}) == 1
