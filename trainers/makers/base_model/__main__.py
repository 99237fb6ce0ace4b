"""Make the embedded base model: `python -m adapter_hub.trainers.makers.base_model --out FOLDER`.

Trains for about half an hour on one core, once the speech is rendered. The same settings give the same
examples everywhere; the weights depend on the machine's floating-point kernels, so they are shipped, with
`training.json` as the record of how they were made.
"""

from __future__ import annotations

import json
import os
import string
import time
import tomllib
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import torch
from safetensors.torch import load_file

from adapter_hub.packages import PACKAGES, package_versions
from adapter_hub.trainers.makers.base_model.architecture import build_model, build_processor, save
from adapter_hub.trainers.makers.base_model.examples import Example, build_all, plan_examples
from adapter_hub.trainers.makers.base_model.pretrain import pretrain
from adapter_hub.trainers.makers.corpus.numbers import SPELLERS, spell

SETTINGS = Path(__file__).parent / "settings.toml"


def tell(line: str) -> None:
    """Report progress on stderr."""
    click.echo(line, err=True)


def all_characters() -> list[str]:
    """Return sentences that hold every character of the corpus, and the Latin alphabet."""
    return [
        string.ascii_lowercase,
        *(spell(n, language) for language in sorted(SPELLERS) for n in range(10_000)),
    ]


def build_examples(settings: dict[str, Any]) -> list[Example]:
    """Render the whole pre-training corpus into memory (about 2 GB), with progress on stderr."""
    plans = plan_examples(settings["data"], settings["data"]["random_seed"])
    built: list[Example] = []
    began = time.monotonic()
    chunk, cut = settings["architecture"]["chunk_seconds"], settings["data"]["shares"]["cut"]
    for example in build_all(plans, chunk, cut):
        built.append(example)
        if len(built) % 2000 == 0:
            tell(f"{len(built)}/{len(plans)} examples, {time.monotonic() - began:.0f} s")
    return built


@click.command()
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder of the model.")
@click.option("--settings", "path", type=click.Path(path_type=Path), default=SETTINGS, show_default=True)
@click.option("--threads", default=1, show_default=True, help="Threads of the training.")
@click.option("--continue-from", type=click.Path(path_type=Path), help="A checkpoint to start from.")
def main(out: Path, path: Path, threads: int, continue_from: Path | None) -> None:
    """Make the small Whisper from its settings."""
    text = path.read_text()
    settings = tomllib.loads(text)
    torch.set_num_threads(threads)
    out.mkdir(parents=True, exist_ok=True)
    examples = build_examples(settings)
    hours = sum(e.features.shape[1] for e in examples) / 100 / 3600
    tell(f"{len(examples)} examples, {hours:.1f} hours")
    processor = build_processor(all_characters(), settings["architecture"])
    torch.manual_seed(settings["training"]["random_seed"])
    model = build_model(processor, settings["architecture"], settings["data"]["utterances"])
    if continue_from:
        model.load_state_dict(load_file(continue_from), strict=False)
    began = time.monotonic()
    log = pretrain(
        model,
        processor.tokenizer,
        examples,
        settings["training"],
        settings["data"]["shares"]["timestamps"],
        out / "checkpoint.safetensors",
        tell,
    )
    save(model, processor, str(out))
    record = {
        "created": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "settings": text,
        "examples": len(examples),
        "hours": round(hours, 2),
        "parameters": sum(p.numel() for p in model.parameters()),
        "wall_seconds": round(time.monotonic() - began),
        "threads": threads,
        "hardware": f"CPU, {os.cpu_count()} cores",
        "packages": package_versions((*PACKAGES, "espeakng-loader", "tokenizers")),
        "losses": log,
    }
    (out / "training.json").write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
