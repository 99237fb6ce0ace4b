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
LIGHT_MODULES = (
    "adapter_hub",
    "adapter_hub.artifact",
    "adapter_hub.audit",
    "adapter_hub.cache",
    "adapter_hub.cards",
    "adapter_hub.cli",
    "adapter_hub.exchange",
    "adapter_hub.importing",
    "adapter_hub.lineage",
    "adapter_hub.registry",
    "adapter_hub.schemas",
    "adapter_hub.stores",
)


def loaded_after(program: str) -> set[str]:
    """Return the top-level modules that a fresh interpreter holds after `program`."""
    program += "\nimport sys, json; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return {name.partition(".")[0] for name in json.loads(done.stdout.splitlines()[-1])}


@pytest.mark.parametrize("module", LIGHT_MODULES)
def test_a_module_up_to_audit_imports_nothing_heavy(module: str) -> None:
    assert not loaded_after(f"import {module}") & HEAVY


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
