"""What a run found, gathered from its finished cells: scores by system, similarity, forgetting, times."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from adapter_hub.formats.claims import EvaluationReport
from adapter_hub.trainers.reproduction.cells import Cell, Outcome
from adapter_hub.trainers.reproduction.choices import Choice
from adapter_hub.trainers.reproduction.comparing import System, TestScore
from adapter_hub.trainers.reproduction.lora_whisper.plan import Known, nearest_languages, rates_of
from adapter_hub.trainers.reproduction.lora_whisper.settings import Settings
from adapter_hub.trainers.reproduction.lora_whisper.systems import EXPANSION, Work
from adapter_hub.trainers.reproduction.run import Run

SCRATCH = "scratch"


@dataclass
class Findings:
    """Everything that the report is made of.

    Attributes:
        settings: of the run.
        tables: that the report is about.
        cells: the plan as it is now.
        outcomes: of finished cells.
        known: chosen rates, nearest languages.
        choices: how the rates were chosen.
        systems: E1 to E9.
        initialisations: table 5, by new language and initialisation (a base language or `scratch`).
        ranks: table 2.
        gaps: cells of these tables that are not finished.
    """

    settings: Settings
    tables: Sequence[int]
    cells: Sequence[Cell[Work]]
    outcomes: Mapping[str, Outcome]
    known: Known
    choices: Mapping[str, Choice]
    systems: dict[str, System] = field(default_factory=dict)
    initialisations: dict[str, dict[str, System]] = field(default_factory=dict)
    ranks: dict[int, System] = field(default_factory=dict)
    gaps: list[str] = field(default_factory=list)

    def trained(self, system: str) -> list[Outcome]:
        """Return the outcomes of a system's trainings at the chosen rate."""
        rate = self.known.rates.get(system)
        found = []
        for cell in self.cells:
            work = cell.work
            if cell.kind != "training" or work.system != system or work.rate != rate:
                continue
            plain = work.parent in (None, self.known.nearest.get(work.languages[0]))
            if plain and work.rank in (0, self.settings.lora.rank) and cell.name in self.outcomes:
                found.append(self.outcomes[cell.name])
        return found


def gather_findings(settings: Settings, run: Run) -> Findings:
    """Read what a run has finished.

    Args:
        settings: of the run.
        run: opened.
    """
    cells, outcomes, choices = run.plan.cells, run.outcomes, run.plan.choices
    known = Known(rates_of(choices), nearest_languages(settings, outcomes))
    findings = Findings(settings, run.tables, cells, outcomes, known, choices)
    findings.gaps = [cell.name for cell in cells if cell.name not in outcomes]
    scores: dict[tuple[str, str], dict[str, dict[int, TestScore]]] = {}
    for cell in cells:
        if cell.kind == "test" and cell.name in outcomes:
            path = run.folder / "evaluations" / outcomes[cell.name]["report"]
            score = TestScore.of(EvaluationReport.parse(path.read_bytes(), str(path)))
            language, seed = cell.work.languages[0], cell.work.random_seed
            for row in _rows_of(cell, findings):
                scores.setdefault(row, {}).setdefault(language, {})[seed] = score
    for (table, name), found in scores.items():
        _place(findings, table, name, found)
    return findings


def _rows_of(cell: Cell[Work], findings: Findings) -> list[tuple[str, str]]:
    """Return which rows of which tables a test belongs to."""
    work, settings = cell.work, findings.settings
    rows, language = [], work.languages[0]
    nearest = findings.known.nearest.get(language)
    if work.rank in (0, settings.lora.rank) and work.parent in (None, nearest):
        rows.append(("system", work.system))
    if work.system in ("E7", "E8"):
        rows.append(("start", work.parent or SCRATCH))
    if work.system == "E4" and language == settings.rank_sweep.language:
        rows.append(("rank", str(work.rank)))
    return rows


def _place(findings: Findings, table: str, name: str, scores: Mapping[str, dict[int, TestScore]]) -> None:
    several = len(findings.settings.training.random_seeds)
    if table == "system":
        findings.systems[name] = System(name, scores, several if name in EXPANSION else 1)
    elif table == "rank":
        findings.ranks[int(name)] = System(f"rank {name}", scores)
    else:
        for language, found in scores.items():
            systems = findings.initialisations.setdefault(language, {})
            systems[name] = System(f"from {name}", {language: found}, several)
