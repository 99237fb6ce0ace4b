"""How much of a full fine-tune an adapter holds: errors of both, at several ranks.

    python benchmarks/extracting.py --full FOLDER --base-model FOLDER --data FOLDER --work runs/extracting

FULL is what a recipe of method full-fine-tuning wrote, or any fine-tune of the base model. Each rank is an
`adapter-hub extract --data` of its own; what is there already is kept.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
from pages import page

from adapter_hub.formats.claims import EvaluationReport

ABOUT = """
A Whisper whose weights were all trained, the adapters that `extract` takes from it, and the base model, on
the same utterances, greedy. "Missing of the change" is the relative Frobenius error over all linears: what a
LoRA of that rank does not hold of what training changed in them; the change of norms, biases, embeddings and
convolutions is lost at every rank. "Missing of the effect" is the error of the logits on the probe, relative
to what the full fine-tune changed in them. Intervals are of the difference to the full fine-tune, over
speakers.
"""
DECODED = ("--beams", "1", "--batch-size", "10")


def command(*words: str | Path) -> None:
    subprocess.run([sys.executable, "-m", "adapter_hub", *map(str, words)], check=True)


def extracted(full: Path, base_model: Path, data: Path, work: Path, rank: int) -> dict[str, Any]:
    """Return what `extract --json` tells, kept beside the adapter."""
    told = work / f"rank-{rank}.json"
    if not told.is_file():
        words = ["--base-model", base_model, "--rank", str(rank), "--as", f"extracted/rank-{rank}@1.0.0"]
        words += ["--language", "en", "--license", "NOASSERTION", "--out", work / f"rank-{rank}"]
        line = [sys.executable, "-m", "adapter_hub", "extract", full, *words, "--data", data, *DECODED]
        done = subprocess.run([*map(str, line), "--json"], check=True, stdout=subprocess.PIPE)
        told.write_bytes(done.stdout)
    found: dict[str, Any] = json.loads(told.read_bytes())
    return found


def table(base: EvaluationReport, found: dict[int, dict[str, Any]], work: Path) -> str:
    rate = base.words if base.primary == "wer" else base.characters
    lines = [
        f"| model | {base.primary.upper()} % | difference to the full model | missing of the change | "
        "missing of the effect | MiB |",
        "|---|--:|--:|--:|--:|--:|",
        f"| the base model | {100 * rate.rate:.1f} | | | | |",
    ]
    full = next(iter(found.values()))["evaluations"]["before"]
    lines.append(f"| the full fine-tune | {100 * full:.1f} | | | | |")
    for rank, told in found.items():
        both = told["evaluations"]
        apart = 100 * (both["after"] - both["before"])
        size = (work / f"rank-{rank}" / "adapter_model.safetensors").stat().st_size / 2**20
        lines.append(
            f"| rank {rank} | {100 * both['after']:.1f} | {apart:+.1f} ({100 * both['low']:+.1f} to "
            f"{100 * both['high']:+.1f}) | {told['error']:.2f} | {told['logits_error']:.2f} | {size:.1f} |"
        )
    return "\n".join(lines)


@click.command()
@click.option("--full", type=click.Path(path_type=Path, exists=True), required=True, help="The fine-tune.")
@click.option("--base-model", type=click.Path(path_type=Path, exists=True), required=True)
@click.option(
    "--data", type=click.Path(path_type=Path, exists=True), required=True, help="With a test split."
)
@click.option("--rank", "ranks", multiple=True, type=int, default=(8, 32, 128), show_default=True)
@click.option(
    "--work", type=click.Path(path_type=Path), required=True, help="Folder of adapters and reports."
)
@click.option("--about", default="", help="Which fine-tune and which data, for the page.")
@click.option("--out", type=click.Path(path_type=Path), default=Path("benchmarks/results/extracting"))
def main(
    full: Path, base_model: Path, data: Path, ranks: tuple[int, ...], work: Path, about: str, out: Path
) -> None:
    work.mkdir(parents=True, exist_ok=True)
    start = work / "base-model.json"
    if not start.is_file():
        words = ["--base-model", base_model, "--data", data, "--language", "en", *DECODED]
        command("evaluate", "base-model", *words, "--out", start)
    base = EvaluationReport.parse(start.read_bytes(), str(start))
    found = {rank: extracted(full, base_model, data, work, rank) for rank in ranks}
    kept = ("rank", "error", "largest_error", "logits_error", "evaluations")
    numbers = [{key: told[key] for key in kept} for told in found.values()]
    out.with_suffix(".json").write_text(json.dumps(numbers, indent=1) + "\n", "utf-8")
    line = "python benchmarks/extracting.py --full FOLDER --base-model FOLDER --data FOLDER --work FOLDER"
    text = page(
        "Adapters out of a full fine-tune", f"{ABOUT.strip()}\n\n{about}", line, table(base, found, work)
    )
    out.with_suffix(".md").write_text(text, "utf-8")


if __name__ == "__main__":
    main()
