"""Adapters in memory: a budget, the oldest first, pinned ones never."""

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
    assert residents.keys() == ["c", "a", "d"]
    assert residents.bytes == 300
    assert log == ["a", "b", "c", "d"]


def test_a_pinned_one_stays() -> None:
    residents = Residents(loader([]), budget=200)
    residents.pin("a")
    for key in ("b", "c", "d"):
        residents.get(key)
    assert residents.keys() == ["a", "d"]
    residents.unpin("a")
    residents.get("e")
    assert residents.keys() == ["d", "e"]


def test_what_does_not_fit_beside_the_pinned_ones_is_refused() -> None:
    residents = Residents(loader([]), budget=250)
    residents.pin("a")
    residents.pin("b")
    with pytest.raises(InvalidInputError, match="c: 300 bytes of adapters with those that are pinned"):
        residents.get("c")
    assert residents.keys() == ["a", "b"]


def test_evicting_frees_and_a_later_use_loads_again() -> None:
    log: list[str] = []
    residents = Residents(loader(log), budget=1000)
    residents.pin("a")
    residents.evict("a")
    residents.evict("never there")
    assert residents.bytes == 0
    residents.get("a")
    assert log == ["a", "a"]


def test_what_cannot_be_loaded_leaves_nothing_behind() -> None:
    log: list[str] = []
    residents = Residents(loader(log), budget=1000)
    for _ in range(2):
        with pytest.raises(NotFoundError, match="no such adapter"):
            residents.pin("absent")
    assert residents.keys() == []
    assert log == ["absent", "absent"]


def test_threads_that_ask_at_once_cause_one_load() -> None:
    log: list[str] = []
    residents = Residents(loader(log, pause=0.05), budget=1000)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(residents.get, ["a"] * 8))
    assert log == ["a"]
    assert len({id(item) for item in found}) == 1
