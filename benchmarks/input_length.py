"""What the length of encoder input in a training does to a real Whisper: time, and errors decoded as usual.

    python benchmarks/input_length.py --base-model FOLDER --data english-digits en

The same few steps on the same clips, padded to the longest clip of a batch, to 15 seconds at least, and to
Whisper's 30 seconds; each is `adapter-hub train` in a process of its own, then `adapter-hub evaluate`, which
always has 30 seconds. A run that was interrupted goes on.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
from how_much import run, sample, word_error_rate
from pages import page
from timing import machine

COMMAND = "python benchmarks/input_length.py --base-model FOLDER --data english-digits en"
ABOUT = """
LoRAs of the real Whisper base from the same {steps} steps of {batch} clips (rank 16, rate 1e-3, one random
seed, one thread), which differ in the length that the encoder is given in training. CPU seconds and GB (peak
of the process) are of `adapter-hub train`, start-up included; WER is on {clips} clips of the test split,
greedy, decoded as always with 30 seconds, with its 95 % interval. English digits of six people, who are in
training and test.
"""
STEPS, BATCH, TRAIN_CLIPS, TEST_CLIPS = 12, 2, 24, 16
LENGTHS = {
    "longest clip of the batch": 'audio_length = "batch"',
    "15 s at least": 'audio_length = "batch"\ninput_seconds = 15.0',
    "30 s": 'audio_length = "chunk"',
}
RECIPE = """\
[adapter]
name = "input-length/{name}"
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
rank = 16

[training]
steps = {steps}
batch_size = {batch}
peak_learning_rate = 1e-3
{length}
"""
Row = dict[str, Any]


def measured(length: str, base_model: Path, data: Path, language: str, work: Path) -> Row:
    """Train and evaluate at one length."""
    name = f"length-{list(LENGTHS).index(length)}"
    recipe, out = work / f"{name}.toml", work / name
    recipe.write_text(
        RECIPE.format(
            name=name,
            language=language,
            base_model=base_model,
            train=sample(data / "train", TRAIN_CLIPS, work / "train").resolve(),
            steps=STEPS,
            batch=BATCH,
            length=LENGTHS[length],
        )
    )
    took = run(work / f"{name}.trained", "train", str(recipe), "--out", str(out))
    manifest = json.loads((out / "adapter.json").read_text("utf-8"))
    return {
        "data": data.name,
        "padded to": length,
        "input_seconds": manifest["input_seconds"],
        **took,
        **word_error_rate(work, str(out.resolve()), work / f"{name}.json", work / "test"),
    }


def rows_of(base_model: Path, data: Path, language: str, work: Path) -> list[Row]:
    """Return the base model's rate on a data set, then that of every length."""
    sample(data / "test", TEST_CLIPS, work / "test")
    options = ("--language", language, "--base-model", str(base_model))
    alone = word_error_rate(work, "base-model", work / "base-model.json", work / "test", *options)
    return [
        {"data": data.name, "padded to": "not trained", **alone},
        *(measured(length, base_model, data, language, work) for length in LENGTHS),
    ]


def line(row: Row) -> str:
    """Return a row of the page's table."""
    cells = [row.get(key, "") for key in ("data", "padded to", "input_seconds", "cpu_seconds", "gb", "wer")]
    low, high = row["interval"]
    return f"| {' | '.join(map(str, cells))} | {low} - {high} |"


@click.command()
@click.option("--base-model", type=click.Path(path_type=Path, exists=True), required=True)
@click.option("--data", type=(click.Path(path_type=Path, exists=True), str), multiple=True, required=True)
@click.option("--work", type=click.Path(path_type=Path), default=Path("runs/input-length"))
@click.option("--out", type=click.Path(path_type=Path), default=Path("benchmarks/results/input_length"))
def main(base_model: Path, data: Sequence[tuple[Path, str]], work: Path, out: Path) -> None:
    rows: list[Row] = []
    for folder, language in sorted(data):
        rows += rows_of(base_model.resolve(), folder, language, work / folder.name)
        print(rows[-4:], flush=True)
    out.with_suffix(".json").write_text(json.dumps(rows, indent=1) + "\n", "utf-8")
    heads = ["data", "padded to", "longest input s", "CPU s", "GB", "WER %", "interval"]
    table = "\n".join([f"| {' | '.join(heads)} |", f"|---|---|{'--:|' * (len(heads) - 2)}", *map(line, rows)])
    about = ABOUT.format(steps=STEPS, batch=BATCH, clips=TEST_CLIPS)
    text = page("Length of the encoder's input in training", about, COMMAND, table, machine(about="float32"))
    out.with_suffix(".md").write_text(text, "utf-8")


if __name__ == "__main__":
    main()
