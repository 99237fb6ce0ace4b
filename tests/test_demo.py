"""The demo, as a user starts it, with a fraction of its data."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from adapter_hub import embedded
from adapter_hub.exchange import Places, publish
from adapter_hub.registry.file import FileRegistry
from adapter_hub.stores.folder import FolderStore
from adapter_hub.trainers.demo import MARKER, _prepare

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


@pytest.mark.parametrize("deleted", [False, True])
def test_a_demo_replaces_the_one_before_even_if_that_was_deleted(deleted: bool, tmp_path: Path) -> None:
    out = tmp_path / "demo"
    out.mkdir()
    (out / MARKER).touch()
    before = FileRegistry(out / "registry.json")
    publish(embedded.store_path() / "mini/pl/1.0.0", Places(before, FolderStore(out / "store")))
    if deleted:
        shutil.rmtree(out)
    stage = _prepare(out, lambda _: None, quick=True)
    publish(embedded.store_path() / "mini/it/1.0.0", Places(stage.registry, stage.store))
    assert list(stage.registry.adapters) == ["mini/it"]


def test_a_folder_that_is_no_demo_s_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("dear")
    command = [sys.executable, "-m", "adapter_hub", "demo", "--quick", "--out", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "exists and is not the folder of a demo; choose another --out" in done.stderr
    assert (tmp_path / "letter.txt").read_text() == "dear"
