"""How much data, time and memory an adapter of a real Whisper takes, on a CPU.

    python benchmarks/how_much.py --base-model FOLDER --data it-prompts it --data english-digits en

Every row is `adapter-hub train` on a sample of a data set (`train` and `test`, each with metadata.jsonl), in
a process of its own, then `adapter-hub evaluate` on a sample of its test split, as a user runs them. Samples
are nested: the smaller is part of the larger. A run that was interrupted goes on; the page is written at the
end. Of the first data set all cases are measured, of others the smallest. What the length of the inputs
costs is measured by `input_length.py`.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from pages import page
from timing import machine

COMMAND = "python benchmarks/how_much.py --base-model FOLDER --data it-prompts it --data english-digits en"
ABOUT = """
LoRAs of the real Whisper base, trained and evaluated by the commands of the README on one thread: Italian
telephone prompts of one speaker, English digits of six. CPU seconds and GB (peak of the process) are of
`adapter-hub train`, start-up and the base model (0.3 GB) included; WER is on the same 40 test clips of each
data set, greedy, with its 95 % interval: of one speaker it says nothing of other people. An input ends where
the longest clip of its batch ends (`audio_length = "batch"`); decoding always has 30 seconds.
"""
Row = dict[str, Any]
RECIPE = """\
[adapter]
name = "how-much/{name}"
version = "1.0.0"
method = "lora"
language = "{language}"
license = "CC-BY-SA-3.0"

[base_model]
id = "{base_model}"

[data]
train = "{train}"
license = "CC-BY-SA-3.0"

[lora]
rank = {rank}

[training]
epochs = 5
batch_size = {batch_size}
peak_learning_rate = 5e-4
audio_length = "{audio_length}"
"""
MEASURED = """
import json, resource, sys
from adapter_hub.cli import main
code = main(sys.argv[2:])
used = resource.getrusage(resource.RUSAGE_SELF)
gb = used.ru_maxrss * 1024 / 1e9
record = {"cpu_seconds": round(used.ru_utime + used.ru_stime), "gb": round(gb, 1)}
open(sys.argv[1], "w").write(json.dumps(record))
sys.exit(code)
"""


@dataclass(frozen=True)
class Case:
    """One training."""

    clips: int
    rank: int = 16
    batch_size: int = 8
    audio_length: str = "batch"

    @property
    def name(self) -> str:
        """A name for files."""
        return f"{self.audio_length}-{self.clips}-rank-{self.rank}-of-{self.batch_size}"


TEST_CLIPS = 40
SMALL = Case(33)
CASES = (SMALL, Case(66), Case(33, rank=64), Case(33, batch_size=2))


def sample(data: Path, clips: int, folder: Path) -> Path:
    """Write the first rows of a fixed random order as a split of its own."""
    lines = (data / "metadata.jsonl").read_text("utf-8").splitlines()
    random.Random(1).shuffle(lines)
    folder.mkdir(parents=True, exist_ok=True)
    for line in lines[:clips]:
        name = json.loads(line)["file_name"]
        (folder / name).write_bytes((data / name).read_bytes())
    (folder / "metadata.jsonl").write_text("".join(f"{line}\n" for line in lines[:clips]), "utf-8")
    return folder


def run(record: Path, *words: str) -> dict[str, Any]:
    """Run a command once, and return what it took."""
    if not record.is_file():
        one = os.environ | {"OMP_NUM_THREADS": "1"}
        subprocess.run([sys.executable, "-c", MEASURED, str(record), *words], check=True, env=one)
    found: dict[str, Any] = json.loads(record.read_text("utf-8"))
    return found


def word_error_rate(work: Path, what: str, report: Path, data: Path, *words: str) -> dict[str, Any]:
    """Evaluate on the test split; return the rate and its interval in per cent, and the clips."""
    options = ("--data", str(data), "--beams", "1", "--batch-size", "8", "--out", str(report), *words)
    run(work / f"{report.stem}.evaluated", "evaluate", what, *options)
    found = json.loads(report.read_text("utf-8"))
    words_counted = found["words"]
    errors = sum(words_counted[kind] for kind in ("substitutions", "deletions", "insertions"))
    total = sum(words_counted[kind] for kind in ("substitutions", "deletions", "hits"))
    return {
        "wer": round(100 * errors / total, 1),
        "interval": [round(100 * found["interval"][end], 1) for end in ("low", "high")],
    }


def measured(case: Case, base_model: Path, data: Path, language: str, work: Path) -> Row:
    """Train and evaluate one case; `work` has the test split."""
    train = sample(data / "train", case.clips, work / f"train-{case.clips}")
    recipe, out = work / f"{case.name}.toml", work / case.name
    recipe.write_text(
        RECIPE.format(
            name=case.name,
            language=language,
            base_model=base_model.resolve(),
            train=train.resolve(),
            rank=case.rank,
            batch_size=case.batch_size,
            audio_length=case.audio_length,
        )
    )
    took = run(work / f"{case.name}.trained", "train", str(recipe), "--out", str(out))
    manifest = json.loads((out / "adapter.json").read_text("utf-8"))
    return {
        "data": data.name,
        "clips": case.clips,
        "minutes": round(60 * manifest["data"][0]["hours"], 1),
        "rank": case.rank,
        "batch_size": case.batch_size,
        "audio_length": case.audio_length,
        "steps": manifest["training"]["steps"],
        "parameters": sum(section["parameters"] for section in manifest["lora"]),
        **took,
        **word_error_rate(work, str(out.resolve()), work / f"{case.name}.json", work),
    }


def rows_of(base_model: Path, data: Path, language: str, cases: Sequence[Case], work: Path) -> Iterator[Row]:
    """Yield the base model's rate on a data set, then every case."""
    sample(data / "test", TEST_CLIPS, work / "test")
    options = ("--language", language, "--base-model", str(base_model))
    yield {
        "data": data.name,
        **word_error_rate(work, "base-model", work / "base-model.json", work, *options),
    }
    for case in cases:
        yield measured(case, base_model, data, language, work)


def line(row: Row) -> str:
    """Return a row of the page's table."""
    keys = ("data", "clips", "minutes", "audio_length", "rank", "parameters", "batch_size", "steps")
    cells = [row.get(key, "") for key in (*keys, "cpu_seconds", "gb", "wer")]
    low, high = row["interval"]
    return f"| {' | '.join(map(str, cells))} | {low} - {high} |"


@click.command()
@click.option("--base-model", type=click.Path(path_type=Path, exists=True), required=True)
@click.option("--data", type=(click.Path(path_type=Path, exists=True), str), multiple=True, required=True)
@click.option("--work", type=click.Path(path_type=Path), default=Path("runs/how-much"))
@click.option("--out", type=click.Path(path_type=Path), default=Path("benchmarks/results/how_much"))
def main(base_model: Path, data: Sequence[tuple[Path, str]], work: Path, out: Path) -> None:
    rows: list[Row] = []
    for number, (folder, language) in enumerate(data):
        cases = (SMALL,) if number else CASES
        for row in rows_of(base_model.resolve(), folder, language, cases, work / folder.name):
            print(row, flush=True)
            rows.append(row)
    out.with_suffix(".json").write_text(json.dumps(rows, indent=1) + "\n", "utf-8")
    heads = "data, clips, minutes, padded to, rank, parameters, batch, steps, CPU s, GB, WER %, interval"
    table = "\n".join([f"| {heads.replace(', ', ' | ')} |", "|---" * 12 + "|", *map(line, rows)])
    text = page("How much data, time and memory", ABOUT, COMMAND, table, machine(about="float32"))
    out.with_suffix(".md").write_text(text, "utf-8")


if __name__ == "__main__":
    main()
