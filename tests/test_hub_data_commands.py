"""Training, checking and evaluating on data sets of the Hub, and processes that are killed meanwhile."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from command_line import Run
from hub_speech import downloads, folder_of_rows, parquet, publish_data, rows_of_speech
from loopback_hub import Entry, LoopbackHub
from small_training import places, recipe

from adapter_hub.errors import InvalidInputError
from adapter_hub.trainers.recipe import read_recipe
from adapter_hub.trainers.training import train

NAME = "alice/fleurs"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LoopbackHub]:
    with LoopbackHub(tmp_path / "hub") as running:
        for name, value in running.environment().items():
            if name in ("HF_ENDPOINT", "HF_TOKEN"):
                monkeypatch.setenv(name, value)
        yield running


@pytest.fixture
def commit(hub: LoopbackHub) -> str:
    return publish_data(
        hub,
        NAME,
        {
            "parquet-data/da_dk/train-00000-of-00002.parquet": parquet(rows_of_speech(5)),
            "parquet-data/da_dk/train-00001-of-00002.parquet": parquet(rows_of_speech(3, first=5)),
            "parquet-data/da_dk/validation-00000-of-00001.parquet": parquet(rows_of_speech(2, first=20)),
            "parquet-data/pl_pl/train-00000-of-00001.parquet": parquet(rows_of_speech(4, first=30)),
        },
    )


def hub_recipe(folder: Path, base_folder: Path, commit: str) -> Path:
    path = recipe(folder, base_folder)
    text = path.read_text().replace('train = "data/train"\n', "").replace('dev = "data/dev"\n', "")
    source = f'dataset = "{NAME}"\nrevision = "{commit}"\nlicense = "CC-BY-4.0"\n'
    path.write_text(
        text
        + f'[[data.train]]\n{source}config = "da_dk"\nsplit = "train"\n'
        + f'[[data.train]]\n{source}config = "pl_pl"\nsplit = "train"\nlanguage = "pl"\nweight = 0.5\n'
        + f'[[data.dev]]\n{source}config = "da_dk"\nsplit = "validation"\n'
    )
    return path


def test_a_recipe_trains_on_the_hub_and_a_second_time_without_it(
    tmp_path: Path, hub: LoopbackHub, commit: str, base_folder: Path
) -> None:
    path, said = hub_recipe(tmp_path, base_folder, commit), []
    first = train(path, tmp_path / "one", tell=said.append, **places(tmp_path))
    danish, polish = first.manifest.data
    assert (danish.id, danish.revision, danish.split) == (f"{NAME}:da_dk", commit, "train")
    assert (danish.utterances, danish.license, polish.utterances) == (8, "CC-BY-4.0", 4)
    assert f"{NAME}:da_dk train: file 2 of 2" in said
    assert len(downloads(hub)) == 4
    asked = len(hub.log.entries())
    second = train(path, tmp_path / "two", **places(tmp_path))
    assert second.manifest.weights_digest == first.manifest.weights_digest
    assert len(hub.log.entries()) == asked


def test_data_check_looks_at_all_sources_of_the_recipe(
    tmp_path: Path, hub: LoopbackHub, commit: str, base_folder: Path, run: Run
) -> None:
    path = hub_recipe(tmp_path, base_folder, commit)
    found = run("data", "check", path, "--base-model", base_folder, "--json")
    assert found.code == 0
    splits = {split["split"]: split for split in found.json["splits"]}
    assert {name: split["usable"] for name, split in splits.items()} == {"train 1": 8, "train 2": 4, "dev": 2}
    assert splits["train 1"]["speakers"] == 3


def test_evaluate_reads_the_hub(
    tmp_path: Path, hub: LoopbackHub, commit: str, base_folder: Path, run: Run
) -> None:
    address = f"hf://datasets/{NAME}@{commit}"
    options = ("--base-model", base_folder, "--language", "da", "--beams", "1", "--json")
    remote = run(
        "evaluate", "base-model", "--data", address, "--config", "da_dk", "--split", "validation", *options
    )
    folder = folder_of_rows(tmp_path / "folder", rows_of_speech(2, first=20))
    local = run("evaluate", "base-model", "--data", folder, *options)
    assert remote.json["data_sha256"] == local.json["data_sha256"]
    assert (remote.json["data"], remote.json["split"]) == (f"{NAME}:da_dk", "validation")
    wrong = run("evaluate", "base-model", "--data", address, "--config", "da_dk", *options)
    assert wrong.code == 1
    assert "no split 'test'; there are train, validation" in wrong.err
    wrong = run("evaluate", "base-model", "--data", f"hf://datasets/{NAME}@main", *options)
    assert "expected a commit's 40 hexadecimal digits" in wrong.err


def test_a_recipe_with_a_branch_is_refused_with_the_way_to_the_commit(
    tmp_path: Path, base_folder: Path
) -> None:
    path = hub_recipe(tmp_path, base_folder, "refs/convert/parquet")
    with pytest.raises(InvalidInputError, match=r"data.train.*expected a commit's 40 .*git ls-remote"):
        read_recipe(path)


READER = """
import sys
from pathlib import Path
from adapter_hub.hub import RepoId
from adapter_hub.data.hub_dataset import HubSplit, read_hub_dataset
split = HubSplit(RepoId(sys.argv[1], "dataset"), sys.argv[2], "train", "da_dk")
print(len(read_hub_dataset(split, Path(sys.argv[3])).rows))
"""


@pytest.mark.slow
@pytest.mark.parametrize("phase", ["received", "answered"])
def test_a_reader_that_is_killed_goes_on_with_the_file_it_was_at(
    phase: str, tmp_path: Path, hub: LoopbackHub, commit: str
) -> None:
    command = [sys.executable, "-c", READER, NAME, commit, str(tmp_path / "cache")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)

    def kill(when: str, entry: Entry) -> None:
        if when == phase and entry.method == "GET" and entry.path.endswith("train-00001-of-00002.parquet"):
            process.send_signal(signal.SIGKILL)

    stop = hub.on_exchange(kill)
    out, _ = process.communicate(timeout=120)
    stop()
    hub.settle()
    assert (process.returncode, out) == (-signal.SIGKILL, b"")
    before = len(downloads(hub))
    again = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert again.stdout == "8\n"
    assert set(downloads(hub)[before:]) <= {"parquet-data/da_dk/train-00001-of-00002.parquet"}
    assert not list((tmp_path / "cache").rglob("*.parquet"))
    assert not list((tmp_path / "cache" / "datasets").glob("*/.tmp-*"))
