"""The report of a run: README.md with the tables, results.json with every number, and a plot.

    write_report(settings, run, print)

It is made of finished cells alone, so it can be made again at any time; what is missing is marked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from adapter_hub.reporting import Tell
from adapter_hub.trainers.reproduction.claims import Ordering, claims_text
from adapter_hub.trainers.reproduction.pages import GAP, base_model_name, provenance, write_pages
from adapter_hub.trainers.reproduction.parameter_averaging import tables
from adapter_hub.trainers.reproduction.parameter_averaging.findings import Findings, gather_findings
from adapter_hub.trainers.reproduction.parameter_averaging.orderings import orderings
from adapter_hub.trainers.reproduction.parameter_averaging.plots import PLOTS
from adapter_hub.trainers.reproduction.parameter_averaging.settings import Settings, paper_numbers
from adapter_hub.trainers.reproduction.run import Run


def write_report(settings: Settings, run: Run, tell: Tell) -> Path:
    """Write README.md, results.json and a plot into a run's folder; return the first.

    Args:
        settings: of the run.
        run: opened.
        tell: told why there is no plot, if so.
    """
    findings = gather_findings(settings, run)
    claims = orderings(findings, run.tables)
    numbers = results(findings, claims, run)
    return write_pages(run, numbers, PLOTS, lambda plots: render(run, findings, claims, plots), tell)


def results(findings: Findings, claims: Sequence[Ordering], run: Run) -> dict[str, Any]:
    """Return all that was found, as JSON data; rates are fractions, forgetting is per cent.

    Args:
        findings: of the run.
        claims: the paper's, each with its verdict.
        run: opened.
    """
    return {
        "schema": "reproduction-results/1",
        "settings": findings.settings.to_json(),
        "paper": paper_numbers(),
        "starts": run.starts(),
        "gaps": list(findings.gaps),
        "choices": {name: choice.to_json() for name, choice in run.plan.choices.items()},
        "systems": {
            row: {
                "sets": {test: system.values(test) for test in system.scores},
                "average": system.average(findings.settings.sets),
                "forgetting": findings.forgetting(row),
                "forgetting_interval": findings.forgetting_interval(row),
            }
            for row, system in sorted(findings.systems.items())
        },
        "orderings": [asdict(claim) for claim in claims],
        "seconds": round(sum(record["seconds"] for record in run.records.values()), 1),
    }


def render(run: Run, findings: Findings, claims: Sequence[Ordering], plots: Sequence[Path] = ()) -> str:
    """Return the report as Markdown.

    Args:
        run: opened.
        findings: of the run.
        claims: the paper's, each with its verdict.
        plots: that were drawn.
    """
    settings = findings.settings
    seeds = len(settings.training.random_seeds)
    spread = f"mean over {seeds} random seeds ± standard deviation" if seeds > 1 else "of one random seed"
    text = (
        f"# Parameter averaging, reproduced ({settings.name})\n\n"
        f"Base model {base_model_name(settings.base_model)}, "
        f"language {settings.language}; word error rates in per cent, {spread}; the paper's number "
        "below each, in italics. Our domains stand for the paper's, which are in brackets. Forgetting: "
        "relative increase of the summed error rates of the two sets of the original domain, with its 95 % "
        "interval over speakers (utterances of a test set with fewer than three) and random seeds.\n"
    )
    if findings.gaps:
        text += f"\n**{len(findings.gaps)} cells are not finished; what they would show is marked {GAP}.**\n"
    parts = [text]
    for choice in run.plan.choices.values():
        parts.append(
            f"Steps of an expert: {choice.rate:g}, the fewest from which on fine-tuning on accent worsens "
            f"the original domain's dev error by {settings.growth.forgetting:.0%} (steps: change in %; "
            f"{choice.tried()}). One model for several domains has the steps of all their experts together.\n"
        )
    for number in run.tables:
        table = tables.data(findings, run.outcomes) if number == 5 else tables.numbered(findings, number)
        parts.append(f"## Table {tables.TITLES[number]}\n\n{table}")
    parts.append("## The paper's orderings\n\n" + claims_text(claims))
    if plots:
        parts.append("## Plot\n\n" + "\n".join(f"![{plot.stem}]({plot.name})\n" for plot in plots))
    parts.append("## How it was made\n\n" + provenance(run, "parameter-averaging"))
    return "\n".join(parts)
