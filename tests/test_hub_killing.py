"""A publisher or a puller killed at any request, write or moment: nothing half done, and a retry finishes.

Here six kills each; in the slow suite 200, and one at every request and every write that there is.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from test_hub_races import run_program


def kills(operation: str, wanted: int, folder: Path) -> int:
    """Kill so often, each followed by a judgement and a retry; return at how many different points."""
    told = run_program("hub_killing.py", operation, str(wanted), str(folder))
    found = re.match(rf"{operation}: (\d+) kills at (\d+) points", told)
    assert found, told
    assert int(found[1]) == wanted or not wanted
    print(told)  # noqa: T201
    return int(found[2])


@pytest.mark.parametrize("operation", ["publish", "pull"])
def test_killed_at_six_points_nothing_is_half_done_and_a_retry_finishes(
    tmp_path: Path, operation: str
) -> None:
    assert kills(operation, 6, tmp_path) == 6


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    "operation", ["publish", "publish an older version", "pull", "pull without a registry"]
)
def test_killed_at_two_hundred_points_nothing_is_half_done_and_a_retry_finishes(
    tmp_path: Path, operation: str
) -> None:
    assert kills(operation, 200, tmp_path) > 150


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("operation", ["publish", "pull"])
def test_killed_at_every_request_and_every_write_nothing_is_half_done(tmp_path: Path, operation: str) -> None:
    assert kills(operation, 0, tmp_path) > 100
