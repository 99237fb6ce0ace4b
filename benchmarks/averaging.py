"""Averages of adapters, against PEFT's `add_weighted_adapter` and mergekit: how exact, and how long.

    OMP_NUM_THREADS=1 python benchmarks/averaging.py

An attention projection and a feed-forward linear of whisper-small's shape, 2 to 16 adapters of rank 32 with
equal weights, random and float32. Every answer is compared with one that is computed from whole matrices:
the mean of the merged models, the nearest matrix of rank 32 to it, TIES at density 0.5. mergekit is measured
where it can be imported: `pip install --no-deps --target FOLDER mergekit==0.1.5 immutables`, with FOLDER in
PYTHONPATH, leaves the environment as it is. Writes Markdown and JSON.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click
import peft
import torch
from pages import page
from timing import Row, against, in_turns, machine

from adapter_hub.trainers.averaging.factors import Factors, nearest, truncate, weighted_sum
from adapter_hub.trainers.averaging.methods import METHODS, MethodOptions

TITLE = "Averages of adapters, beside PEFT and mergekit"
COMMAND = "OMP_NUM_THREADS=1 python benchmarks/averaging.py"
ABOUT = """
The error is the relative Frobenius distance of all updates together from what whole matrices give: `mean`
from the average of the merged models, `ties` from adapter_hub's own TIES on the updates (density 0.5):
on equal tensors it gives what mergekit gives (a test), and the difference here is the rounding of base + ΔW.
`least` is the smallest error that any update of rank 32 has. An error of 1 is that of no adapter at all.
Times are CPU seconds of one thread for an attention projection (768 x 768) and a feed-forward linear (768 to
3072); the ratio is to adapter_hub's time for the same answer, median of turns that alternate, with the least
and the largest ratio of a turn. mergekit takes merged models, as it has no adapters: merging them is not in
its time, and its result has full rank.
Random adapters have nothing in common, so rank 32 cannot hold their average; trained ones do better:
`adapter-hub average` prints the error of every module.
"""
RANK, DENSITY = 32, 0.5
LINEARS = {"q_proj": (768, 768), "fc1": (768, 3072)}  # inputs, outputs
Update = dict[str, torch.Tensor]
Make = Callable[[], Mapping[str, Factors | torch.Tensor]]


class Layer(torch.nn.Module):
    """The linears, as PEFT wants to see them."""

    def __init__(self) -> None:
        super().__init__()
        for name, (inputs, outputs) in LINEARS.items():
            self.add_module(name, torch.nn.Linear(inputs, outputs, bias=False))


def adapted(count: int) -> Any:
    """Return PEFT's model with `count` random adapters, named by their numbers."""
    torch.manual_seed(1)
    config = peft.LoraConfig(r=RANK, lora_alpha=RANK, target_modules=list(LINEARS))
    model = peft.get_peft_model(Layer(), config, adapter_name="0")
    for number in range(1, count):
        model.add_adapter(str(number), config)
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            parameter.data.normal_(std=0.02)
    return model


def factors(model: Any, adapter: str) -> dict[str, Factors]:
    layers = {name: getattr(model.base_model.model, name) for name in LINEARS}
    return {
        name: Factors(layer.lora_A[adapter].weight.data, layer.lora_B[adapter].weight.data)
        for name, layer in layers.items()
    }


def of_peft(model: Any, kind: str, count: int, **options: Any) -> Make:
    """Return a function that lets PEFT combine the adapters."""

    def make() -> dict[str, Factors]:
        if "made" in model.peft_config:
            model.delete_adapter("made")
        names, weights = [str(number) for number in range(count)], [1 / count] * count
        model.add_weighted_adapter(names, weights, "made", combination_type=kind, **options)
        made = {name: getattr(model.base_model.model, name) for name in LINEARS}
        return {
            name: Factors(m.lora_A["made"].weight.data, m.scaling["made"] * m.lora_B["made"].weight.data)
            for name, m in made.items()
        }

    return make


def of_mergekit(base: Update, merged: list[Update], method: str, **parameters: Any) -> Make:
    """Return a function that lets mergekit combine merged models; the base model is subtracted again."""
    from mergekit.merge_methods import merge_state_dicts  # noqa: PLC0415  # it may not be here

    models = {"base": base, **{str(number): model for number, model in enumerate(merged)}}
    if method == "linear":
        del models["base"]
    weights = {name: 1 / len(merged) for name in models if name != "base"}
    values = {key: dict.fromkeys(weights, value) for key, value in parameters.items()}

    def make() -> Update:
        with torch.no_grad():
            found = merge_state_dicts(
                models,
                method,
                parameters={"weight": weights, **values},
                base="base" if "base" in models else None,
            )
        return {name: found[name] - base[name] for name in base}

    return make


def error(found: Mapping[str, Factors | torch.Tensor], wanted: Update) -> float:
    gaps = [
        (update.dense() if isinstance(update, Factors) else update.detach()).double() - wanted[name].double()
        for name, update in found.items()
    ]
    whole = math.fsum(float(matrix.double().square().sum()) for matrix in wanted.values())
    return math.sqrt(math.fsum(float(gap.square().sum()) for gap in gaps) / whole)


def measure(count: int, turns: int, with_mergekit: bool) -> list[Row]:
    """Return a row for every way to combine `count` adapters."""
    model, share = adapted(count), 1 / count
    parts = {name: [factors(model, str(n))[name] for n in range(count)] for name in LINEARS}
    base = {name: getattr(model.base_model.model, name).base_layer.weight.data for name in LINEARS}
    merged = [{name: base[name] + parts[name][n].dense() for name in LINEARS} for n in range(count)]
    options, shares, generator = (
        MethodOptions(density=DENSITY),
        torch.full((count,), share),
        torch.Generator(),
    )

    def mean() -> dict[str, Factors]:
        return {name: weighted_sum([(share, part) for part in parts[name]]) for name in LINEARS}

    def ties() -> Update:
        stacked = {name: torch.stack([part.dense() for part in parts[name]]) for name in LINEARS}
        combine = METHODS["ties"].combine
        return {name: combine(stacked[name], shares, options, base[name], generator) for name in LINEARS}

    exact = {name: torch.stack([p.dense().double() for p in parts[name]]).mean(0) for name in LINEARS}
    trimmed = ties()
    groups: dict[tuple[str, str], tuple[Update, dict[str, Make]]] = {
        ("mean", "exact"): (
            exact,
            {"adapter_hub": mean, f"PEFT cat (rank {RANK * count})": of_peft(model, "cat", count)},
        ),
        ("mean", f"rank {RANK}"): (
            exact,
            {
                "adapter_hub": lambda: {n: truncate(f, rank=RANK)[0] for n, f in mean().items()},
                "PEFT svd": of_peft(model, "svd", count, svd_rank=RANK),
                "PEFT linear": of_peft(model, "linear", count),
            },
        ),
        ("ties", "full rank"): (
            trimmed,
            {
                "adapter_hub": ties,
                f"PEFT ties (rank {RANK})": of_peft(model, "ties", count, density=DENSITY),
            },
        ),
    }
    if with_mergekit:
        groups["mean", "exact"][1]["mergekit linear"] = of_mergekit(base, merged, "linear")
        how = {"density": DENSITY}
        groups["ties", "full rank"][1]["mergekit ties"] = of_mergekit(base, merged, "ties", **how)
    rows: list[Row] = []
    for (method, result), (wanted, runs) in groups.items():
        errors = {who: error(make(), wanted) for who, make in runs.items()}  # and the first run of each
        seconds = in_turns(runs, turns)
        least = (
            error({n: nearest(m, rank=RANK)[0] for n, m in wanted.items()}, wanted)
            if "rank 3" in result
            else None
        )
        for who in runs:
            times = against(seconds, who, "adapter_hub")
            rows.append(
                {"adapters": count, "method": method, "result": result, "by": who, "error": errors[who],
                 "least_error": least, **times}
            )  # fmt: skip
    return rows


def line(row: Row) -> str:
    least = "" if row["least_error"] is None else f"{row['least_error']:.4f}"
    times = "" if row["by"] == "adapter_hub" else f"{row['ratio']} ({row['low']} - {row['high']})"
    cells = (row["adapters"], row["method"], row["result"], row["by"], f"{row['error']:.2g}", least)
    return f"| {' | '.join(map(str, cells))} | {row['seconds']:.4f} | {times} |"


@click.command()
@click.option("--turns", default=5, show_default=True, help="Paired repeats of every way to combine.")
@click.option("--out", type=click.Path(path_type=Path), default=Path("benchmarks/results"), show_default=True)
def main(turns: int, out: Path) -> None:
    """Measure averages of adapters against PEFT's and mergekit's."""
    with_mergekit = importlib.util.find_spec("mergekit") is not None
    rows = [row for count in (2, 4, 8, 16) for row in measure(count, turns, with_mergekit)]
    peer = f", mergekit {importlib.metadata.version('mergekit')}" if with_mergekit else ""
    about = machine(f"float32, rank {RANK}, {turns} turns{peer}")
    lines = [
        "| adapters | method | result | by | error | least | CPU s | times ours |",
        "|--:|---|---|---|--:|--:|--:|--:|",
        *map(line, rows),
    ]
    (out / "averaging.md").write_text(page(TITLE, ABOUT, COMMAND, about, "\n".join(lines)), encoding="utf-8")
    record = {"machine": about, "rows": rows}
    (out / "averaging.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
