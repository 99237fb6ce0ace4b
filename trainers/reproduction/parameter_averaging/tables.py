"""Tables I to VIII in the paper's shape: the same rows and columns, each number above the paper's own."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import stdev

from adapter_hub.trainers.reproduction.cells import Outcome
from adapter_hub.trainers.reproduction.pages import GAP, markdown
from adapter_hub.trainers.reproduction.parameter_averaging.findings import Findings
from adapter_hub.trainers.reproduction.parameter_averaging.orderings import FIVE
from adapter_hub.trainers.reproduction.parameter_averaging.settings import (
    DOMAINS,
    ORIGINAL,
    DomainSettings,
    Settings,
    paper_numbers,
)

STANDS_FOR = {"noisy": "VCTK", "accent": "CORAAL", "phrases": "JL", "fast": "GNE"}
SPGI = STANDS_FOR | {"fast": "SPGI", "noisy": "DiPCo"}  # tables II and VI
OWN = {"avg": "Average", "F": "Forgetting"}
TITLES = {
    1: "I: layer-wise decay of the learning rate",
    2: "II: frozen decoder against decay, fine-tuned on fast (SPGI)",
    3: "III: fine-tuning, LoRA, and their averages",
    4: "IV: ways to combine experts",
    5: "V: data, in hours",
    6: "VI: three domains in sequence and averaged",
    7: "VII: four domains, three rounds",
    8: "VIII: one component four times",
}
NOTES = {
    6: "The average is over five columns: these and the two of the original domain, as in the paper.",
    7: (
        "Two averages are wrong in print: by its columns, FT on CORAAL has 7.16 (6.79 is printed), combined "
        "7.06 (7.09 is printed)."
    ),
}


def numbered(findings: Findings, table: int) -> str:
    """Return any of the tables but V.

    Args:
        findings: of the run.
        table: its number.
    """
    settings, paper = findings.settings, paper_numbers()[f"table{table}"]
    shown = FIVE if table == 6 else settings.sets
    lacking = [domain for domain in DOMAINS if domain not in settings.domains]
    columns = [column for column in paper["columns"] if column not in lacking]
    rows = []
    for row, printed in settings.rows(table).items():
        theirs = dict(zip(paper["columns"], paper[printed], strict=True))
        cells = [f"{_number(findings, row, column, shown)}<br>*{theirs[column]:g}*" for column in columns]
        rows.append([row, *cells])
    stands_for = SPGI if table in (2, 6) else STANDS_FOR
    names = [
        f"{title_of(settings, column)} ({stands_for[column]})"
        if column in settings.domains
        else OWN.get(column, column)
        for column in columns
    ]
    return markdown(["", *names], rows) + (f"\n{NOTES[table]}\n" if table in NOTES else "")


def title_of(settings: Settings, domain: str) -> str:
    """Return what a domain is called in tables.

    Args:
        settings: of the run.
        domain: one of `DOMAINS`; its place in the paper's tables.
    """
    return settings.domains[domain].title or domain


def _number(findings: Findings, row: str, column: str, shown: tuple[str, ...]) -> str:
    """Return a number in per cent, with the standard deviation over random seeds or forgetting's interval."""
    value = findings.value(row, column, shown)
    if value is None:
        return GAP
    if column == "F":
        bounds = findings.forgetting_interval(row)
        return f"{value:.1f}" + (f" ({bounds[0]:.1f} to {bounds[1]:.1f})" if bounds else "")
    if column == "avg":
        return f"{value:.1f}"
    values = findings.systems[row].values(column)
    return f"{value:.1f}" + (f" ± {100 * stdev(values):.1f}" if len(values) > 1 else "")


def data(findings: Findings, outcomes: Mapping[str, Outcome]) -> str:
    """Return table V: the domains.

    Args:
        findings: of the run.
        outcomes: of the cells that made the speech.
    """
    settings, rows = findings.settings, []
    for name in (*settings.names, "original"):
        found, original = outcomes.get(f"speech/{name}"), name == "original"
        splits: tuple[str, ...] = ORIGINAL if original else ("train", "test")
        cells = [
            f"{found['hours'][split]:.2f} ({found['utterances'][split]})" if found else GAP
            for split in splits
        ]
        label = name if original else f"{title_of(settings, name)} ({STANDS_FOR[name]})"
        rows.append([label, _original(settings) if original else _what(settings.domains[name]), *cells])
    return markdown(["Domain", "What", "Train, or clean (utterances)", "Test, or other (utterances)"], rows)


def _original(settings: Settings) -> str:
    folders = settings.original.folders
    if folders:
        return f"{folders['clean']} (clean), {folders['other']} (other)"
    return "as the base model knows it: held-out sequences (clean), harder speech (other)"


def _what(domain: DomainSettings) -> str:
    """Return what makes a domain's speech differ."""
    parts = [
        domain.folder or "",
        f"noise at {domain.snr_db[0]:g} to {domain.snr_db[1]:g} dB" if domain.snr_db else "",
        f"{domain.rate[0]} to {domain.rate[1]} words per minute" if domain.rate else "",
        f"read by voices of {domain.voice}" if domain.voice else "",
        f"{len(domain.phrases)} phrases" if domain.phrases else "",
        "expressive" if domain.pitch_range else "",
    ]
    return ", ".join(part for part in parts if part)
