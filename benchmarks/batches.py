"""Large and mixed batches: 16 rows at beam 5, 32 adapters in 32 rows, whole utterances, PEFT one by one.

    OMP_NUM_THREADS=1 python benchmarks/batches.py --shape tiny

The rest of `decoding.py`, with the same models, turns and comparisons; whole utterances are from log-mel
features to tokens, so that the encoder counts.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import torch
from decoding import PROMPT, Bench, check_equal, steps
from pages import page
from random_whisper import merged, peft_model, random_adapter, random_base
from timing import Row, against, in_turns, machine, ratio

from adapter_hub.decoding.decode import search
from adapter_hub.decoding.options import DecodingOptions
from adapter_hub.model.quiet import quiet
from adapter_hub.model.session import RowAdapters, Session

MANY = 32
COMMAND = "OMP_NUM_THREADS=1 python benchmarks/batches.py"
ABOUT = """
Batches with 8 to 32 adapters, with random weights of Whisper's shapes and adapters of rank 32, in turns in
one process. In rows that name transformers or PEFT the ratio is their time over this library's: above 1
this library is faster. In the others it is the time with adapters over that of the base model alone: 1.1 is
a tenth slower.
"""


def beams_of_16(bench: Bench) -> Row:
    """Beam 5, 16 recordings with one adapter, against `generate` on the merged model."""
    ours = bench.ours(Session(bench.base), [bench.adapters[0]] * 16, 5)
    theirs = bench.generate(merged(bench.base, bench.adapters[0]), 16, 5)
    check_equal("beams 5 batch 16", ours(), theirs())
    seconds = in_turns({"ours": ours, "theirs": theirs}, 1)
    return {"what": "beam 5, batch 16: transformers, merged", **ratio(seconds["theirs"], seconds["ours"])}


def one_by_one(bench: Bench) -> Row:
    """Greedy, 8 rows with 8 adapters in one batch, against PEFT that switches for every row."""
    model = peft_model(bench.base, bench.adapters)
    ours = bench.ours(Session(bench.base), bench.rows(8, 8), 1)
    encoder_output = bench.encoder_output(8)

    def theirs() -> list[list[int]]:
        found = []
        for row in range(8):
            model.set_adapter(f"a{row}")
            bench_of_one = bench.generate(model, 1, 1, encoder_output=encoder_output[row : row + 1])
            found += bench_of_one()
        return found

    check_equal("PEFT one by one", ours(), theirs())
    seconds = in_turns({"ours": ours, "theirs": theirs}, bench.repeats)
    return {
        "what": "greedy, 8 rows, 8 adapters: PEFT one by one",
        **ratio(seconds["theirs"], seconds["ours"]),
    }


def many(bench: Bench) -> Row:
    """A decoder step of 32 rows with 32 adapters, against the base model's."""
    adapters = [random_adapter(bench.base, seed) for seed in range(MANY)]
    plans: dict[str, list[RowAdapters]] = {"base": [None] * MANY, "adapters": list(adapters)}
    row = {"what": "decoder step, 32 rows with 32 adapters, of the base model's"}
    return row | against(steps(bench, plans, 1), "adapters", "base")


def utterances(bench: Bench, beams: int, count: int) -> Row:
    """8 whole utterances with `count` adapters, against the base model alone."""
    config = bench.base.model.config
    features = torch.randn(8, config.num_mel_bins, 3000, generator=torch.Generator().manual_seed(3))
    options = DecodingOptions(beams=beams, most_tokens=bench.tokens)

    def run(rows: list[RowAdapters]) -> Callable[[], Any]:
        session = Session(bench.base)

        def once() -> Any:
            session.set_adapters(rows)
            encoder_output = session.model.get_encoder()(features).last_hidden_state
            return search(session, encoder_output, [PROMPT] * 8, options)

        once()
        return once

    plans = {"base": run([None] * 8), "adapters": run(bench.rows(8, count))}
    row = {"what": f"whole utterances, 8 rows with {count} adapters, beam {beams}, of the base model's"}
    return row | against(in_turns(plans, bench.repeats), "adapters", "base")


PARTS: dict[str, Callable[[Bench], Row]] = {
    "32-adapters": many,
    "utterances": lambda bench: utterances(bench, 1, 8),
    "utterances-beam-5": lambda bench: utterances(bench, 5, 8),
    "one-by-one": one_by_one,
    "batch-16": beams_of_16,
}


@click.command()
@click.option("--shape", "shapes", multiple=True, default=("tiny",), type=click.Choice(["tiny", "small"]))
@click.option("--part", "parts", multiple=True, default=tuple(PARTS), type=click.Choice(list(PARTS)))
@click.option("--tokens", default=24, help="Tokens of every text.")
@click.option("--repeats", default=3, help="Turns that are timed.")
@click.option("--out", type=click.Path(path_type=Path), default=Path("benchmarks/results/batches"))
def main(shapes: tuple[str, ...], parts: tuple[str, ...], tokens: int, repeats: int, out: Path) -> None:
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    kept = out.with_suffix(".json")
    rows = (
        {(row["shape"], row["part"]): row for row in json.loads(kept.read_text())} if kept.is_file() else {}
    )
    with quiet(), torch.inference_mode():
        for shape in shapes:
            base = random_base(shape)
            bench = Bench(shape, base, [random_adapter(base, s) for s in range(8)], [], repeats, tokens)
            for part in parts:
                about = {"shape": shape, "part": part, "tokens": tokens, "turns": repeats}
                rows[shape, part] = about | PARTS[part](bench)
                print(rows[shape, part], flush=True)
    head = "| shape | what | ratio (low - high) | s | s of the other | tokens | turns |"
    lines = [head, "|---|---|---|--:|--:|--:|--:|"]
    for row in rows.values():
        other = row.get("peer_seconds", row.get("base_seconds"))
        spread = f"{row['ratio']} ({row['low']} - {row['high']})"
        cells = (row["shape"], row["what"], spread, row["seconds"], other, row["tokens"], row["turns"])
        lines.append(f"| {' | '.join(map(str, cells))} |")
    kept.write_text(json.dumps(list(rows.values()), indent=2) + "\n")
    text = page("Large and mixed batches", ABOUT, COMMAND, "\n".join(lines), f"{machine()}.")
    out.with_suffix(".md").write_text(text)


if __name__ == "__main__":
    main()
