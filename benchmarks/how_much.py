"""How much data, time and memory an adapter of a real Whisper takes, on a CPU.

    python benchmarks/how_much.py --base-model FOLDER --data it-prompts --work runs/how-much

Every row is `adapter-hub train` on a sample of a data set (`train` and `test`, each with metadata.jsonl), in
a process of its own, then `adapter-hub evaluate` on the whole test split, as a user runs them. Samples are
nested: the smaller is part of the larger. A run that was interrupted goes on; the page is written at the end.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from pages import page
from timing import machine

COMMAND = "python benchmarks/how_much.py --base-model FOLDER --data it-prompts --work runs/how-much"
ABOUT = """
LoRAs of the real Whisper base on Italian telephone prompts (one speaker, short clips), trained and evaluated
by the commands of the README on one thread. CPU seconds and GB (peak of the process) are of
`adapter-hub train`, start-up and the base model (0.3 GB) included; WER is on the same 79 test clips, greedy,
with its 95 % interval, resampled over utterances: there is one speaker, so it says nothing of other people.
`batch` ends an input where the longest clip of its batch ends, `chunk` pads it to Whisper's 30 seconds;
decoding always has 30 seconds.
"""
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


CASES = (
    Case(33),
    Case(66),
    Case(132),
    Case(66, rank=4),
    Case(66, rank=64),
    Case(66, batch_size=2),
    Case(66, batch_size=16),
    Case(66, audio_length="chunk"),
)


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


def measured(case: Case, base_model: Path, data: Path, language: str, work: Path) -> dict[str, Any]:
    """Train and evaluate one case."""
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
        "clips": case.clips,
        "minutes": round(60 * manifest["data"][0]["hours"], 1),
        "rank": case.rank,
        "batch_size": case.batch_size,
        "audio_length": case.audio_length,
        "steps": manifest["training"]["steps"],
        "parameters": sum(section["parameters"] for section in manifest["lora"]),
        **took,
        **word_error_rate(work, str(out.resolve()), work / f"{case.name}.json", data),
    }


def table(rows: list[dict[str, Any]], before: dict[str, Any]) -> str:
    """Return the page's table."""
    lines = [
        "| clips | minutes | padded to | rank | parameters | batch | steps | CPU s | GB | WER % | interval |",
        "|--:|--:|---|--:|--:|--:|--:|--:|--:|--:|---|",
        f"| 0 | | | | | | | | | {before['wer']} | {before['interval'][0]} - {before['interval'][1]} |",
    ]
    lines += [
        f"| {row['clips']} | {row['minutes']} | {row['audio_length']} | {row['rank']} "
        f"| {row['parameters'] / 1e6:.1f} M | {row['batch_size']} | {row['steps']} | {row['cpu_seconds']} "
        f"| {row['gb']} | {row['wer']} | {row['interval'][0]} - {row['interval'][1]} |"
        for row in rows
    ]
    return "\n".join(lines)


@click.command()
@click.option("--base-model", type=click.Path(path_type=Path, exists=True), required=True)
@click.option("--data", type=click.Path(path_type=Path, exists=True), required=True)
@click.option("--language", default="it")
@click.option("--work", type=click.Path(path_type=Path), required=True)
@click.option("--out", type=click.Path(path_type=Path), default=Path("benchmarks/results/how_much"))
def main(base_model: Path, data: Path, language: str, work: Path, out: Path) -> None:
    work.mkdir(parents=True, exist_ok=True)
    model = ("--base-model", str(base_model.resolve()))
    report = work / "base-model.json"
    before = word_error_rate(work, "base-model", report, data, "--language", language, *model)
    rows = []
    for case in CASES:
        rows.append(measured(case, base_model, data, language, work))
        print(rows[-1], flush=True)
    outcome = {"base_model": before, "adapters": rows}
    out.with_suffix(".json").write_text(json.dumps(outcome, indent=1) + "\n", "utf-8")
    text = page(
        "How much data, time and memory", ABOUT, COMMAND, table(rows, before), machine(about="float32")
    )
    out.with_suffix(".md").write_text(text, "utf-8")


if __name__ == "__main__":
    main()
