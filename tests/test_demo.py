"""The demo, as a user starts it, with a fraction of its data."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """What a quick demo printed, and where it worked."""
    out = tmp_path_factory.mktemp("work") / "demo"
    command = [sys.executable, "-m", "adapter_hub", "demo", "--quick", "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=280)
    assert done.returncode == 0, done.stderr
    return out, done.stdout


def test_the_demo_goes_through_the_whole_life_of_an_adapter_and_ends_in_a_table(
    said: tuple[Path, str],
) -> None:
    out, text = said
    for step in (
        "Speech",
        "Evaluate base-model",
        "Train demo/es",
        "Publish",
        "Pull",
        "Transcribe",
        "Lineage",
    ):
        assert f"== {step}" in text
    table = text[text.index("== Results") :]
    assert all(row in table for row in ("base model", "LoRA from scratch", "LoRA warm start"))
    assert (out / "card.md").read_text().startswith("---\n")


def test_the_demo_shows_that_polish_is_bit_identical_beside_the_child(said: tuple[Path, str]) -> None:
    assert "mini/pl rows bit-identical: True" in said[1]


def test_what_the_demo_published_passes_the_audit(said: tuple[Path, str]) -> None:
    command = [sys.executable, "-m", "adapter_hub", "--registry", str(said[0] / "registry.json"), "audit"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_a_folder_that_is_no_demo_s_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("dear")
    command = [sys.executable, "-m", "adapter_hub", "demo", "--quick", "--out", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "exists and is not the folder of a demo; choose another --out" in done.stderr
    assert (tmp_path / "letter.txt").read_text() == "dear"
