"""The light commands start light: no torch on the embedded catalogue and on 1000 versions.

Their CPU time is measured by benchmarks/startup.py: a test with a clock says more about the machine.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from audit_defects import make_home
from test_imports import HEAVY

from adapter_hub import embedded
from adapter_hub.formats.canonical import digest_of

COUNTING = {"jiwer"}  # light by itself; the audit counts the errors of reports again with it

PROGRAM = """
import json, sys
from adapter_hub.cli import main
code = main({arguments!r})
print(json.dumps({{"code": code, "modules": sorted(sys.modules)}}), file=sys.stderr)
"""


@dataclass(frozen=True)
class Outcome:
    out: str
    heavy: set[str]


def run(arguments: Sequence[str], home: Path, registry: Path | None = None) -> Outcome:
    """Run a command in a fresh process, in a folder without a registry."""
    environment = {"HOME": str(home), "PATH": os.environ["PATH"]}
    if registry:
        environment["ADAPTER_HUB_REGISTRY"] = str(registry)
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(arguments=list(arguments))],
        capture_output=True,
        text=True,
        cwd=home,
        env=environment,
        check=True,
    )
    outcome = json.loads(done.stderr.splitlines()[-1])
    assert outcome["code"] == 0, done.stdout + done.stderr
    return Outcome(done.stdout, {name.partition(".")[0] for name in outcome["modules"]} & HEAVY)


@pytest.fixture(scope="module")
def thousand(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a registry with 1000 versions, of which `test/pl` and its child `test/da` have bytes."""
    folder = tmp_path_factory.mktemp("thousand")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ADAPTER_HUB_CACHE", str(folder / "cache"))
        registry = make_home(folder).registry.path
    tree = json.loads(registry.read_bytes())
    block: dict[str, Any] = tree["adapters"]["test/pl"]["1.0.0"]
    score = {
        "data": "numbers",
        "split": "test",
        "data_sha256": "0" * 64,
        "normaliser": "basic/1",
        "decoding": "greedy",
        "metric": "wer",
        "value": 0.1234,
        "n": 300,
    }
    for number in range(998):
        entry = {**block, "digest": digest_of(str(number).encode()), "scores": [score]}
        tree["adapters"].setdefault(f"many/a{number // 5}", {})[f"1.{number % 5}.0"] = entry
    registry.write_text(json.dumps(tree, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    return registry


def first_embedded() -> str:
    """Return the first adapter of the embedded catalogue."""
    adapters = json.loads(embedded.registry_path().read_bytes())["adapters"]
    assert adapters
    return min(adapters)


@pytest.mark.parametrize("command", ["list", "show", "lineage", "audit"])
def test_a_light_command_on_the_embedded_catalogue_imports_nothing_heavy(
    command: str, tmp_path: Path
) -> None:
    ref = [first_embedded()] if command in ("show", "lineage") else []
    outcome = run([command, *ref, "--json"], tmp_path)
    assert not outcome.heavy - (COUNTING if command == "audit" else set())
    json.loads(outcome.out)


@pytest.mark.parametrize("command", ["list", "show", "lineage", "audit"])
def test_a_light_command_on_1000_versions_imports_nothing_heavy(
    command: str, thousand: Path, tmp_path: Path
) -> None:
    ref = ["test/da"] if command != "list" else []
    assert not run([command, *ref, "--json"], tmp_path, thousand).heavy


def test_1000_versions_are_all_listed(thousand: Path, tmp_path: Path) -> None:
    rows = json.loads(run(["list", "--json"], tmp_path, thousand).out)
    assert len([row for row in rows if row["registry"] == str(thousand)]) == 1000


@pytest.mark.parametrize(
    "arguments", [["--help"], ["list"], ["registry", "check"], ["cache", "list"]], ids=" ".join
)
def test_no_light_command_imports_anything_heavy(arguments: list[str], tmp_path: Path) -> None:
    assert not run(arguments, tmp_path).heavy
