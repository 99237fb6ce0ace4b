"""Long audio from end to end: memory stays flat and no phrase is lost, doubled or moved."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
from long_form import measure, phrases_alone


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
def test_memory_is_flat_and_every_phrase_comes_out_once_in_order() -> None:
    alone = phrases_alone()
    short, long = (measure(hours, alone, ("--beams", "1")) for hours in (0.05, 0.5))
    for row in (short, long):
        assert row["phrases"] == row["segments"] == row["right"]
    assert long["peak_megabytes"] < short["peak_megabytes"] + 100  # the samples alone are 115 MB
