"""Publishers in processes of their own on one Hub at once: all land, or all but one are told why.

Four here, eight in the slow suite.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
CONFLICT = 3


def run_program(name: str, *arguments: str) -> str:
    """Run a program beside this file, as `python tests/NAME`, and return what it prints."""
    environment = {
        **os.environ,
        "PYTHONPATH": f"{HERE}{os.pathsep}{HERE.parent}",
        "OMP_NUM_THREADS": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    }
    command = [sys.executable, str(HERE / name), *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout


def race(scenario: str, folder: Path, publishers: int = 8) -> dict[str, Any]:
    """Return exit codes, and how often a commit was refused; the program judges what is left."""
    told: dict[str, Any] = json.loads(run_program("hub_racing.py", scenario, str(folder), str(publishers)))
    return told


SIZES = [4, pytest.param(8, marks=pytest.mark.slow)]


@pytest.mark.parametrize("publishers", SIZES)
def test_versions_of_one_name_all_land(tmp_path: Path, publishers: int) -> None:
    told = race("versions", tmp_path, publishers)
    assert told["codes"] == [0] * publishers
    assert told["stale"] > 0  # they did meet


@pytest.mark.parametrize("publishers", [3, pytest.param(8, marks=pytest.mark.slow)])
def test_different_names_all_land_in_one_registry(tmp_path: Path, publishers: int) -> None:
    assert race("names", tmp_path, publishers)["codes"] == [0] * publishers


# beside a newer version, publishers work on a branch of their own; `codes` ends with the newer version's


@pytest.mark.parametrize("publishers", SIZES)
@pytest.mark.parametrize("scenario", ["same", pytest.param("older same", marks=pytest.mark.slow)])
def test_the_same_bytes_of_one_version_all_succeed_and_are_there_once(
    tmp_path: Path, scenario: str, publishers: int
) -> None:
    assert race(scenario, tmp_path, publishers)["codes"][:publishers] == [0] * publishers


@pytest.mark.parametrize("publishers", SIZES)
@pytest.mark.parametrize("scenario", ["other", pytest.param("older other", marks=pytest.mark.slow)])
def test_of_those_with_other_bytes_of_one_version_exactly_one_wins(
    tmp_path: Path, scenario: str, publishers: int
) -> None:
    codes = race(scenario, tmp_path, publishers)["codes"][:publishers]
    assert sorted(codes) == [0] + [CONFLICT] * (publishers - 1)


@pytest.mark.slow
def test_eight_versions_beside_a_newer_one_all_land(tmp_path: Path) -> None:
    assert race("older", tmp_path)["codes"] == [0] * 9
