"""Peak memory of averages and extractions of full models, each in a process of its own.

    OMP_NUM_THREADS=1 python benchmarks/full_models.py --model FOLDER

Averages: two models of random weights of a given size, to show that memory does not grow with it. Extraction:
a Whisper in FOLDER and a copy of it with noise in every tensor, beside what it takes to load one model and
run the probe. Needs Linux, and free disk of three times the largest size.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import click
import torch
from pages import page

from adapter_hub import embedded
from adapter_hub.base_model.digest import WEIGHTS
from adapter_hub.trainers.averaging.tensor_streams import TensorSource, TensorWriter

ROWS, COLUMNS = 8192, 4096  # of a tensor: 134 MB in float32
PROGRAMS = {
    "nothing but imports": "",
    "average: mean": "average_models(parts, out=out)",
    "average: mean with the base model": "average_models(shares, out=out, base_model=first)",
    "one model loaded and probed": "probe_logits(load_base_model(first.resolve()))",
    "extract, rank 32": (
        "extract(first.resolve(), second, out, "
        "Identity('me/x', '1.0.0', (Language(tag='en', decode_language='en'),)), ExtractionOptions(rank=32))"
    ),
}
MEASURED = """
import json, sys, time
from pathlib import Path
from adapter_hub.decoding.probe import probe_logits
from adapter_hub.exchange.importing import Identity
from adapter_hub.formats.manifest import Language
from adapter_hub.model.base_model import load_base_model
from adapter_hub.trainers.averaging.extracting import ExtractionOptions, extract
from adapter_hub.trainers.averaging.full_models import ModelComponent, average_models
first, second, out = map(Path, sys.argv[1:])
parts = [ModelComponent(first, 0.5), ModelComponent(second, 0.5)]
shares = [ModelComponent(first, 0.25), ModelComponent(second, 0.25)]
started = time.monotonic()
{program}
peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
print(json.dumps({{"mib": int(peak.split()[1]) // 1024, "seconds": round(time.monotonic() - started, 1)}}))
"""


def random_model(folder: Path, tensors: int, seed: int) -> Path:
    """Write a folder with the settings of the embedded model and random weights of any size."""
    shutil.copytree(embedded.base_model_path(), folder)
    (folder / WEIGHTS).unlink()
    generator = torch.Generator().manual_seed(seed)
    names = [f"model.tensor{number}.weight" for number in range(tensors)]
    with TensorWriter(folder / WEIGHTS, dict.fromkeys(names, ("float32", (ROWS, COLUMNS)))) as writer:
        for name in names:
            writer.write(name, torch.randn(ROWS, COLUMNS, generator=generator))
    return folder


def noisy(model: Path, folder: Path) -> Path:
    """Write a copy of a model with a little noise in every tensor."""
    shutil.copytree(model, folder)
    (folder / WEIGHTS).unlink()
    source, generator = TensorSource(model), torch.Generator().manual_seed(0)
    plan = {name: ("float32", source.tensors[name].shape) for name in sorted(source.tensors)}
    with TensorWriter(folder / WEIGHTS, plan) as writer:
        for name in plan:
            values = next(source.whole(name)).float()
            spread = float(values.std()) if values.numel() > 1 else 0.0
            writer.write(name, values + 0.02 * spread * torch.randn(values.shape, generator=generator))
    return folder


def measured(what: str, first: Path, second: Path, out: Path) -> dict[str, Any]:
    """Return the most resident memory of a process, MiB, mapped pages of files included, and its seconds."""
    program = MEASURED.format(program=PROGRAMS[what])
    words = [sys.executable, "-c", program, str(first), str(second), str(out)]
    done = subprocess.run(words, check=True, capture_output=True, text=True)
    shutil.rmtree(out, ignore_errors=True)
    size = (first / WEIGHTS).stat().st_size / 2**20
    row = {"what": what, "size_mib": round(size), **json.loads(done.stdout.splitlines()[-1])}
    print(row, flush=True)
    return row


ABOUT = """
The most resident memory of a process that does one thing (VmHWM, with the pages of files that are mapped),
and its seconds. A model's size is that of its weights in float32. An average reads two models (and the base
model, here the first of them) slice by slice, so its memory does not grow with their size; what it takes
beyond the imports are the pages of one tensor of each model and a few slices. An extraction lets the full
model answer the probe and drops it before the base model is loaded; after that one tensor of the full model
is in memory at a time.
"""


@click.command()
@click.option("--model", type=click.Path(path_type=Path, exists=True), help="Folder of a Whisper.")
@click.option("--tensors", multiple=True, type=int, default=(2, 8), help="Of 128 MiB, of a random model.")
@click.option("--out", type=click.Path(path_type=Path), default=Path("benchmarks/results/full_models"))
def main(model: Path | None, tensors: tuple[int, ...], out: Path) -> None:
    rows = []
    with tempfile.TemporaryDirectory() as place:
        work = Path(place)
        for count in tensors:
            pair = [random_model(work / f"{count}-{seed}", count, seed) for seed in (1, 2)]
            for what in ("nothing but imports", "average: mean", "average: mean with the base model"):
                rows.append(measured(what, *pair, work / "out"))
            for folder in pair:
                shutil.rmtree(folder)
        if model is not None:
            other = noisy(model, work / "noisy")
            for what in ("one model loaded and probed", "extract, rank 32"):
                rows.append(measured(what, model, other, work / "out"))
    lines = ["| what | size of a model, MiB | peak, MiB | s |", "|---|--:|--:|--:|"]
    lines += [f"| {row['what']} | {row['size_mib']} | {row['mib']} | {row['seconds']} |" for row in rows]
    command = "OMP_NUM_THREADS=1 python benchmarks/full_models.py --model FOLDER"
    out.with_suffix(".json").write_text(json.dumps(rows, indent=1) + "\n", "utf-8")
    out.with_suffix(".md").write_text(
        page("Memory of full models", ABOUT, command, "\n".join(lines)), "utf-8"
    )


if __name__ == "__main__":
    main()
