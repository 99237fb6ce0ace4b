"""Real-time factor on a GPU: eight languages in one batch, against transformers, and PEFT.

    python benchmarks/rtfx.py                                   # everything, on a GPU: 20 to 30 minutes
    python benchmarks/rtfx.py --shape small --beams 5           # one part: each stays below 10 minutes
    python benchmarks/rtfx.py --device cpu --dtype float32 --shape mini --batch 4 --tokens 6      # a trial

Random weights of Whisper's shapes, a fixed number of tokens, 30 s of audio in each row, from log-mel features
to tokens. Every row of ours, and of PEFT's (`adapter_names`), carries one of eight adapters of rank 32.
transformers has one adapter merged, so it does not do the same work; with its static cache it compiles the
decoder on a GPU, without beams alone (`_beam_search` of 5.23 calls the model as it is), and all it compiles
is warmed up. All take turns in one process. Every part adds its lines to the results that are there. Writes
Markdown and JSON.
"""

from __future__ import annotations

import gc
import json
import os
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import click
import torch
from random_whisper import (
    LANGUAGE,
    LANGUAGES,
    NO_TIMESTAMPS,
    SHAPES,
    START,
    TASK,
    merged,
    peft_model,
    random_adapter,
    random_base,
)
from timing import Row, machine

from adapter_hub.decoding.decode import search
from adapter_hub.decoding.options import DecodingOptions
from adapter_hub.model.base_model import DTYPES, BaseModel
from adapter_hub.model.cuda_graphs import SWITCH
from adapter_hub.model.loading import ResidentAdapter
from adapter_hub.model.quiet import quiet
from adapter_hub.model.session import RowAdapters, Session

SECONDS = 30.0  # of audio in a row
ADAPTERS = 8
WARM = 3  # runs before any is timed: the first compiles, the second records
Texts = list[list[int]]
Run = Callable[[], Texts]


@dataclass
class Bench:
    """One shape, one width of the search."""

    shape: str
    base: BaseModel
    adapters: list[ResidentAdapter]
    batch: int
    beams: int
    tokens: int

    @property
    def features(self) -> torch.Tensor:
        config = self.base.model.config
        generator = torch.Generator().manual_seed(3)
        features = torch.randn(self.batch, config.num_mel_bins, 3000, generator=generator)
        return features.to(self.base.device, self.base.dtype)

    def rows(self, count: int) -> list[RowAdapters]:
        return list(islice(cycle(self.adapters[:count]), self.batch))

    def ours(self, count: int, *, recorded: bool = True) -> Run:
        before = os.environ.get(SWITCH, "0")
        os.environ[SWITCH] = "1" if recorded else "0"
        session = Session(self.base)
        os.environ[SWITCH] = before
        rows, features = self.rows(count), self.features
        codes = islice(cycle(range(len(LANGUAGES))), self.batch)
        prompts = [[START, LANGUAGE + code, TASK, NO_TIMESTAMPS] for code in codes]
        options = DecodingOptions(beams=self.beams, most_tokens=self.tokens)

        def run() -> Texts:
            session.set_adapters(rows)
            encoder_output = session.model.get_encoder()(features).last_hidden_state
            return [list(text.tokens) for text in search(session, encoder_output, prompts, options)]

        return run

    def theirs(self, model: Any, **more: Any) -> Run:
        features = self.features
        languages = list(islice(cycle(LANGUAGES), self.batch))

        def run() -> Texts:
            found = model.generate(
                input_features=features,
                language=languages,
                task="transcribe",
                num_beams=self.beams,
                do_sample=False,
                max_new_tokens=self.tokens,
                **more,
            )
            return [row[-self.tokens :] for row in found.tolist()]

        return run


def runs_of(bench: Bench) -> dict[str, Run]:
    """Return what is compared, by name; ours with one adapter comes first."""
    runs = {
        "ours, 1 adapter": bench.ours(1),
        f"ours, {ADAPTERS} adapters": bench.ours(ADAPTERS),
    }
    if bench.base.device.type == "cuda":
        runs[f"ours, {ADAPTERS} adapters, not recorded"] = bench.ours(ADAPTERS, recorded=False)
    one = merged(bench.base, bench.adapters[0])
    runs["transformers, merged"] = bench.theirs(one)
    compiles = bench.base.device.type == "cuda" and bench.beams == 1
    static = f"transformers, merged, static cache, {'' if compiles else 'not '}compiled"
    runs[static] = bench.theirs(one, cache_implementation="static")
    names = list(islice(cycle([f"a{number}" for number in range(ADAPTERS)]), bench.batch))
    peer = peft_model(bench.base, bench.adapters)
    runs[f"PEFT adapter_names, {ADAPTERS} adapters"] = bench.theirs(peer, adapter_names=names)
    return runs


def measure(bench: Bench, repeats: int) -> Iterator[Row]:
    """Yield a row for every run: seconds of audio per second, peak memory, tokens like ours."""
    runs, failed = runs_of(bench), {}
    texts, peaks = dict[str, Texts](), dict[str, float]()
    for name in list(runs):
        gc.collect()
        with peak_of(bench.base.device) as peak:
            try:
                for _ in range(WARM):
                    texts[name] = runs[name]()
            except Exception as error:  # a peer that cannot do it is a result, too
                failed[name] = " ".join(f"{type(error).__name__}: {error}".split())[:160]
                if name.startswith("ours"):
                    raise
                del runs[name]
        peaks[name] = peak()
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(repeats):
        for name, run in runs.items():
            seconds[name].append(wall_seconds(run, bench.base.device))
    for name, times in seconds.items():
        like = "ours, 1 adapter" if "merged" in name or "1 adapter" in name else f"ours, {ADAPTERS} adapters"
        same = [
            a == b
            for ours, own in zip(texts[like], texts[name], strict=True)
            for a, b in zip(ours, own, strict=True)
        ]
        factors = [bench.batch * SECONDS / value for value in times]
        yield {
            "what": name,
            "rtfx": round(statistics.median(factors), 1),
            "low": round(min(factors), 1),
            "high": round(max(factors), 1),
            "seconds": round(statistics.median(times), 4),
            "peak_mib": round(peaks[name] / 2**20),
            "same_tokens": round(sum(same) / len(same), 4),
        }
    for name, reason in failed.items():
        yield {"what": name, "failed": reason}


@contextmanager
def peak_of(device: torch.device) -> Iterator[Callable[[], float]]:
    """Give what tells the most memory that was used within, in bytes, beyond what was there; 0 on a CPU."""
    if device.type != "cuda":
        yield lambda: 0.0
        return
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    yield lambda: float(torch.cuda.max_memory_allocated(device) - before)


def wall_seconds(run: Run, device: torch.device) -> float:
    """Return how long a run takes, until the device is done with it."""
    start = time.perf_counter()
    run()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def table(kept: dict[str, Row]) -> str:
    lines = [
        "| shape | batch | beams | what | RTFx (low - high) | s | peak MiB | tokens like ours |",
        "|" + "---|" * 8,
    ]
    for part in kept.values():
        for row in part["rows"]:
            head = f"| {part['shape']} | {part['batch']} | {part['beams']} | {row['what']} | "
            if "failed" in row:
                lines.append(f"{head}cannot: {row['failed']} | | | |")
            else:
                peak = row["peak_mib"] or ""
                spread = f"{row['rtfx']} ({row['low']} - {row['high']})"
                lines.append(
                    f"{head}{spread} | {row['seconds']} | {peak} | {100 * row['same_tokens']:.1f} % |"
                )
    settings = sorted({part["settings"] for part in kept.values()})
    return "\n".join([*lines, "", "Peak MiB: beyond the weights of all models.", *settings]) + "\n"


def settings_of(base: BaseModel, tokens: int, repeats: int) -> str:
    gpu = (
        torch.cuda.get_device_name(base.device)
        if base.device.type == "cuda"
        else "no GPU: a trial, no result"
    )
    dtype = str(base.dtype).removeprefix("torch.")
    about = machine().replace("float32, ", "")
    return f"{gpu}, {dtype}, {tokens} tokens, {repeats} turns behind {WARM} warm ones. {about}."


@click.command()
@click.option(
    "--shape", "shapes", multiple=True, default=("small", "large-v3-turbo"), type=click.Choice(list(SHAPES))
)
@click.option("--beams", "widths", multiple=True, type=int, default=(1, 5), help="Width of the search.")
@click.option("--batch", default=16, help="Rows.")
@click.option("--tokens", default=96, help="Tokens of every text.")
@click.option("--repeats", default=5, help="Turns that are timed.")
@click.option("--device", default="cuda", show_default=True)
@click.option("--dtype", default="bfloat16", show_default=True, type=click.Choice(list(DTYPES)))
@click.option("--out", type=click.Path(path_type=Path), default=Path("benchmarks/results/rtfx"))
def main(  # noqa: PLR0913 - what a trial needs, too
    shapes: tuple[str, ...],
    widths: tuple[int, ...],
    batch: int,
    tokens: int,
    repeats: int,
    device: str,
    dtype: str,
    out: Path,
) -> None:
    place = out.with_suffix(".json")
    kept: dict[str, Row] = json.loads(place.read_text()) if place.is_file() else {}
    out.parent.mkdir(parents=True, exist_ok=True)
    with quiet(), torch.inference_mode():
        for shape in shapes:
            base = random_base(shape)
            base.model.to(device, DTYPES[dtype])
            adapters = [random_adapter(base, seed) for seed in range(ADAPTERS)]
            for beams in widths:
                bench = Bench(shape, base, adapters, batch, beams, tokens)
                rows = []
                for row in measure(bench, repeats):
                    rows.append(row)
                    print(shape, beams, row, flush=True)
                part = {
                    "shape": shape,
                    "batch": batch,
                    "beams": beams,
                    "settings": settings_of(base, tokens, repeats),
                }
                kept[f"{shape} {batch} {beams} {dtype}"] = part | {"rows": rows}
                place.write_text(json.dumps(kept, indent=2) + "\n")
                out.with_suffix(".md").write_text(table(kept))
    print(f"\n{table(kept)}")


if __name__ == "__main__":
    main()
