"""Error rates by domain: of the kinds of speech that the rows of a report name.

for name, score in by_domain(report).items():
    name, score.counts.rate, score.interval.low, score.interval.high

They are computed from the rows, and no report holds them a second time.
"""

from __future__ import annotations

from dataclasses import dataclass

from adapter_hub.evaluation.intervals import interval_of
from adapter_hub.evaluation.scoring import pooled
from adapter_hub.formats.claims import ErrorCounts, EvaluationReport, Interval


@dataclass(frozen=True)
class DomainScore:
    """The errors in one domain.

    Attributes:
        utterances: how many rows name it.
        counts: of the report's primary metric.
        interval: of its rate.
    """

    utterances: int
    counts: ErrorCounts
    interval: Interval


def by_domain(report: EvaluationReport) -> dict[str, DomainScore]:
    """Return the score of each domain that rows name, sorted by name; empty if none does.

    Rows without a domain take part in the report's own rates alone.

    Args:
        report: with its rows.
    """
    found = {}
    for name in sorted({row.domain for row in report.rows if row.domain}):
        rows = [row for row in report.rows if row.domain == name]
        counts = [row.counts(report.primary) for row in rows]
        interval = interval_of(counts, [row.speaker for row in rows])
        found[name] = DomainScore(len(rows), pooled(counts), interval)
    return found
