"""The report of a run: README.md with the tables, results.json with every number, and plots.

    write_report(settings, run, print)

It is made of finished cells alone, so it can be made again at any time; what is missing is marked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from adapter_hub.reporting import Tell
from adapter_hub.trainers.reproduction.claims import Ordering, claims_text
from adapter_hub.trainers.reproduction.comparing import Resampler
from adapter_hub.trainers.reproduction.lora_whisper import tables as rendering
from adapter_hub.trainers.reproduction.lora_whisper.findings import Findings, gather_findings
from adapter_hub.trainers.reproduction.lora_whisper.orderings import orderings
from adapter_hub.trainers.reproduction.lora_whisper.plots import PLOTS
from adapter_hub.trainers.reproduction.lora_whisper.results import results
from adapter_hub.trainers.reproduction.lora_whisper.settings import Settings
from adapter_hub.trainers.reproduction.pages import (
    GAP,
    base_model_name,
    markdown,
    number,
    provenance,
    write_pages,
)
from adapter_hub.trainers.reproduction.run import Run

TITLES = {
    2: "WER under different LoRA ranks",
    3: "Base languages",
    4: "Language expansion",
    5: "Initialisation of the warm start",
}
RENDERERS = {2: rendering.table2, 3: rendering.table3, 4: rendering.table4, 5: rendering.table5}


def write_report(settings: Settings, run: Run, tell: Tell) -> Path:
    """Write README.md, results.json and plots into a run's folder; return the first.

    Args:
        settings: of the run.
        run: opened.
        tell: told why there are no plots, if so.
    """
    findings = gather_findings(settings, run)
    sampler = Resampler(settings.statistics.resamples, settings.statistics.random_seed)
    claims = orderings(findings, sampler)
    numbers = results(findings, claims, sampler, run)
    return write_pages(run, numbers, PLOTS, lambda plots: render(run, findings, claims, numbers, plots), tell)


def render(
    run: Run,
    findings: Findings,
    claims: Sequence[Ordering],
    numbers: Mapping[str, Any],
    plots: Sequence[Path] = (),
) -> str:
    """Return the report as Markdown.

    Args:
        run: opened.
        findings: of the run.
        claims: the paper's, each with its verdict.
        numbers: of results.json.
        plots: that were drawn.
    """
    parts = [_introduction(findings), "## Table 1: data, in hours\n\n" + rendering.table1(findings)]
    for number_ in findings.tables:
        parts.append(f"## Table {number_}: {TITLES[number_]}\n\n" + RENDERERS[number_](findings))
        if number_ == 4 and (gains := _gains(numbers["relative_changes"])):
            parts.append(gains)
    parts.append("## The paper's orderings\n\n" + claims_text(claims))
    if plots:
        parts.append("## Plots\n\n" + "\n".join(f"![{plot.stem}]({plot.name})\n" for plot in plots))
    if findings.known.nearest:
        parts.append("## Similarity (equation 4)\n\n" + _similarity(findings))
    if 4 in findings.tables:
        parts.append("## Forgetting\n\n" + _forgetting(findings, numbers))
    if findings.choices:
        parts.append("## Learning rates, chosen on dev\n\n" + _choices(findings))
    parts.append("## Training times\n\n" + _times(numbers))
    parts.append("## How it was made\n\n" + provenance(run, "lora-whisper"))
    return "\n".join(parts)


def _introduction(findings: Findings) -> str:
    settings = findings.settings
    text = (
        f"# LoRA-Whisper, reproduced ({settings.name})\n\n"
        f"Base model {base_model_name(settings.base_model)}; "
        "error rates in per cent: WER, for zh and ja CER (an average "
        "mixes both, as the paper's does). Mean over random seeds ± standard deviation where there are "
        "several; the paper's number below each, in italics. Best of a column in bold. "
        f"Beam {settings.decoding.test_beams}.\n"
    )
    if findings.gaps:
        text += f"\n**{len(findings.gaps)} cells are not finished; what they would show is marked {GAP}.**\n"
    return text


def _gains(changes: Sequence[Mapping[str, Any]]) -> str:
    lines = [
        f"- {change['system']} against {change['against']}, {change['group']} languages: "
        f"{100 * change['change']:+.1f} % (the paper: {100 * change['paper']:+.1f} %)\n"
        for change in changes
    ]
    return "Relative changes of the averages:\n\n" + "".join(lines) if lines else ""


def _similarity(findings: Findings) -> str:
    base = findings.settings.base_languages
    rows = []
    for language in findings.settings.new_languages:
        found = findings.outcomes.get(f"similarity/{language}")
        if found is None:
            continue
        scores, means = found["similarity"]["scores"], found["similarity"]["mean_probabilities"]
        cells = [f"{scores[k]:.3f} ({means[k]:.3f})" for k in base]
        rows.append([language.upper(), *cells, findings.known.nearest[language].upper()])
    return (
        f"Share of {findings.settings.similarity.segments} training utterances whose most probable base "
        "language it is (mean probability in brackets).\n\n"
        + markdown(["", *(k.upper() for k in base), "nearest"], rows)
    )


def _forgetting(findings: Findings, numbers: Mapping[str, Any]) -> str:
    rows = [
        [
            system,
            number(values["average"]),
            f"{values['against']} {number(values['before'])}",
            f"{values['change']:+.2f}",
        ]
        for system, values in numbers["forgetting"].items()
    ]
    text = markdown(["ID", "Base languages, average", "Before", "Change in points"], rows) if rows else ""
    lines = []
    for language, found in numbers["untouched"].items():
        lines.append(
            f"- {language}: {found['utterances']} utterances beside {len(found['neighbours'])} new adapters "
            f"in other rows: {found['different_tokens']} differ in tokens, {found['different_scores']} in "
            f"scores, {found['different_logits']} in a logit (largest difference "
            f"{found['largest_logit_difference']:g}); {found['neighbour_rows_changed']} of "
            f"{found['neighbour_rows']} neighbours were transcribed differently.\n"
        )
    if lines:
        text += (
            "\nE7, E8 and E9: the rows of table 4 repeat E4's. Base-language speech was decoded with E4's "
            "adapters, with the base model and then with the new adapters in the other rows of the batch:\n\n"
        )
    return text + "".join(lines)


def _choices(findings: Findings) -> str:
    rows = []
    for system, choice in sorted(findings.choices.items()):
        edge = "yes" if choice.at_the_edge else "no"
        rows.append([system, f"{choice.rate:g}", choice.tried(), edge])
    return (
        f"Average dev error with beam {findings.settings.decoding.dev_beams}, of the first random seed, for "
        "E7, E8 and E9 over all of them; these three share the rate that is best for them together. Chosen "
        "before any test set was decoded (`choices.json` has the times). Where the best rate is at an edge "
        "of its grid, no verdict is given against that system.\n\n"
        + markdown(["ID", "Chosen", "Dev error of each", "At the edge of the grid"], rows)
    )


def _times(numbers: Mapping[str, Any]) -> str:
    rows = [
        [
            system,
            str(t["trainings"]),
            f"{t['steps']:.0f}",
            f"{t['seconds']:.0f}",
            f"{t['seconds_per_step']:.2f}",
        ]
        for system, t in numbers["training_times"].items()
    ]
    return markdown(["ID", "Trainings", "Steps each", "Seconds each", "Seconds per step"], rows) + (
        f"\nAll cells together: {numbers['seconds'] / 3600:.2f} hours of one worker.\n"
    )
