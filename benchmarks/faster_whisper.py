"""Beam search and greedy search on a CPU against CTranslate2, the engine of faster-whisper.

    pip install faster-whisper
    OMP_NUM_THREADS=1 python benchmarks/faster_whisper.py --shape tiny --shape small

Random weights of Whisper's shapes. Ours runs with an adapter active in every row, the peer with the same
adapter merged into the weights that it converts. From log-mel features to a fixed number of tokens, one
thread, both in turns in one process. In float32 the tokens have to be equal; int8 is the peer's alone.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click
import ctranslate2
import torch
from ctranslate2.converters.transformers import WhisperLoader
from pages import page
from random_whisper import (
    LANGUAGE,
    NO_TIMESTAMPS,
    START,
    TASK,
    VOCABULARY,
    merged,
    random_adapter,
    random_base,
)

from adapter_hub.decoding.decode import search
from adapter_hub.decoding.options import DecodingOptions
from adapter_hub.model.base_model import BaseModel
from adapter_hub.model.loading import ResidentAdapter
from adapter_hub.model.quiet import quiet
from adapter_hub.model.session import Session

PROMPT = [START, LANGUAGE, TASK, NO_TIMESTAMPS]
Row = dict[str, Any]
TITLE = "Decoding speed beside CTranslate2, the engine of faster-whisper"
COMMAND = "OMP_NUM_THREADS=1 python benchmarks/faster_whisper.py --shape tiny --shape small"
ABOUT = """
From log-mel features to a fixed number of tokens, with random weights of Whisper's shapes, both engines in
turns in one process; ours has an adapter active in every row, the peer's is merged. `ours / peer` is this
library's time over the peer's: below 1 this library is faster. Ours is float32 in every row, int8 is the
peer's alone.
"""


class Words:
    """What the converter asks of a tokenizer."""

    unk_token = bos_token = eos_token = "<|endoftext|>"

    def get_vocab(self) -> dict[str, int]:
        return {f"t{number}": number for number in range(VOCABULARY)}


def convert(model: Any, folder: Path) -> Path:
    """Write a model as CTranslate2 reads it, float32."""
    loader = WhisperLoader()
    spec = loader.get_model_spec(model)
    tokens = [f"t{number}" for number in range(VOCABULARY)]
    names = {START: "<|startoftranscript|>", LANGUAGE: "<|en|>", TASK: "<|transcribe|>"}
    names |= {NO_TIMESTAMPS: "<|notimestamps|>", 50257: "<|endoftext|>", 50362: "<|nospeech|>"}
    for number, name in names.items():
        tokens[number] = name
    spec.register_vocabulary(tokens)
    spec.config.suppress_ids = list(model.generation_config.suppress_tokens)
    spec.config.suppress_ids_begin = []
    spec.config.lang_ids = [LANGUAGE]
    spec.config.alignment_heads = [(0, 0)]
    folder.mkdir()
    spec.validate()
    spec.optimize()
    spec.save(str(folder))
    return folder


def ours(base: BaseModel, adapter: ResidentAdapter, size: int, beams: int, count: int) -> Callable[[], Any]:
    session, features = Session(base), features_of(base, size)
    options = DecodingOptions(beams=beams, most_tokens=count)

    def run() -> list[list[int]]:
        session.set_adapters([adapter] * size)
        encoder_output = session.model.get_encoder()(features).last_hidden_state
        return [list(text.tokens) for text in search(session, encoder_output, [PROMPT] * size, options)]

    return run


def theirs(
    model: Any, base: BaseModel, size: int, beams: int, count: int, suppressed: list[int]
) -> Callable[[], Any]:
    features = ctranslate2.StorageView.from_array(features_of(base, size).numpy())

    def run() -> list[list[int]]:
        found = model.generate(
            features,
            [PROMPT] * size,
            beam_size=beams,
            max_length=2 * count,  # it leaves half for the prompt
            suppress_blank=False,
            suppress_tokens=suppressed,
        )
        return [list(item.sequences_ids[0]) for item in found]

    return run


def features_of(base: BaseModel, size: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(3)
    return torch.randn(size, base.model.config.num_mel_bins, 3000, generator=generator)


def measure(shape: str, folder: Path, tokens: int, repeats: int) -> list[Row]:
    base = random_base(shape)
    adapter = random_adapter(base, 1)
    place = convert(merged(base, adapter), folder / shape)
    suppressed = list(base.model.generation_config.suppress_tokens)
    engines = {
        kind: ctranslate2.models.Whisper(str(place), device="cpu", intra_threads=1, compute_type=kind)
        for kind in ("float32", "int8")
    }
    rows = []
    for beams in (1, 5):
        for size in (1, 8):
            runs = {"ours": ours(base, adapter, size, beams, tokens)}
            for kind, engine in engines.items():
                runs[kind] = theirs(engine, base, size, beams, tokens, suppressed)
            found = {name: run() for name, run in runs.items()}
            same = sum(a == b for a, b in zip(found["ours"], found["float32"], strict=True))
            lengths = {len(text) for texts in found.values() for text in texts}
            if lengths != {tokens}:
                sys.exit(f"error: {lengths} tokens, expected {tokens} on every side")
            seconds: dict[str, list[float]] = {name: [] for name in runs}
            for _ in range(repeats):
                for name, run in runs.items():
                    start = time.perf_counter()
                    run()
                    seconds[name].append(time.perf_counter() - start)
            for kind in engines:
                ratios = [a / b for a, b in zip(seconds["ours"], seconds[kind], strict=True)]
                rows.append(
                    {
                        "shape": shape,
                        "beams": beams,
                        "batch": size,
                        "peer": kind,
                        "ours_over_peer": round(
                            statistics.median(seconds["ours"]) / statistics.median(seconds[kind]), 2
                        ),
                        "low": round(min(ratios), 2),
                        "high": round(max(ratios), 2),
                        "ours_s": round(statistics.median(seconds["ours"]), 3),
                        "peer_s": round(statistics.median(seconds[kind]), 3),
                        "equal": f"{same} of {size}" if kind == "float32" else "",
                    }
                )
                print(rows[-1], flush=True)
    return rows


@click.command()
@click.option(
    "--shape", "shapes", multiple=True, default=("tiny", "small"), type=click.Choice(["tiny", "small"])
)
@click.option("--tokens", default=24, help="Tokens of every text.")
@click.option("--repeats", default=3, help="Turns that are timed.")
@click.option("--out", type=click.Path(path_type=Path), default=Path("benchmarks/results/faster_whisper"))
def main(shapes: tuple[str, ...], tokens: int, repeats: int, out: Path) -> None:
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    with quiet(), torch.inference_mode(), tempfile.TemporaryDirectory() as name:
        rows = [row for shape in shapes for row in measure(shape, Path(name), tokens, repeats)]
    lines = ["| shape | beams | batch | peer | ours / peer (low - high) | ours, s | peer, s | equal texts |"]
    lines.append("|---|--:|--:|---|---|--:|--:|---|")
    for row in rows:
        spread = f"{row['ours_over_peer']} ({row['low']} - {row['high']})"
        lines.append(
            f"| {row['shape']} | {row['beams']} | {row['batch']} | {row['peer']} | {spread} | "
            f"{row['ours_s']} | {row['peer_s']} | {row['equal']} |"
        )
    packages = ", ".join(f"{item} {version(item)}" for item in ("ctranslate2", "torch", "transformers"))
    machine = f"{platform.machine()}, {os.cpu_count()} cores"
    note = f"{tokens} tokens, {repeats} turns, one thread; {packages}; {machine}"
    out.parent.mkdir(parents=True, exist_ok=True)
    out.with_suffix(".json").write_text(json.dumps({"rows": rows, "about": note}, indent=2) + "\n")
    out.with_suffix(".md").write_text(page(TITLE, ABOUT, COMMAND, "\n".join(lines), note))
    print("\n".join(lines))


if __name__ == "__main__":
    main()
