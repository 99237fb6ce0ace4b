"""What a run found, gathered from its finished tests: scores of every row, forgetting, averages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from adapter_hub.evaluation.forgetting import relative_increase
from adapter_hub.formats.claims import EvaluationReport
from adapter_hub.trainers.reproduction.comparing import (
    Resampler,
    System,
    TestScore,
    increase_interval,
)
from adapter_hub.trainers.reproduction.parameter_averaging.plan import ORACLE, tests_of
from adapter_hub.trainers.reproduction.parameter_averaging.settings import ORIGINAL, Settings
from adapter_hub.trainers.reproduction.run import Run

PRETRAINED = "pretrained"


@dataclass(frozen=True)
class Findings:
    """Everything that the report is made of.

    Attributes:
        settings: of the run.
        systems: by the rows' names.
        gaps: cells that are not finished.
        sampler: of the intervals.
    """

    settings: Settings
    systems: Mapping[str, System]
    gaps: Sequence[str]
    sampler: Resampler

    def forgetting(self, row: str) -> float | None:
        """Return how much worse a row is on the original domain, per cent; the mean over random seeds.

        Args:
            row: by its name in `paper.toml`.
        """
        before, after = self.original(PRETRAINED), self.original(row)
        return relative_increase(before, after) if before and after is not None else None

    def forgetting_interval(self, row: str) -> tuple[float, float] | None:
        """Return the 95 % interval of `forgetting`, per cent.

        Args:
            row: by its name in `paper.toml`.
        """
        if row == PRETRAINED or self.forgetting(row) is None:
            return None
        system, base = self.systems[row], self.systems[PRETRAINED]
        low, high = increase_interval(self.sampler, system, base, ORIGINAL)
        return 100 * low, 100 * high

    def original(self, row: str) -> float | None:
        """Return the average error rate on the sets of the original domain.

        Args:
            row: by its name in `paper.toml`.
        """
        return self.systems[row].average(ORIGINAL) if row in self.systems else None

    def value(self, row: str, column: str, shown: Sequence[str]) -> float | None:
        """Return a number of a table in per cent.

        Args:
            row: by its name in `paper.toml`.
            column: a test set, `avg` or `F`.
            shown: the test sets that the average is over.
        """
        if column == "F":
            return self.forgetting(row)
        system = self.systems.get(row)
        value = system.average(shown if column == "avg" else (column,)) if system else None
        return None if value is None else 100 * value


def gather_findings(settings: Settings, run: Run) -> Findings:
    """Read what a run has finished.

    Args:
        settings: of the run.
        run: opened.
    """
    systems, seeds = {}, len(settings.training.random_seeds)
    for row, cells in tests_of(run.plan.cells).items():
        scores: dict[str, dict[int, TestScore]] = {}
        for cell in cells:
            for test, name in run.outcomes.get(cell.name, {}).get("reports", {}).items():
                path = run.folder / "evaluations" / name
                report = EvaluationReport.parse(path.read_bytes(), str(path))
                scores.setdefault(test, {})[cell.work.random_seed] = TestScore.of(report)
        if scores:
            systems[row] = System(row, scores, 1 if row == PRETRAINED else seeds)
    loras = {domain: systems.get(f"lora-{domain}") for domain in settings.names}
    if PRETRAINED in systems and None not in loras.values():
        own = {domain: lora.scores[domain] for domain, lora in loras.items() if lora is not None}
        base = {test: systems[PRETRAINED].scores[test] for test in ORIGINAL}
        systems[ORACLE] = System(ORACLE, own | base, seeds)
    gaps = [cell.name for cell in run.plan.cells if cell.name not in run.outcomes]
    sampler = Resampler(settings.statistics.resamples, settings.statistics.random_seed)
    return Findings(settings, systems, gaps, sampler)
