"""A whole reproduction on a handful of utterances: killed, gone on with, reported, audited."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from command_line import Run
from filelock import FileLock
from reproductions import MINI, read
from small_whisper import write_speech

from adapter_hub.artifact.folder import Artifact
from adapter_hub.audit import audit
from adapter_hub.data.dataset import Dataset, read_dataset
from adapter_hub.exchange.places import Places
from adapter_hub.model.base_model import BaseModel
from adapter_hub.model.loading import load_adapter
from adapter_hub.registry.file import FileRegistry
from adapter_hub.trainers.reproduction.lora_whisper.plan import Known, cells_of
from adapter_hub.trainers.reproduction.lora_whisper.systems import TABLES
from adapter_hub.trainers.reproduction.lora_whisper.untouched import Neighbour, compare_beside, is_untouched

CHANGES = {
    "base_languages = .*": 'base_languages = ["pl", "zh"]',
    "new_languages = .*": 'new_languages = ["da"]',
    "dev = 100": "dev = 4",
    "(pl|pt|it|zh|da|el|cy|ja) = .*": r"\1 = 16",
    "hours = .*": "hours = 0.005",
    "random_seeds = .*": "random_seeds = [1, 2]",
    "(base|full_expansion|expansion) = \\d.*": r"\1 = 1",
    "(E\\d) = .*": r"\1 = [1e-3]",
    "expansion = \\[.*": "expansion = [1e-3, 2e-3]",
    "segments = .*": "segments = 8",
    "ranks = .*": "ranks = [2, 8]",
    "forgetting_utterances = .*": "forgetting_utterances = 4",
}


def little(folder: Path) -> Path:
    """Write settings of a reproduction that takes a minute or two."""
    text = MINI
    for pattern, replacement in CHANGES.items():
        text = re.sub(f"^{pattern}", replacement, text, flags=re.MULTILINE)
    path = folder / "settings.toml"
    path.write_text(text, encoding="utf-8")
    return path


def command(folder: Path) -> list[str]:
    words = ["reproduce", "lora-whisper", "--settings", str(little(folder)), "--out", str(folder / "run")]
    return [sys.executable, "-m", "adapter_hub", *words]


def finished(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (folder / "run" / "cells").glob("*.json")}


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_reproduction_that_is_killed_goes_on_and_ends_with_a_report(tmp_path: Path) -> None:
    environment = os.environ | {"ADAPTER_HUB_CACHE": str(tmp_path / "cache")}
    with subprocess.Popen(command(tmp_path), cwd=tmp_path, env=environment) as process:
        deadline = time.monotonic() + 600
        while sum(name.startswith("e") for name in finished(tmp_path)) < 4:
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.2)
        process.send_signal(signal.SIGKILL)
    before = finished(tmp_path)

    done = subprocess.run(command(tmp_path), cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(tmp_path / "run" / "README.md")
    assert f"{len(before)} of " in done.stderr
    after = finished(tmp_path)
    assert before.items() <= after.items()  # nothing finished was done again
    _check_outcome(tmp_path / "run")

    again = subprocess.run(command(tmp_path), cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert again.returncode == 0
    assert finished(tmp_path) == after


def _check_outcome(run: Path) -> None:
    numbers = json.loads((run / "results.json").read_bytes())
    assert numbers["gaps"] == []
    assert sorted(numbers["systems"]) == [f"E{number}" for number in range(1, 10)]
    assert len(numbers["systems"]["E9"]["languages"]["da"]["seeds"]) == 2
    assert set(numbers["initialisations"]["da"]) == {"scratch", "pl", "zh"}
    assert set(numbers["ranks"]) == {"2", "8"}
    assert all(is_untouched(found) for found in numbers["untouched"].values())
    assert all(found["neighbour_rows_changed"] for found in numbers["untouched"].values())
    steps = numbers["training_times"]
    assert steps["E7"]["steps"] == steps["E8"]["steps"] == steps["E9"]["steps"]
    text = (run / "README.md").read_text(encoding="utf-8")
    assert "…" not in text
    _check_times(run)
    _check_lineage(run, numbers["nearest"]["da"])


def _check_times(run: Path) -> None:
    """No test before the last choice."""
    choices = json.loads((run / "choices.json").read_bytes())
    last = max(choice["chosen"] for choice in choices.values())
    records = [json.loads(path.read_bytes()) for path in (run / "cells").glob("test-*.json")]
    assert min(record["finished"] for record in records) >= last


def _check_lineage(run: Path, nearest: str) -> None:
    """Every adapter is in the run's registry, sound, with the parent that was the nearest."""
    registry = FileRegistry(run / "registry.json")
    assert [f for f in audit(places=Places((registry,))) if f.severity == "error"] == []
    methods = [block.method for versions in registry.adapters.values() for block in versions.values()]
    assert {method: methods.count(method) for method in methods} == {
        "lora": 2 + 1 + 4,  # E4, a rank, E7 at two rates with two seeds
        "warm-start": 4 + 2,  # E8, and two from the other base language
        "expert-pair": 4,
    }
    pair = next(run.glob("trained/e9-da-*seed-2"))
    (parent,) = [p for p in Artifact.open(pair).manifest.parents if p.role == "expert"]
    assert parent.name.startswith(f"reproduction/e4-{nearest}-")


@pytest.mark.slow
def test_a_cell_that_fails_is_reported_and_what_depends_on_it_is_named(run: Run, tmp_path: Path) -> None:
    text = little(tmp_path).read_text().replace('["pl", "zh"]', '["fr"]').replace("pl = 16", "fr = 16")
    (tmp_path / "french.toml").write_text(text.replace('language = "pl"', 'language = "fr"'))
    done = run("reproduce", "lora-whisper", "--settings", "french.toml", "--out", "run", "--tables", "3")
    assert done.code == 1
    assert "failed: speech/fr: no corpus in language 'fr': choose one of" in done.err
    assert "not run: test/E1/fr: needs speech/fr, choice:E2, choice:E3, choice:E4\n" in done.err
    last = done.err.splitlines()[-1]
    assert last.startswith("error: failed cells: 1, with ")
    assert "the first is speech/fr" in last
    assert "not measured" in (tmp_path / "run" / "README.md").read_text()


def test_when_time_is_up_no_cell_is_begun_and_the_report_has_gaps(run: Run, tmp_path: Path) -> None:
    done = run("reproduce", "lora-whisper", "--out", "run", "--minutes", "0", "--json")
    assert done.code == 0
    cells = len(cells_of(read(), tuple(TABLES), Known()))
    assert f"time is up: {cells} cells left; the same command resumes\n" in done.err
    assert len(done.json["gaps"]) == cells
    assert run("reproduce", "lora-whisper", "--out", "run", "--report-only").out == "run/README.md\n"


def test_a_folder_where_another_run_works_is_left_alone(run: Run, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    little(tmp_path).rename(tmp_path / "run" / "settings.toml")
    with FileLock(tmp_path / "run" / "lock"):
        done = run("reproduce", "lora-whisper", "--out", "run", "--settings", "run/settings.toml")
    assert done.code == 1
    assert done.err == "error: run: another run works there; wait, or choose another --out\n"


def test_a_report_beside_a_running_run_writes_the_report_alone(run: Run, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    little(tmp_path).rename(tmp_path / "run" / "settings.toml")
    with FileLock(tmp_path / "run" / "lock"):
        done = run("reproduce", "lora-whisper", "--out", "run", "--report-only")
    assert done.code == 0
    found = {path.name for path in (tmp_path / "run").iterdir() if path.suffix != ".svg"}
    assert found == {"settings.toml", "lock", "README.md", "results.json"}


@pytest.mark.parametrize("name", ["run.json", "choices.json"])
@pytest.mark.parametrize("content", [b"{", b"\xff", b"[]", b'{"starts": [{}], "E2": 1}'])
def test_a_damaged_file_of_a_run_is_named_in_one_line(
    run: Run, tmp_path: Path, name: str, content: bytes
) -> None:
    (tmp_path / "run").mkdir()
    little(tmp_path).rename(tmp_path / "run" / "settings.toml")
    (tmp_path / "run" / name).write_bytes(content)
    words = ["reproduce", "lora-whisper", "--settings", "run/settings.toml", "--out", "run", "--minutes", "0"]
    done = run(*words)
    assert done.code == 1
    assert done.err.splitlines()[-1].startswith(f"error: run/{name}: not a record of ")
    assert "Traceback" not in done.err
    assert (tmp_path / "run" / name).read_bytes() == content


def test_settings_that_are_no_text_are_named_in_one_line(run: Run, tmp_path: Path) -> None:
    (tmp_path / "own.toml").write_bytes(MINI.replace("quarter", "Vi\xe9rtel").encode("latin-1"))
    done = run("reproduce", "lora-whisper", "--settings", "own.toml", "--out", "run")
    assert done.code == 1
    assert done.err.startswith("error: own.toml: not TOML: ")
    assert done.err.count("\n") == 1


@pytest.fixture
def speech(tmp_path: Path) -> Dataset:
    """Six clips."""
    rows: list[dict[str, Any]] = []
    for i in range(6):
        write_speech(tmp_path / f"{i}.wav", seconds=0.6 + 0.2 * i, seed=i)
        rows.append({"file_name": f"{i}.wav", "text": "en to tre"})
    (tmp_path / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return read_dataset(tmp_path)


def test_new_adapters_in_other_rows_leave_every_bit_of_base_language_rows(
    base: BaseModel, adapters: list[Artifact], speech: Dataset
) -> None:
    danish, polish, japanese = (load_adapter(base, artifact) for artifact in adapters)
    new = [Neighbour("a", danish, "da", speech), Neighbour("b", japanese, "ja", speech)]
    found = compare_beside(base, polish, "pl", speech, new, utterances=5, beams=2)
    assert is_untouched(found)
    assert found["utterances"] == found["neighbour_rows"] == 5
    assert found["neighbour_rows_changed"] > 0
    assert found["largest_logit_difference"] == 0.0
