"""The record of an audit: what was looked at, every check with its outcome, and what the checks rest on.

    record = AuditRecord()
    findings = audit(refs, places, record=record)
    text = render_audit(record.to_json(), "html")     # adapter_hub.cards.audit_report

Plain data, so that a page, a text and JSON say the same. Paths of this machine are in it where a folder was
audited, and where a file could not be read.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from adapter_hub.audit.checks import CHECKS, Outcome, Subject
from adapter_hub.audit.licences import lineage_licences
from adapter_hub.formats.canonical import sha256_hex
from adapter_hub.formats.claims import EvaluationReport, Finding
from adapter_hub.formats.times import utc_now
from adapter_hub.packages import package_versions
from adapter_hub.registry.contract import Registry
from adapter_hub.registry.lineage import (
    Graph,
    add_manifests,
    lineage_graph,
    lineage_json,
    render_mermaid,
    render_tree,
)

SCHEMA = "audit-report/1"
Plain = dict[str, Any]


class AuditRecord:
    """What an audit did, collected while it runs."""

    def __init__(self) -> None:
        """Note the time at which it began."""
        self._started = utc_now()
        self._graph = Graph()
        self._of_registries: list[Plain] = []
        self._subjects: list[Plain] = []

    def start(self, registries: Sequence[Registry], findings: Sequence[Finding]) -> None:
        """Take in what is known before the adapters are opened.

        Args:
            registries: that the lineage is drawn from.
            findings: on the registries themselves.
        """
        self._graph = lineage_graph(registries)
        self._of_registries = [finding.to_json() for finding in findings]

    def add(self, subject: Subject, outcomes: Sequence[Outcome]) -> None:
        """Take in a version that was checked.

        Args:
            subject: the version.
            outcomes: of every check, made or not.
        """
        known: dict[str, Any] = {"ref": subject.ref, "checks": [_of_check(outcome) for outcome in outcomes]}
        known["status"] = subject.block.status if subject.block else None
        if subject.artifact is None:
            self._subjects.append({**known, "problem": subject.problem})
            return
        digest, manifest = subject.artifact.digest, subject.manifest
        add_manifests(self._graph, {digest: manifest, **subject.ancestors[0]})
        self._subjects.append(
            {
                **known,
                "name": manifest.name,
                "version": manifest.version,
                "created": manifest.created,
                "authors": list(manifest.authors),
                "method": manifest.method,
                "digest": digest,
                "weights_digest": manifest.weights_digest,
                "function_digest": manifest.function_digest,
                "base_model": manifest.base_model.to_json(),
                "licence": manifest.license,
                "licences": [
                    {"what": item.what, "licence": item.licence, "path": item.path}
                    for item in lineage_licences(subject)
                ],
                "lineage": lineage_json(self._graph, digest),
                "tree": render_tree(self._graph, digest),
                "mermaid": render_mermaid(self._graph, digest),
                "scores": [_of_report(report) for report in subject.reports],
            }
        )

    def add_unopened(self, finding: Finding) -> None:
        """Take in a version that could not be opened at all.

        Args:
            finding: that says why.
        """
        self._subjects.append({"ref": finding.ref, "status": None, "checks": [], "problem": finding.message})
        self._of_registries.append(finding.to_json())

    def to_json(self) -> Plain:
        """Return the record as plain data."""
        made = [item for subject in self._subjects for item in subject["checks"]]
        return {
            "schema": SCHEMA,
            "started": self._started,
            "finished": utc_now(),
            "program": package_versions(["adapter-hub"]),
            "outcomes": dict(sorted(Counter(item["outcome"] for item in made).items())),
            "findings": self._of_registries,
            "subjects": self._subjects,
            "explanations": {code: item.explanation for code, item in CHECKS.items()},
        }


def _of_check(outcome: Outcome) -> Plain:
    """Return a check's outcome: `passed`, `not made` with the reason, or how grave its findings are."""
    found = [finding.to_json() for finding in outcome.findings]
    told = outcome.findings[0].severity if found else "passed"
    return {
        "code": outcome.check.code,
        "outcome": "not made" if outcome.not_made else told,
        "reason": outcome.not_made,
        "evidence": [finding["message"] for finding in found],
        "hint": outcome.check.hint if found else "",
    }


def _of_report(report: EvaluationReport) -> Plain:
    return {
        "data": report.data,
        "split": report.split,
        "data_sha256": report.data_sha256,
        "metric": report.primary,
        "value": report.value,
        "low": report.interval.low,
        "high": report.interval.high,
        "utterances": len(report.rows),
        "normaliser": report.normaliser,
        "created": report.created,
        "report_sha256": sha256_hex(report.to_bytes()),
    }
