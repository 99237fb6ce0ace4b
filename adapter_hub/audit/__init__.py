"""Audit: every promise of artifacts and registries, checked from the bytes up, without torch.

    for finding in audit():
        print(finding.severity, finding.ref, finding.code, finding.message)

`EXPLANATIONS` has the meaning of every code. Each theme has a module, each check a short function
in it; see `adapter_hub.audit.checks` for how to add one. Nothing is trusted: digests are recomputed,
links are not followed, nothing is unpickled.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

from adapter_hub.audit import claims, contents, identity, licences, lineage, privacy, provenance
from adapter_hub.audit.checks import CHECK_FAILED, CHECKS, check_failed, outcomes_of
from adapter_hub.audit.record import AuditRecord
from adapter_hub.audit.subjects import Probe, Recompute, Recount, Subjects
from adapter_hub.errors import AdapterHubError, OutOfMemoryError
from adapter_hub.exchange.places import Places
from adapter_hub.formats.claims import Finding
from adapter_hub.formats.registry_file import unreadable_ref
from adapter_hub.isolation import isolated
from adapter_hub.registry.contract import Registry

__all__ = ["EXPLANATIONS", "THEMES", "AuditRecord", "audit"]

THEMES = (
    identity,
    contents,
    lineage,
    claims,
    provenance,
    licences,
    privacy,
)  # importing them fills the table of checks
_OF_REGISTRIES = {
    "entry-unreadable": (
        "warning",
        """A registry's entry was written by a newer program, or breaks the rules.

It is skipped and preserved; `adapter-hub registry rebuild` writes it again where a store has the version.""",
    ),
    CHECK_FAILED: (
        "error",
        """A check, or opening an adapter, could not be finished because of an unforeseen fault.

Such an adapter was not checked completely, so do not rely on it. The other checks were made.""",
    ),
    "version-conflict": (
        "error",
        """Two registries list one (name, version) with different digests.

A version never changes (invariant 1), so one of them is wrong; resolving the name is an error.""",
    ),
}
EXPLANATIONS: Mapping[str, str] = {code: check.explanation for code, check in CHECKS.items()} | {
    code: text for code, (_, text) in _OF_REGISTRIES.items()
}


def audit(
    refs: Sequence[str] = (),
    places: Places | None = None,
    *,
    base_models: Mapping[str, Path] | None = None,
    probe: Probe | None = None,
    recount: Recount | None = None,
    recompute: Recompute | None = None,
    record: AuditRecord | None = None,
) -> list[Finding]:
    """Return what is wrong, doubtful or unknown, by reference; an empty list if nothing is.

    Args:
        refs: registered adapters or artifacts' folders; empty means everything that is registered.
        places: the registries, and the cache, whose adapters stand for those whose store is on the Hub; the
            user's by default.
        base_models: folders of base models at hand by id, beside the embedded one.
        probe: runs the model, see `adapter_hub.decoding.probe`; None leaves that check out.
        recount: recounts a report's errors, see `adapter_hub.evaluation.scoring`; None leaves that out.
        recompute: computes an average from its components' bytes, or an extracted adapter's errors from the
            full model, see `adapter_hub.trainers.averaging.recomputing.differences` and
            `adapter_hub.trainers.averaging.extracting.extraction_differences`; None leaves that out.
        record: is told every check and its outcome, for a report; None where only the findings are wanted.

    Raises:
        NotFoundError: a reference names nothing. InvalidInputError: a registry cannot be read.
        OutOfMemoryError: there is no memory to run the model, which says nothing about the adapters.
    """
    subjects = Subjects((places or Places()).opened(), base_models, probe, recount, recompute)
    findings = [] if refs else list(_of_registries(subjects.registries))
    if record is not None:
        record.start(subjects.registries, findings)
    for ref, open_subject in subjects.named(refs) if refs else subjects.everything():
        with isolated(ref, partial(_not_opened, findings, record, ref), through=OutOfMemoryError):
            subject = open_subject()
            outcomes = list(outcomes_of(subject))
            findings += (finding for outcome in outcomes for finding in outcome.findings)
            if record is not None:
                record.add(subject, outcomes)
    return findings


def _not_opened(
    findings: list[Finding], record: AuditRecord | None, ref: str, error: AdapterHubError
) -> None:
    findings.append(check_failed(ref, "opening it", error))
    if record is not None:
        record.add_unopened(findings[-1])


def _of_registries(registries: Sequence[Registry]) -> Iterator[Finding]:
    digests: dict[str, tuple[str, Registry]] = {}
    for registry in registries:
        for (name, version), why in registry.unreadable.items():
            yield Finding(
                code="entry-unreadable",
                severity="warning",
                ref=unreadable_ref(name, version),
                message=f"its entry in {registry.label} cannot be read: {why}",
                hint="upgrade adapter-hub to check it, or `adapter-hub registry rebuild` writes it again",
            )
        for name, versions in registry.adapters.items():
            for version, block in versions.items():
                ref = f"{name}@{version}"
                digest, first = digests.setdefault(ref, (block.digest, registry))
                if digest != block.digest:
                    yield Finding(
                        code="version-conflict",
                        severity="error",
                        ref=ref,
                        message=f"{digest} in {first.label}, {block.digest} in {registry.label}",
                        hint="name the registry to trust with --registry",
                    )
