"""The map of the code is true: every room has its floor in the import contract and its line in the page."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
CONTRACTS = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["importlinter"]["contracts"]


def rooms() -> set[str]:
    """Return the packages and modules directly in adapter_hub."""
    return {
        path.stem
        for path in (ROOT / "adapter_hub").iterdir()
        if path.suffix == ".py" or (path / "__init__.py").exists()
    } - {"__init__"}


MAP = next(contract for contract in CONTRACTS if contract.get("containers") == ["adapter_hub"])


def floors() -> list[list[str]]:
    """Return the rooms of the contract, from the top down."""
    return [re.split(r"\s*[:|]\s*", floor) for floor in MAP["layers"]]


def test_the_import_contract_has_a_floor_for_every_room_and_refuses_rooms_without() -> None:
    assert all(contract["exhaustive"] for contract in CONTRACTS if contract["type"] == "layers")
    placed = [room for floor in floors() for room in floor]
    assert len(placed) == len(set(placed))
    assert set(placed) == rooms()
    assert not any(contract.get("ignore_imports") for contract in CONTRACTS)


def test_what_stays_light_is_all_below_the_first_room_that_computes() -> None:
    (light,) = [contract for contract in CONTRACTS if contract["type"] == "forbidden"]
    named = {module.removeprefix("adapter_hub.") for module in light["source_modules"]}
    below = [floor for floor in floors() if named & set(floor)]
    assert below == floors()[-len(below) :]
    assert {room for floor in below for room in floor} - named == {"speech"}  # numpy and soundfile


def test_the_map_draws_the_floors_of_the_contract() -> None:
    drawing = re.search(r"^```\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    assert drawing is not None
    drawn = [set(line[:72].split()) for line in drawing[1].splitlines() if "─" not in line]
    assert drawn == [set(floor) for floor in floors() if floor != ["__main__"]]


@pytest.mark.parametrize("room", sorted(rooms() - {"__main__"}))
def test_the_page_names_every_room(room: str) -> None:
    assert re.search(rf"\b{room}\b", PAGE), room


def test_every_starting_point_that_the_page_names_exists() -> None:
    rows = re.findall(r"^\| `(\w+)` \| .* \| (.+) \|$", PAGE, re.MULTILINE)
    assert len(rows) > 15
    for room, starts in rows:
        for start in re.findall(r"`([\w/.]+)`", starts):
            places = [ROOT / "adapter_hub" / room / f"{start}.py", ROOT / "adapter_hub" / room / start]
            places += [ROOT / "adapter_hub" / f"{start}.py", ROOT / start]
            assert any(place.exists() for place in places), f"{room}: {start}"


def test_every_module_that_the_page_names_exists() -> None:
    for room, module in re.findall(r"`(\w+)\.(\w+)`", PAGE):
        if room in rooms() and module != "json":
            folder = ROOT / "adapter_hub" / room
            assert (folder / f"{module}.py").exists() or (folder / module).is_dir(), f"{room}.{module}"
