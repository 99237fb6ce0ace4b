"""Tables 1 to 5 in the paper's shape: the same rows, columns and numbers, each above the paper's own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from adapter_hub.trainers.reproduction.lora_whisper.findings import SCRATCH, Findings
from adapter_hub.trainers.reproduction.lora_whisper.settings import paper_numbers
from adapter_hub.trainers.reproduction.lora_whisper.shapes import lora_parameters
from adapter_hub.trainers.reproduction.pages import GAP, base_model_name, markdown, number, shown, with_paper

FINETUNE = {
    "E1": "No",
    "E2": "Full (multilingual)",
    "E3": "Full (monolingual)",
    "E4": "LoRA",
    "E5": "Full",
    "E6": "Full+",
    "E7": "LoRA",
    "E8": "Warm start",
    "E9": "LoRA MoE (expert pair)",
}
SEED_MODEL = {"E1": "E1", "E2": "E2", "E5": "E2", "E6": "E2", "E7": "E4", "E8": "E4", "E9": "E4"}


def table1(findings: Findings) -> str:
    """Hours of training and test data."""
    paper = paper_numbers()["table1"]
    rows = []
    for language in findings.settings.languages:
        found = findings.outcomes.get(f"speech/{language}")
        hours = {
            split: f"{found['hours'][split]:.2f}" if found else GAP for split in ("train", "dev", "test")
        }
        counts = [str(findings.settings.utterances(language, split)) for split in ("train", "test")]
        base = language in findings.settings.base_languages
        rows.append(
            [
                "Multilingual ASR" if base else "Language expansion",
                language.upper(),
                f"{hours['train']}<br>*{paper['train'].get(language, GAP)}*",
                f"{hours['test']}<br>*{paper['test'].get(language, GAP)}*",
                hours["dev"],
                *counts,
            ]
        )
    headings = ["Experiment", "Language", "Train", "Test", "Dev", "Train utterances", "Test utterances"]
    return markdown(headings, rows)


def table2(findings: Findings) -> str:
    """Ranks on one language."""
    settings, paper = findings.settings, paper_numbers()["table2"]
    ranks = settings.rank_sweep.ranks
    theirs = len(ranks) == len(paper["ranks"])
    headings = ["Rank r", *map(str, ranks)]
    parameters = ["#LoRA param", *(_rank_parameters(findings, rank) for rank in ranks)]
    language = settings.rank_sweep.language
    rates = [
        with_paper(shown(findings.ranks.get(rank), language), paper["wer"][i] if theirs else None)
        for i, rank in enumerate(ranks)
    ]
    rows = [parameters, [f"WER ({language.upper()})", *rates]]
    if theirs:
        small = [lora_parameters("whisper-small", rank) for rank in paper["ranks"]]
        rows += [
            ["*the paper's rank*", *(f"*{rank}*" for rank in paper["ranks"])],
            ["*the paper's #LoRA param*", *(f"*{count:.1f}M*" for count in paper["parameters"])],
            ["#LoRA param recomputed for whisper-small", *(f"{count / 1e6:.3f}M" for count in small)],
        ]
    return markdown(headings, rows)


def _rank_parameters(findings: Findings, rank: int) -> str:
    for cell in findings.cells:
        if cell.work.system == "E4" and cell.work.rank == rank and cell.name in findings.outcomes:
            found = findings.outcomes[cell.name].get("parameters")
            if found:
                return parameters_text(found)
    return GAP


def parameters_text(count: int) -> str:
    """Return a number of parameters as the paper writes it."""
    return f"{count / 1e6:.1f}M" if count >= 1e7 else f"{count / 1e3:.0f}K"


def table3(findings: Findings) -> str:
    """Base languages: E1 to E4."""
    languages = findings.settings.base_languages
    headings = ["ID", "Model", "Finetune", "#Train param", *(k.upper() for k in languages), "Avg"]
    rows = []
    values = _group(findings, ("E1", "E2", "E3", "E4"), languages, "base")
    for system in ("E1", "E2", "E3", "E4"):
        rows.append(
            [system, _model(findings, system), FINETUNE[system], _trained(findings, system), *values[system]]
        )
    return markdown(headings, rows)


def table4(findings: Findings) -> str:
    """New and base languages: E1, E2, E5 to E9."""
    base, new = findings.settings.base_languages, findings.settings.new_languages
    systems = ("E1", "E2", "E5", "E6", "E7", "E8", "E9")
    left = _group(findings, tuple(s for s in systems if s != "E2"), new, "new")
    # E7, E8 and E9 leave the base languages' adapters alone: their rows repeat E4's, see the proof below
    stand_in = {"E7": "E4", "E8": "E4", "E9": "E4"}
    right = _group(findings, systems, base, "base", stand_in)
    headings = ["ID", "Model", "Finetune", "Seed model", "#Train param"]
    headings += [*(k.upper() for k in new), "Avg new", *(k.upper() for k in base), "Avg base"]
    rows = []
    for system in systems:
        new_cells = left.get(system, ["-"] * (len(new) + 1))
        about = ["No" if system == "E2" else FINETUNE[system], SEED_MODEL[system]]
        count = "-" if system == "E2" else _trained(findings, system)
        rows.append([system, _model(findings, system), *about, count, *new_cells, *right[system]])
    return markdown(headings, rows)


def table5(findings: Findings) -> str:
    """Initialisations of the warm start."""
    settings, paper = findings.settings, paper_numbers()["table5"]
    columns = (SCRATCH, *settings.base_languages)
    rows = []
    for language in settings.new_languages:
        systems, theirs = findings.initialisations.get(language, {}), paper.get(language, {})
        values = {k: systems[k].value(language) if k in systems else None for k in columns}
        known = [value for value in values.values() if value is not None]
        cells = []
        for k in columns:
            text = shown(systems.get(k), language)
            best = len(known) == len(columns) and values[k] == min(known)
            cells.append(with_paper(f"**{text}**" if best else text, theirs.get(k)))
        nearest = findings.known.nearest.get(language, GAP).upper()
        most = f"{nearest}<br>*{theirs['most_similar'].upper()}*" if theirs else nearest
        rows.append([language.upper(), most, *cells])
    headings = ["New language", "Most similar language", "-", *(k.upper() for k in settings.base_languages)]
    return markdown(headings, rows)


def _group(
    findings: Findings,
    systems: Sequence[str],
    languages: Sequence[str],
    group: str,
    stand_in: Mapping[str, str] | None = None,
) -> dict[str, list[str]]:
    """Return the cells of some columns and their average, the best of each column in bold."""
    paper, stand_in = paper_numbers()[group], stand_in or {}
    found = {s: findings.systems.get(stand_in.get(s, s)) for s in systems}
    values: dict[str, list[float | None]] = {
        s: [*(system.value(k) for k in languages), system.average(languages)]
        if system
        else [None] * (len(languages) + 1)
        for s, system in found.items()
    }
    columns = zip(*values.values(), strict=True)
    best = [min((v for v in column if v is not None), default=None) for column in columns]
    out: dict[str, list[str]] = {}
    for s in systems:
        theirs: dict[str, Any] = paper.get(stand_in.get(s, s), {})
        cells = []
        for i, language in enumerate((*languages, "avg")):
            text = number(values[s][i]) if language == "avg" else shown(found[s], language)
            if values[s][i] is not None and values[s][i] == best[i]:
                text = f"**{text}**"
            cells.append(with_paper(text, theirs.get(language)))
        out[s] = cells
    return out


def _model(findings: Findings, system: str) -> str:
    name = base_model_name(findings.settings.base_model).rpartition("/")[2]
    return name if system in ("E1", "E2", "E3", "E5", "E6") else f"LoRA-Whisper ({name})"


def _trained(findings: Findings, system: str) -> str:
    """Return the number of trained parameters, per model and of how many models."""
    if system == "E1":
        return "-"
    found = findings.trained(system)
    if not found:
        return GAP
    models = 1
    if system in ("E3", "E4"):
        models = len(findings.settings.base_languages)
    elif system in ("E7", "E8", "E9"):
        models = len(findings.settings.new_languages)
    text = parameters_text(found[0]["parameters"])
    return f"{text}*{models}".replace("*", "×") if models > 1 else text
