"""Decoding speed: beam search, mixed batches and expert pairs, against transformers and PEFT.

    OMP_NUM_THREADS=1 python benchmarks/decoding.py --shape tiny --shape small

Random weights of Whisper's shapes, fixed numbers of tokens, float32, SDPA on both sides. Peers and ours take
turns in one process, each is warmed up, and every ratio is of medians. Outputs are compared: tokens have to
be equal, or the run fails. Writes Markdown and JSON.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import torch
from pages import page
from random_whisper import (
    LANGUAGE,
    NO_TIMESTAMPS,
    START,
    TASK,
    merged,
    peft_model,
    random_adapter,
    random_base,
)
from timing import Row, against, in_turns, machine, peer_line, ratio
from torch.utils._python_dispatch import TorchDispatchMode
from transformers.modeling_outputs import BaseModelOutput

from adapter_hub.decoding.decode import search
from adapter_hub.decoding.decoder import DecoderSteps
from adapter_hub.decoding.options import DecodingOptions
from adapter_hub.model.base_model import BaseModel
from adapter_hub.model.loading import ResidentAdapter
from adapter_hub.model.quiet import quiet
from adapter_hub.model.session import RowAdapters, Session

PROMPT = [START, LANGUAGE, TASK, NO_TIMESTAMPS]
STEPS = 12  # of a decoder that are timed one by one
PARTS = ("beam_search", "mixed", "encoder", "peft")
COMMAND = "OMP_NUM_THREADS=1 python benchmarks/decoding.py --shape tiny --shape small"
ABOUT = """
Search from the encoder's output to tokens, single decoder steps and the encoder, with random weights of
Whisper's shapes and adapters of rank 32; peers take turns in the same process and have to find the same
tokens. `peer / ours` is the peer's time (or memory) over this library's: above 1 this library is faster (or
smaller). `of the base model's` is the time with adapters over that without: 1.1 is a tenth slower.
"""
# by memory.py
MEMORY = "| shape | most memory while searching | batch | beams | peer / ours | ours, MiB | peer, MiB |"


@dataclass
class Bench:
    """One shape: its base model, adapters, and what the encoder is given."""

    shape: str
    base: BaseModel
    adapters: list[ResidentAdapter]
    pairs: list[ResidentAdapter]
    repeats: int
    tokens: int

    def encoder_output(self, rows: int) -> torch.Tensor:
        generator = torch.Generator().manual_seed(2)
        return torch.randn(rows, 1500, self.base.model.config.d_model, generator=generator)

    def rows(self, count: int, adapters: int) -> list[RowAdapters]:
        return [self.adapters[row % adapters] if adapters else None for row in range(count)]

    def ours(self, session: Session, rows: list[RowAdapters], beams: int) -> Callable[[], list[list[int]]]:
        encoder_output, prompts = self.encoder_output(len(rows)), [PROMPT] * len(rows)
        options = DecodingOptions(beams=beams, most_tokens=self.tokens)

        def run() -> list[list[int]]:
            session.set_adapters(rows)
            return [list(text.tokens) for text in search(session, encoder_output, prompts, options)]

        return run

    def generate(self, model: Any, rows: int, beams: int, **more: Any) -> Callable[[], list[list[int]]]:
        encoder_output = more.pop("encoder_output", self.encoder_output(rows))

        def run() -> list[list[int]]:
            # one model output a call: generate expands it in place
            found = model.generate(
                encoder_outputs=BaseModelOutput(last_hidden_state=encoder_output),
                language=["en"] * rows,
                task="transcribe",
                num_beams=beams,
                do_sample=False,
                max_new_tokens=self.tokens,
                **more,
            )
            return [row[-self.tokens :] for row in found.tolist()]

        return run


def check_equal(what: str, ours: list[list[int]], theirs: list[list[int]]) -> None:
    if ours != theirs:
        sys.exit(f"error: {what}: tokens differ: {ours} {theirs}")


def beam_search(bench: Bench, sizes: tuple[int, ...], beams: int) -> list[Row]:
    """An active adapter in every row, from the encoder's output to tokens; the peer's is merged."""
    peer, session, rows = merged(bench.base, bench.adapters[0]), Session(bench.base), []
    for size in sizes:
        ours = bench.ours(session, [bench.adapters[0]] * size, beams)
        theirs = bench.generate(peer, size, beams)
        check_equal(f"beams {beams} batch {size}", ours(), theirs())
        seconds = in_turns({"ours": ours, "theirs": theirs}, bench.repeats if size < 8 else 1)
        rows.append({"beams": beams, "batch": size, **ratio(seconds["theirs"], seconds["ours"])})
        print(bench.shape, "beam search", rows[-1], flush=True)
    return rows


def steps(bench: Bench, plans: Mapping[str, list[RowAdapters]], beams: int) -> dict[str, list[float]]:
    """Return the seconds of single decoder steps, the plans in turns."""
    count = len(next(iter(plans.values())))
    ready = {}
    for name, rows in plans.items():
        session = Session(bench.base)
        session.set_adapters(rows)
        ready[name] = DecoderSteps(session, bench.encoder_output(count), beams=beams)
        ready[name].prefill([PROMPT] * count, len(PROMPT) + STEPS + 4)
    tokens = torch.arange(count * beams).view(count, beams)
    runs = {name: lambda s=s: s.advance(tokens) for name, s in ready.items()}
    in_turns(runs, 2)
    return in_turns(runs, STEPS)


class Counter(TorchDispatchMode):
    """Counts the ATen calls that compute: views are left out."""

    VIEWS = ("view", "transpose", "t", "permute", "slice", "select", "unsqueeze", "expand", "alias", "detach")

    def __init__(self) -> None:
        super().__init__()
        self.calls = self.all = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.name().split("::")[1].split(".")[0].lstrip("_").removeprefix("unsafe_")
        self.all += 1
        self.calls += name not in self.VIEWS
        return func(*args, **(kwargs or {}))


def calls(bench: Bench, rows: list[RowAdapters], beams: int) -> dict[str, int]:
    session = Session(bench.base)
    session.set_adapters(rows)
    decoder = DecoderSteps(session, bench.encoder_output(len(rows)), beams=beams)
    decoder.prefill([PROMPT] * len(rows), 20)
    with Counter() as counter:
        decoder.advance(torch.zeros(len(rows), beams, dtype=torch.long))
    return {"computing": counter.calls, "all": counter.all}


def plans_of(bench: Bench, size: int) -> dict[str, list[RowAdapters]]:
    plans = {f"{count} adapters": bench.rows(size, count) for count in (0, 1, 2, 4, 8)}
    plans["1 token pair"] = [bench.pairs[0]] * size
    plans["2 token pairs"] = [bench.pairs[row % 2] for row in range(size)]
    return plans


def mixed(bench: Bench, size: int) -> list[Row]:
    """A batch with 0 to 8 adapters, and a batch of pairs: step, calls, against the base model alone."""
    rows: list[Row] = []
    plans = plans_of(bench, size)
    for beams in (1, 5):
        seconds = steps(bench, plans, beams)
        for name in plans:
            counted = calls(bench, plans[name], beams)
            row = {"what": "decoder step", "beams": beams, "batch": size, "rows": name, "calls": counted}
            rows.append(row | against(seconds, name, "0 adapters"))
            print(bench.shape, rows[-1], flush=True)
        for count, pairs in ((1, "1 token pair"), (2, "2 token pairs")):
            row = {
                "what": "decoder step",
                "beams": beams,
                "batch": size,
                "rows": f"{pairs} to {count} adapters",
            }
            rows.append(row | against(seconds, pairs, f"{count} adapters"))
            print(bench.shape, rows[-1], flush=True)
    return rows


def encoder(bench: Bench, size: int) -> list[Row]:
    """The encoder with 0, 1 and 8 adapters and with pairs, against the base model's."""
    config, size = bench.base.model.config, size if bench.shape == "tiny" else size // 2
    features = torch.randn(size, config.num_mel_bins, 3000, generator=torch.Generator().manual_seed(3))
    plans = plans_of(bench, size)
    names = ("1 adapters", "8 adapters", "1 token pair")  # of 4 rows each carries another one of 8, too
    runs: dict[str, Callable[[], Any]] = {"base": lambda: bench.base.model.get_encoder()(features)}
    for name in names:
        session = Session(bench.base)
        session.set_adapters(plans[name])
        runs[name] = lambda session=session: session.model.get_encoder()(features)
    for run in runs.values():
        run()
    seconds = in_turns(runs, bench.repeats)
    rows = []
    for name in names:
        rows.append({"what": "encoder", "batch": size, "rows": name} | against(seconds, name, "base"))
        print(bench.shape, rows[-1], flush=True)
    row = {"what": "encoder", "batch": size, "rows": "1 token pair to 1 adapters"}
    rows.append(row | against(seconds, "1 token pair", "1 adapters"))
    return rows


def against_peft(bench: Bench, size: int) -> list[Row]:
    """Greedy, from the encoder's output to tokens: PEFT's `adapter_names` in the same batch."""
    rows = []
    session = Session(bench.base)
    for count in (1, 8):
        model = peft_model(bench.base, bench.adapters[:count])
        names = [f"a{row % count}" for row in range(size)]
        ours = bench.ours(session, bench.rows(size, count), 1)
        theirs = bench.generate(model, size, 1, adapter_names=names)
        plain = bench.generate(bench.base.model, size, 1)
        check_equal(f"PEFT {count}", ours(), theirs())
        plain()
        seconds = in_turns({"ours": ours, "theirs": theirs, "plain": plain}, bench.repeats)
        row: Row = {"beams": 1, "batch": size, "adapters": count, **ratio(seconds["theirs"], seconds["ours"])}
        row["peft_to_transformers_base"] = ratio(seconds["theirs"], seconds["plain"])["ratio"]
        row["transformers_base_to_ours"] = ratio(seconds["plain"], seconds["ours"])["ratio"]
        rows.append(row)
        print(bench.shape, "PEFT", row, flush=True)
        del model
    return rows


def table(results: dict[str, Any]) -> str:
    lines = [
        "| shape | what | batch | beams | peer / ours (low - high) | ours, s | peer, s |",
        "|" + "---|" * 7,
    ]
    for shape, found in results["shapes"].items():
        for row in found.get("beam_search", ()):
            lines.append(peer_line(row, shape, "transformers, merged", row["batch"], row["beams"]))
        for row in found.get("peft", ()):
            what = f"PEFT adapter_names, {row['adapters']} adapters"
            lines.append(peer_line(row, shape, what, row["batch"], row["beams"]))
    lines += [
        "",
        "| shape | what | batch | beams | rows carry | of the base model's (low - high) | s | ATen calls |",
        "|" + "---|" * 8,
    ]
    for shape, found in results["shapes"].items():
        for row in [*found.get("encoder", ()), *found.get("mixed", ())]:
            counted = row.get("calls", {}).get("computing", "")
            lines.append(
                f"| {shape} | {row['what']} | {row['batch']} | {row.get('beams', '')} | {row['rows']} | "
                f"{row['ratio']} ({row['low']} - {row['high']}) | {row['seconds']} | {counted} |"
            )
    memory = [(shape, row) for shape, found in results["shapes"].items() for row in found.get("memory", ())]
    if memory:
        lines += ["", MEMORY]
        lines.append("|" + "---|" * 7)
    for shape, row in memory:
        cells = (shape, "transformers, merged", row["batch"], row["beams"])
        lines.append(f"| {' | '.join(map(str, cells))} | {row['ratio']} | {row['ours']} | {row['theirs']} |")
    return "\n".join(lines)


def settings_table(results: dict[str, Any]) -> str:
    names = ("tokens", "turns", "turns of batch 8", "steps", "note")
    lines = [f"| shape | {' | '.join(names)} |", "|---|--:|--:|--:|--:|---|"]
    for shape, found in results["shapes"].items():
        lines.append(f"| {shape} | {' | '.join(str(found['settings'].get(name, '')) for name in names)} |")
    return "\n".join(lines)


@click.command()
@click.option(
    "--shape", "shapes", multiple=True, default=("tiny", "small"), type=click.Choice(["tiny", "small"])
)
@click.option("--tokens", default=24, help="Tokens of every text.")
@click.option("--repeats", default=3, help="Turns that are timed.")
@click.option("--only", multiple=True, type=click.Choice(list(PARTS)))
@click.option("--out", type=click.Path(path_type=Path), default=Path("benchmarks/results/decoding"))
def main(shapes: tuple[str, ...], tokens: int, repeats: int, only: tuple[str, ...], out: Path) -> None:
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    results: dict[str, Any] = {"machine": machine(), "shapes": {}}
    if only and out.with_suffix(".json").is_file():
        results["shapes"] = json.loads(out.with_suffix(".json").read_text())["shapes"]
    with quiet(), torch.inference_mode():
        for shape in shapes:
            base = random_base(shape)
            adapters = [random_adapter(base, seed) for seed in range(8)]
            pairs = [random_adapter(base, seed, gated=True) for seed in (98, 99)]
            bench = Bench(shape, base, adapters, pairs, repeats, tokens)
            parts: dict[str, Callable[[], list[Row]]] = {
                "beam_search": lambda b=bench: [
                    *beam_search(b, (1, 4, 8), 5),
                    *beam_search(b, (1, 8), 1),
                ],
                "mixed": lambda b=bench: mixed(b, 8),
                "encoder": lambda b=bench: encoder(b, 8),
                "peft": lambda b=bench: against_peft(b, 8),
            }
            found = results["shapes"].setdefault(shape, {})
            found["settings"] = {"tokens": tokens, "turns": repeats, "turns of batch 8": 1, "steps": STEPS}
            for name in only or parts:
                found[name] = parts[name]()
                write(results, out)
    print(f"\n{table(results)}\n\n{results['machine']}")


def write(results: dict[str, Any], out: Path) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    out.with_suffix(".json").write_text(json.dumps(results, indent=2) + "\n")
    parts = (table(results), f"{results['machine']}.", settings_table(results))
    out.with_suffix(".md").write_text(page("Decoding speed", ABOUT, COMMAND, *parts))


if __name__ == "__main__":
    main()
