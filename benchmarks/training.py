"""Training against the plain recipe: stock collator, PEFT's LoRA, Seq2SeqTrainer with its defaults.

    OMP_NUM_THREADS=1 python benchmarks/training.py --data runs/catalogue/speech/spoken-numbers-da/train
    python benchmarks/training.py --device cuda --shape small --precision bfloat16

Same model, start, rows in the same order, batch size, optimiser and learning rates; features are computed
before the clock starts, on both sides. The plain recipe pads every clip to the base model's chunk, as
transformers' own examples do; ours does so in `chunk`, and in `batch` to the longest clip of the batch, as
the embedded base model was trained. Every run is a process of its own, in turns; losses are compared step
by step. With `--shape small` model and data are random, of whisper-small's size.
"""

from __future__ import annotations

import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from pages import page
from peft import LoraConfig, get_peft_model
from random_whisper import END, LANGUAGE, NO_TIMESTAMPS, START, TASK, random_base
from timing import machine
from torch.utils.data import Dataset, Sampler
from transformers import PrinterCallback, Seq2SeqTrainer, TrainerCallback

from adapter_hub.data.dataset import read_dataset
from adapter_hub.model.base_model import load_base_model
from adapter_hub.model.quiet import quiet
from adapter_hub.trainers.data.examples import IGNORED, Example, pad
from adapter_hub.trainers.data.preparing import prepare
from adapter_hub.trainers.data.rows import RowRules
from adapter_hub.trainers.data.sources import Source
from adapter_hub.trainers.loop.batches import LengthGroupedSampler
from adapter_hub.trainers.loop.callbacks import StopOnInterrupt
from adapter_hub.trainers.loop.fitting import TrainingData, make_trainer, speed_up
from adapter_hub.trainers.loop.process_group import ProcessGroup
from adapter_hub.trainers.loop.trainer import Arguments
from adapter_hub.trainers.methods.trainable import trainable_lora
from adapter_hub.trainers.recipe_tables import PAPER_MODULES, TrainingTable

WARM_UP = 3  # steps before the clock starts
BATCH, SEED = 16, 1
RATES = {"mini": (8, 2e-3), "small": (32, 1e-4)}  # rank, peak learning rate
TOKENS = 60  # of a random text
KINDS = ("plain", "chunk", "batch")


class Clock(TrainerCallback):
    """Seconds of every step, of this process' main thread and on the wall."""

    def __init__(self) -> None:
        self.cpu: list[float] = []
        self.wall: list[float] = []
        self._cpu = self._wall = 0.0

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        self._cpu, self._wall = time.thread_time(), time.perf_counter()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.cpu.append(time.thread_time() - self._cpu)
        self.wall.append(time.perf_counter() - self._wall)


class StockRows(Dataset[dict[str, Any]]):
    """What `map` leaves in a data set: features of the whole chunk, and labels."""

    def __init__(self, examples: Sequence[Example], frames: int) -> None:
        self.rows = [
            {
                "input_features": pad([example], frames)[0],
                "labels": list(example.tokens),
                "prompt": example.prompt,
            }
            for example in examples
        ]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.rows[index]


class StockCollator:
    """The collator of transformers' examples; the prompt does not count, so that losses can be compared."""

    def __init__(self, end: int) -> None:
        self.end = end

    def __call__(self, rows: Sequence[dict[str, Any]]) -> dict[str, torch.Tensor]:
        features = torch.from_numpy(np.stack([row["input_features"] for row in rows]))
        longest = max(len(row["labels"]) for row in rows)
        ids = torch.full((len(rows), longest), self.end)
        labels = torch.full((len(rows), longest), IGNORED)
        for i, row in enumerate(rows):
            tokens = torch.tensor(row["labels"])
            ids[i, : len(tokens)] = tokens
            labels[i, row["prompt"] : len(tokens)] = tokens[row["prompt"] :]
        return {"input_features": features, "decoder_input_ids": ids[:, :-1], "labels": labels[:, 1:]}


class InOrder(Seq2SeqTrainer):
    """Sees the rows in the order that ours does."""

    order: Sampler[int]

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler[int]:
        return self.order


def random_example(name: str, rng: np.random.Generator) -> Example:
    features = rng.standard_normal((80, int(rng.integers(300, 3000)))).astype(np.float16)
    tokens = (START, LANGUAGE, TASK, NO_TIMESTAMPS, *map(int, rng.integers(0, END, TOKENS)), END)
    return Example(name, features, -1.5, tokens, features.shape[1] / 100, 4, "en")


def material(shape: str, data: Path, rows: int) -> tuple[Any, TrainingData, int]:
    """Return a model, what it trains on, and the frames of its chunk."""
    rank, _ = RATES[shape]
    if shape == "mini":
        base = load_base_model(device="cpu")
        examples = prepare([Source(read_dataset(data))], base, RowRules(language="da")).examples[:rows]
        model, end = base.model, base.processor.tokenizer.convert_tokens_to_ids("<|endoftext|>")
    else:
        model, end = random_base(shape).model, END
        rng = np.random.default_rng(SEED)
        examples = tuple(random_example(str(i), rng) for i in range(rows))
    torch.manual_seed(SEED)
    config = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=list(PAPER_MODULES))
    return (
        get_peft_model(model, config),
        TrainingData(examples, (), end),
        model.config.max_source_positions * 2,
    )


def plain(model: Any, read: TrainingData, frames: int, settings: TrainingTable, work: Path) -> Any:
    assert settings.steps is not None
    trainer = InOrder(
        model=model,
        args=Arguments(  # transformers' own, but for one GPU: ours takes no more
            output_dir=str(work),
            per_device_train_batch_size=settings.batch_size,
            max_steps=settings.steps,
            learning_rate=settings.peak_learning_rate,
            warmup_steps=round(settings.steps * settings.warmup_share),
            logging_steps=1,
            save_strategy="no",
            bf16=settings.precision == "bfloat16",
            remove_unused_columns=False,
            label_names=["labels"],
            report_to="none",
            disable_tqdm=True,
            use_cpu=model.device.type == "cpu",
        ),
        train_dataset=StockRows(read.train, frames),
        data_collator=StockCollator(read.end),
    )
    trainer.order = LengthGroupedSampler(read.train, settings.batch_size, settings.random_seed)
    return trainer


def ours(model: Any, read: TrainingData, settings: TrainingTable, work: Path) -> Any:
    trainable = trainable_lora(model)
    speed_up(trainable, settings)
    trainer = make_trainer(settings, trainable, read, work, processes=ProcessGroup(), stop=StopOnInterrupt())
    trainer.args.logging_steps = 1
    return trainer


def run(kind: str, shape: str, data: Path, steps: int, device: str, precision: str) -> dict[str, Any]:
    """Train, and return seconds, losses and memory."""
    model, read, frames = material(shape, data, steps * BATCH)
    model.to(device)
    settings = TrainingTable(
        steps=steps,
        batch_size=BATCH,
        peak_learning_rate=RATES[shape][1],
        audio_length="batch" if kind == "batch" else "chunk",
        precision=precision,
        random_seed=SEED,
    )
    clock = Clock()
    with tempfile.TemporaryDirectory() as work:
        if kind == "plain":
            trainer = plain(model, read, frames, settings, Path(work))
        else:
            trainer = ours(model, read, settings, Path(work))
        trainer.remove_callback(PrinterCallback)
        trainer.add_callback(clock)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        trainer.train()
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "kind": kind,
        "cpu": clock.cpu[WARM_UP:],
        "wall": clock.wall[WARM_UP:],
        "losses": [row["loss"] for row in trainer.state.log_history if "loss" in row],
        "megabytes": round((after - before) / 1024),
        "gpu_megabytes": round(torch.cuda.max_memory_allocated() / 2**20) if device == "cuda" else None,
    }


def in_process(kind: str, arguments: Sequence[str]) -> dict[str, Any]:
    command = [sys.executable, __file__, "--only", kind, *arguments]
    found: dict[str, Any] = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)
    return found


def compared(rows: dict[str, list[dict[str, Any]]], kind: str, clock: str) -> dict[str, Any]:
    """Return how one way of training stands to the plain recipe."""
    seconds = {name: [statistics.fmean(run[clock]) for run in rows[name]] for name in ("plain", kind)}
    turns = [theirs / mine for theirs, mine in zip(seconds["plain"], seconds[kind], strict=True)]
    theirs, mine = (np.array(rows[name][0]["losses"]) for name in ("plain", kind))
    return {
        "kind": kind,
        "ratio": round(statistics.median(seconds["plain"]) / statistics.median(seconds[kind]), 3),
        "low": round(min(turns), 3),
        "high": round(max(turns), 3),
        "steps_a_second": round(1 / statistics.median(seconds[kind]), 3),
        "plain_steps_a_second": round(1 / statistics.median(seconds["plain"]), 3),
        "largest_loss_difference": float(f"{np.abs(theirs - mine).max():.2g}"),
        "mean_loss_difference": float(f"{np.abs(theirs - mine).mean():.2g}"),
        "first_and_last_loss": [round(float(np.mean(part)), 4) for part in (mine[:5], mine[-5:])],
        "plain_first_and_last_loss": [round(float(np.mean(part)), 4) for part in (theirs[:5], theirs[-5:])],
        "megabytes": max(run["gpu_megabytes"] or run["megabytes"] for run in rows[kind]),
        "plain_megabytes": max(run["gpu_megabytes"] or run["megabytes"] for run in rows["plain"]),
    }


COLUMNS = {
    "model": "model",
    "device": "device",
    "precision": "arithmetic",
    "kind": "padded to",
    "spread": "plain / ours (low - high)",
    "steps_a_second": "ours, steps/s",
    "plain_steps_a_second": "plain, steps/s",
    "megabytes": "ours, MB",
    "plain_megabytes": "plain, MB",
    "loss": "loss, ours",
    "plain_loss": "loss, plain",
    "largest_loss_difference": "largest difference",
    "steps": "steps",
    "turns": "turns",
}


def as_table(results: Sequence[dict[str, Any]]) -> str:
    lines = [f"| {' | '.join(COLUMNS.values())} |", "|---|---|---|---|---|" + "--:|" * (len(COLUMNS) - 5)]
    for row in results:
        told = row | {
            "spread": f"{row['ratio']} ({row['low']} - {row['high']})",
            "loss": " to ".join(map(str, row["first_and_last_loss"])),
            "plain_loss": " to ".join(map(str, row["plain_first_and_last_loss"])),
        }
        lines.append(f"| {' | '.join(str(told[name]) for name in COLUMNS)} |")
    return "\n".join(lines)


COMMAND = (
    "OMP_NUM_THREADS=1 python benchmarks/training.py --data runs/catalogue/speech/spoken-numbers-da/train"
)
ABOUT = """
The same adapter trained by this library and by the plain recipe (stock collator, PEFT's LoRA,
Seq2SeqTrainer with its defaults) from the same start on the same rows, each run a process of its own, in
turns. `plain / ours` is the plain recipe's time over this library's: above 1 this library is faster.
"""
NOTE = """
The plain recipe pads every clip to the base model's chunk; so does ours in `chunk`, and the losses agree to
rounding. In `batch` clips end where the longest of their batch ends, which is another input: the losses are
close, not equal. MB is what the training loop adds to the peak of the process (on a GPU: the peak of what
torch allocated). Seconds are of the training thread on a CPU, on the wall on a GPU.
"""


@click.command()
@click.option("--data", type=click.Path(path_type=Path),
              default=Path("runs/catalogue/speech/spoken-numbers-da/train"), show_default=True)  # fmt: skip
@click.option("--shape", type=click.Choice(list(RATES)), default="mini", show_default=True)
@click.option("--device", type=click.Choice(["cpu", "cuda"]), default="cpu", show_default=True)
@click.option("--precision", type=click.Choice(["float32", "bfloat16"]), default="float32", show_default=True)
@click.option("--steps", default=30, show_default=True, help="Of the optimiser, in each turn.")
@click.option("--turns", default=3, show_default=True)
@click.option("--only", type=click.Choice(KINDS), help="Train once and print what was measured.")
@click.option("--out", type=click.Path(path_type=Path), default=Path("benchmarks/results/training"))
def main(turns: int, only: str | None, out: Path, **how: Any) -> None:
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    if only is not None:
        warnings.filterwarnings("ignore", message="`is_gradient_checkpointing`", category=FutureWarning)
        with quiet():
            print(json.dumps(run(only, **how)))
        return
    arguments = [word for name, value in how.items() for word in (f"--{name}", str(value))]
    rows: dict[str, list[dict[str, Any]]] = {kind: [] for kind in KINDS}
    for turn in range(turns):
        for kind in KINDS:
            rows[kind].append(in_process(kind, arguments))
            print(turn + 1, kind, f"{statistics.fmean(rows[kind][-1]['wall']):.3f} s a step", flush=True)
    on_gpu = how["device"] == "cuda"
    about = {
        "model": "whisper-mini" if how["shape"] == "mini" else f"whisper-{how['shape']}, random",
        "turns": turns,
        "batch": BATCH,
        "rank": RATES[how["shape"]][0],
        "machine": torch.cuda.get_device_name() if on_gpu else machine("SDPA"),
    } | {name: how[name] for name in ("device", "precision", "steps")}
    kept = out.with_suffix(".json")
    results = json.loads(kept.read_text()) if kept.is_file() else []
    results = [row for row in results if any(row[k] != about[k] for k in ("model", "device", "precision"))]
    results += [about | compared(rows, kind, "wall" if on_gpu else "cpu") for kind in KINDS[1:]]
    kept.write_text(json.dumps(results, indent=2) + "\n")
    machines = sorted({f"{row['machine']}; batch {row['batch']}, rank {row['rank']}" for row in results})
    notes = "\n".join(f"{line}." for line in machines)
    text = page("Training speed", ABOUT, COMMAND, as_table(results).strip(), NOTE.strip(), notes)
    out.with_suffix(".md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
