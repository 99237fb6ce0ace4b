"""What starts without torch: deterministic where a stopwatch would be flaky."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import adapter_hub

HEAVY = {
    "accelerate",
    "huggingface_hub",
    "jiwer",
    "numpy",
    "peft",
    "safetensors",
    "soundfile",
    "tokenizers",
    "torch",
    "transformers",
}
LIGHT_ROOMS = (
    "artifact",
    "audit",
    "base_model",
    "cards",
    "cli",
    "embedded",
    "exchange",
    "files",
    "formats",
    "hub",
    "registry",
    "stores",
)


def loaded_after(program: str) -> set[str]:
    """Return the top-level modules that a fresh interpreter holds after `program`."""
    program += "\nimport sys, json; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return {name.partition(".")[0] for name in json.loads(done.stdout.splitlines()[-1])}


IMPORT_ALL = """
import importlib, pkgutil
for name in {rooms}:
    room = importlib.import_module("adapter_hub." + name)
    for module in pkgutil.walk_packages(room.__path__, room.__name__ + "."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
"""


def test_no_module_that_handles_adapters_as_data_imports_anything_heavy() -> None:
    loaded = loaded_after(IMPORT_ALL.format(rooms=LIGHT_ROOMS)) & HEAVY
    if loaded:  # one process finds it, one for each room says where
        rooms = {room: loaded_after(IMPORT_ALL.format(rooms=[room])) & HEAVY for room in LIGHT_ROOMS}
        pytest.fail(f"{ {room: found for room, found in rooms.items() if found} }")


def test_pulling_imports_neither_the_hub_s_client_nor_what_only_other_verbs_need() -> None:
    program = (
        "import sys; from adapter_hub.exchange import pull\n"
        "print(*(name for name in sys.modules if name.startswith('adapter_hub.')))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    rooms = {tuple(name.split(".")[1:3]) for name in done.stdout.split()}
    assert ("exchange", "pulling") in rooms
    assert not {
        room for room in rooms if room[0] in ("hub", "cards", "base_model") or room[-1] == "publishing"
    }
    assert len(rooms) < 60


def test_importing_the_package_does_not_import_jinja_or_click() -> None:
    assert not loaded_after("import adapter_hub") & (HEAVY | {"jinja2", "click"})


def test_every_command_can_be_asked_for_help_without_anything_heavy() -> None:
    program = (
        "import click; from adapter_hub.cli import cli; context = click.Context(cli)\n"
        "for name in cli.list_commands(context): cli.get_command(context, name).get_help(context)"
    )
    assert not loaded_after(program) & HEAVY


def test_the_short_names_of_trainers_and_cards_are_nobody_s() -> None:
    loaded = loaded_after("import adapter_hub.cards, adapter_hub.trainers")
    assert not loaded & {"cards", "trainers"}


def test_the_package_is_the_checkout_s() -> None:
    assert Path(adapter_hub.__file__).parents[1] == Path(__file__).parents[1]
