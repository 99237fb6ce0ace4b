"""What the embedded base model and its adapters reach on synthesised speech.

    python benchmarks/embedded_models.py --work runs/catalogue

For every language of the corpus the base model on speech like its pre-training's (other voices and
numbers), and on the harder test speech of adaptation, beside the scores of the published adapters on the
same bytes. Writes Markdown and JSON.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import click
import torch
from pages import page

from adapter_hub import embedded, load
from adapter_hub.data.dataset import data_sha256, read_dataset
from adapter_hub.evaluation.evaluating import EvaluationOptions, evaluate
from adapter_hub.formats.claims import EvaluationReport
from adapter_hub.registry.file import FileRegistry
from adapter_hub.trainers.makers.corpus.plan import plan
from adapter_hub.trainers.makers.corpus.render import write_folder

LANGUAGES = ("pl", "pt", "it", "zh", "da", "el", "cy", "ja", "es", "en")
UTTERANCES = 300
COMMAND = "python benchmarks/embedded_models.py --work runs/catalogue"
ABOUT = """
Error rates on synthesised speech: of the base model alone on speech like its pre-training's and on the
harder test split, and of the published adapters on the same bytes of that split. Lower is better; a
language without a number has no adapter in the catalogue.
"""


def rates(report: EvaluationReport) -> dict[str, object]:
    return {
        "wer": round(100 * report.words.rate, 2),
        "cer": round(100 * report.characters.rate, 2),
        "primary": report.primary,
        "low": round(100 * report.interval.low, 2),
        "high": round(100 * report.interval.high, 2),
        "n": len(report.rows),
    }


def base_model_on(folder: Path, language: str) -> dict[str, object]:
    options = EvaluationOptions(language=language, batch_size=32)
    return rates(evaluate(load("base-model", language=language), read_dataset(folder), options))


def adapters_on(folder: Path, language: str) -> dict[str, object]:
    """Return the recorded scores of the published adapters on these very bytes, in percent."""
    sha256 = data_sha256(read_dataset(folder))
    found = {}
    for name, versions in FileRegistry(embedded.registry_path(), read_only=True).adapters.items():
        for block in versions.values():
            for score in block.scores:
                if score.data_sha256 == sha256:
                    found[name] = {
                        "method": block.method,
                        "metric": score.metric,
                        "value": round(100 * score.value, 2),
                    }
    return found


def measure(work: Path, language: str) -> dict[str, object]:
    like = work / "pretraining-test" / language
    specs = plan(language, "pretraining-test", UTTERANCES, seed=0)
    write_folder(specs, like, processes=os.cpu_count() or 1, progress=lambda *_: None)
    row: dict[str, object] = {"language": language, "pretraining_test": base_model_on(like, language)}
    harder = work / "speech" / f"spoken-numbers-{language}" / "test"
    if harder.is_dir():
        row["test"] = base_model_on(harder, language)
        row["adapters"] = adapters_on(harder, language)
    return row


def table(rows: list[dict[str, object]]) -> str:
    lines = [
        "| language | metric | base model, like pre-training | base model, harder test | LoRA | warm start "
        "| expert pair |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        like, test = row["pretraining_test"], row.get("test")
        metric = like["primary"]
        by_method = {item["method"]: item["value"] for item in row.get("adapters", {}).values()}
        cells = [
            row["language"],
            metric.upper(),
            f"{like[metric]} ({like['low']} - {like['high']})",
            f"{test[metric]} ({test['low']} - {test['high']})" if test else "",
            by_method.get("lora", ""),
            by_method.get("warm-start", ""),
            by_method.get("expert-pair", ""),
        ]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


@click.command()
@click.option("--work", type=click.Path(path_type=Path), required=True, help="The catalogue maker's folder.")
@click.option("--out", type=click.Path(path_type=Path), default=Path("benchmarks/results/embedded_models"))
def main(work: Path, out: Path) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    rows = []
    for language in LANGUAGES:
        rows.append(measure(work, language))
        print(json.dumps(rows[-1], ensure_ascii=False), flush=True)
    machine = f"torch {torch.__version__}, CPU, {os.cpu_count()} cores, beams 5, {UTTERANCES} utterances"
    out.with_suffix(".json").write_text(json.dumps({"machine": machine, "rows": rows}, indent=2) + "\n")
    note = f"Per cent, 95 % interval over speakers; {machine}."
    out.with_suffix(".md").write_text(
        page("The embedded base model and its adapters", ABOUT, COMMAND, table(rows), note)
    )
    print(table(rows))


if __name__ == "__main__":
    main()
