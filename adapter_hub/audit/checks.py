"""What a check is, and what it looks at.

A check is a short function with a code: it takes a `Subject` (one adapter version with everything that
is known of it) and yields a message for everything that it finds. Its docstring is what
`adapter-hub audit --explain CODE` prints. To add a check: write the function in the module of its
theme, decorate it, and test it on a subject that has the defect.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from adapter_hub.artifact.folder import read_ancestors
from adapter_hub.errors import AdapterHubError, OutOfMemoryError
from adapter_hub.escaping import shown
from adapter_hub.formats.claims import EvaluationReport, Finding, Severity
from adapter_hub.formats.manifest import Manifest
from adapter_hub.isolation import isolated

if TYPE_CHECKING:
    from adapter_hub.artifact.folder import Artifact
    from adapter_hub.formats.registry_file import VersionBlock
    from adapter_hub.registry.standing import Standings
    from adapter_hub.stores.contract import Claims

MOST = 50  # findings of a check on one adapter
LONGEST_MESSAGE = 4000  # characters
CHECK_FAILED = "check-failed"
# what a check needs before it makes sense: nothing, a registry's entry, a readable manifest, files that
# were not withdrawn, files that are the listed ones
Needs = Literal["nothing", "entry", "manifest", "files", "bytes"]
# why there is no artifact: its manifest cannot be read, nothing is where the registry says, or it is on the
# Hub and was not pulled
Absence = Literal["unreadable", "missing", "elsewhere"]


@dataclass(frozen=True)
class BaseModelFacts:
    """A base model that is at hand.

    Attributes:
        digest: which one it is.
        linears: their shapes by path.
        licence: that its card names, as SPDX writes it; None if there is no card, or none that is known.
    """

    digest: str
    linears: Mapping[str, tuple[int, ...]]
    licence: str | None = None


@dataclass(frozen=True)
class KnownVersion:
    """What the registries say of a version, found by its digest."""

    ref: str
    status: str


@dataclass(frozen=True)
class Subject:
    """One adapter version under audit.

    Attributes:
        ref: how findings name it.
        artifact: the opened artifact, or None.
        problem: why there is no artifact; empty if there is one.
        absence: of what kind that problem is.
        block: the registry's entry, or None for a local folder.
        versions: manifests of the other versions of the name, as far as their bytes are here.
        expected: the entry that manifest and claims give, see `adapter_hub.stores.summary`.
        claims: reports and statuses that the store has on the adapter's name.
        claims_problems: what is wrong with the claims' files.
        claims_unasked: why the store could not be asked for them; empty if it was, or nobody tried.
        base_models: the base models at hand, by id or folder.
        no_base_model: why the one that the manifest pins was not found on this machine.
        known: every registered version by digest.
        standings: the strictest status of any version, with what this machine remembers.
        probe: runs the model on the artifact and yields differences; None leaves that out.
        recount: recounts a report's errors and yields differences; None leaves that out.
        components: of an average, the parents whose bytes are here, by digest; opened only if `recompute`
            is to compare them.
        full_model: that an extracted adapter was taken out of, where it is here; looked for only if
            `recompute` is to compare it.
        recompute: computes an average from its components, in the order of the manifest's parents, or the
            errors of an extracted adapter from the full model, and yields differences; None leaves that out.
    """

    ref: str
    artifact: Artifact | None = None
    problem: str = ""
    absence: Absence | None = None
    block: VersionBlock | None = None
    versions: tuple[Manifest, ...] = ()
    expected: VersionBlock | None = None
    claims: Claims | None = None
    claims_problems: tuple[str, ...] = ()
    claims_unasked: str = ""
    base_models: Mapping[str, BaseModelFacts] = field(default_factory=dict)
    no_base_model: str = ""
    known: Mapping[str, KnownVersion] = field(default_factory=dict)
    standings: Standings | None = None
    probe: Callable[[Artifact], Iterator[str]] | None = None
    recount: Callable[[EvaluationReport], Iterator[str]] | None = None
    components: Mapping[str, Artifact] = field(default_factory=dict)
    full_model: Path | None = None
    recompute: Callable[[Artifact, Sequence[Artifact | Path]], Iterator[str]] | None = None

    @property
    def reports(self) -> tuple[EvaluationReport, ...]:
        """The reports that are filed under this version's function digest."""
        if self.claims is None or self.artifact is None:
            return ()
        return self.claims.reports_on(self.manifest.function_digest)

    @cached_property
    def ancestors(self) -> tuple[Mapping[str, Manifest], list[str]]:
        """The manifests in `ancestors/` by digest, and what is wrong with the files there."""
        return read_ancestors(self.folder)

    @property
    def withdrawn(self) -> bool:
        """Whether its files were removed, rightly."""
        return self.block is not None and self.block.status == "withdrawn"

    @property
    def manifest(self) -> Manifest:
        """The manifest; checks that ask for it run only where there is one."""
        assert self.artifact is not None
        return self.artifact.manifest

    @property
    def folder(self) -> Path:
        """The artifact's folder; see `manifest`."""
        assert self.artifact is not None
        return self.artifact.path

    @property
    def base_model(self) -> BaseModelFacts | None:
        """The base model that the manifest pins, if it is at hand, under any name."""
        wanted = self.manifest.base_model.digest
        return next((facts for facts in self.base_models.values() if facts.digest == wanted), None)


CheckFunction = Callable[[Subject], Iterator[str]]
Idle = Callable[[Subject], str]  # why a check has nothing to look at; empty if it has


def never_idle(subject: Subject) -> str:
    """Return the empty text: the check can be made wherever what it needs is there."""
    return ""


def no_probe(subject: Subject) -> str:
    """Return why nothing is compared with what the model answers; empty if it is."""
    return "" if subject.probe is not None else "the model was not run: --probe was not asked for"


def no_base_model(subject: Subject) -> str:
    """Return why nothing is compared with the base model's linears; empty if it is."""
    missing = subject.no_base_model or f"{subject.manifest.base_model.id} is not here"
    return "" if subject.base_model is not None else f"the base model is not at hand: {missing}"


def no_claims(subject: Subject) -> str:
    """Return why the store's reports and statuses are not known; empty if they are."""
    if subject.claims is not None or subject.claims_problems:
        return ""
    return subject.claims_unasked or "the store was not asked for reports and statuses"


@dataclass(frozen=True)
class Check:
    """A check.

    Attributes:
        code: its stable name.
        severity: how grave a finding is.
        needs: what has to be there for it to make sense.
        hint: what to do about a finding.
        run: yields a message for everything that it finds.
        idle: why it has nothing to look at, where that is so.
    """

    code: str
    severity: Severity
    needs: Needs
    hint: str
    run: CheckFunction
    idle: Idle = never_idle

    @property
    def explanation(self) -> str:
        """What `--explain` prints."""
        return inspect.cleandoc(self.run.__doc__ or "")

    def findings(self, subject: Subject) -> list[Finding]:
        """Run the check on a subject; of thousands of findings the first are listed and the rest counted."""
        findings: list[Finding] = []

        def add(message: str) -> None:
            findings.append(self._finding(subject, message))

        def failed(error: AdapterHubError) -> None:
            findings.append(check_failed(subject.ref, self.code, error))

        with isolated(subject.ref, failed, through=OutOfMemoryError):  # which says nothing of the adapter
            messages = self.run(subject)
            for message in islice(messages, MOST):
                add(message)
            if rest := sum(1 for _ in messages):
                add(f"… and {rest} more like these")
        return findings

    def _finding(self, subject: Subject, message: str) -> Finding:
        return Finding(
            code=self.code,
            severity=self.severity,
            ref=subject.ref,
            message=shown(message, LONGEST_MESSAGE),
            hint=self.hint,
        )


CHECKS: dict[str, Check] = {}


def check_failed(ref: str, what: str, error: AdapterHubError) -> Finding:
    """Return the finding that a check, or the look at an adapter, could not be finished.

    Args:
        ref: of the adapter.
        what: the check's code, or what was done.
        error: that ended it.
    """
    return Finding(
        code=CHECK_FAILED,
        severity="error",
        ref=ref,
        message=shown(f"{what}: {error}", LONGEST_MESSAGE),
        hint="do not use it; the other checks were made, and the other adapters were checked",
    )


def check(
    code: str,
    severity: Severity,
    *,
    needs: Needs = "manifest",
    hint: str = "",
    idle: Idle = never_idle,
) -> Callable[[CheckFunction], CheckFunction]:
    """Enter a function into the table of checks under `code`.

    Args:
        code: stable name, in kebab case.
        severity: of its findings.
        needs: what has to be there for the check to make sense.
        hint: what to do about a finding.
        idle: why it has nothing to look at; the reports of audits say so.
    """

    def enter(function: CheckFunction) -> CheckFunction:
        assert code not in CHECKS, code
        CHECKS[code] = Check(code, severity, needs, hint, function, idle)
        return function

    return enter


@dataclass(frozen=True)
class Outcome:
    """What became of a check on a subject.

    Attributes:
        check: which one.
        findings: what it found; none if it passed or was not made.
        not_made: why it was not; empty if it was.
    """

    check: Check
    findings: tuple[Finding, ...] = ()
    not_made: str = ""


def outcomes_of(subject: Subject) -> Iterator[Outcome]:
    """Yield the outcome of every check; those that look inside files come last.

    They run only if the files are the listed ones: a changed file is one finding, not ten.

    Args:
        subject: one adapter version.
    """
    differing = False
    for item in sorted(CHECKS.values(), key=lambda item: item.needs == "bytes"):
        if why := _not_ready(item.needs, subject, differing=differing) or item.idle(subject):
            yield Outcome(item, not_made=why)
            continue
        findings = tuple(item.findings(subject))
        differing |= any(finding.code in ("files-differ", "unsafe-file") for finding in findings)
        yield Outcome(item, findings)


def _not_ready(needs: Needs, subject: Subject, *, differing: bool) -> str:
    """Return why what a check needs is not there; empty if it is."""
    if needs == "entry" and subject.block is None:
        return "a folder that no registry lists"
    if needs in ("manifest", "files", "bytes") and subject.artifact is None:
        return f"there is nothing to look at: {subject.problem}"
    if needs in ("files", "bytes") and subject.withdrawn:
        return "its files were withdrawn"
    return "its files are not the listed ones" if needs == "bytes" and differing else ""
