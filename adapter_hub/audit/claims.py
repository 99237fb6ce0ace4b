"""Are the scores shown those measured, on these weights, this base model, this data? (invariant 7)."""

from __future__ import annotations

from collections.abc import Iterator

from adapter_hub.audit.checks import Subject, check, no_claims
from adapter_hub.formats.canonical import sha256_hex
from adapter_hub.formats.claims import Beside, ErrorCounts, EvaluationReport
from adapter_hub.stores.summary import scores_of


def _no_reports(subject: Subject) -> str:
    return no_claims(subject) or ("" if subject.reports else "no report is attached")


def _not_recounted(subject: Subject) -> str:
    return _no_reports(subject) or ("" if subject.recount else "jiwer is not installed, which counts errors")


@check("claim-unreadable", "error", needs="nothing", hint="evaluate again with --attach")
def claim_unreadable(subject: Subject) -> Iterator[str]:
    """A report or status file is damaged, is filed under another adapter, or is not named by its sha256.

    Reading a report also adds its rows up: pooled counts that are not the sum of the rows are refused.
    """
    yield from subject.claims_problems


@check("claims-elsewhere", "info", needs="entry", hint="audit it again where its store can be reached")
def claims_elsewhere(subject: Subject) -> Iterator[str]:
    """The store of a version could not be reached, so its scores, reports and statuses were not checked.

    The bytes were, as far as they are on this machine.
    """
    if subject.claims_unasked:
        yield f"not reachable, not checked: {subject.claims_unasked}"


@check(
    "report-differs",
    "error",
    hint="remove it; scores are never inherited by another base model",
    idle=_no_reports,
)
def report_differs(subject: Subject) -> Iterator[str]:
    """A report on this adapter used another base model than the one that the manifest pins."""
    for report in subject.reports:
        if report.base_model_digest != subject.manifest.base_model.digest:
            yield f"{_name(report)} used base model {report.base_model_digest}"


@check("report-inconsistent", "error", hint="evaluate again with --attach", idle=_no_reports)
def report_inconsistent(subject: Subject) -> Iterator[str]:
    """A report contradicts itself: its interval does not hold its value, or an utterance counts twice."""
    for report in subject.reports:
        low, value, high = report.interval.low, report.value, report.interval.high
        if not low - 1e-9 <= value <= high + 1e-9:
            yield f"{_name(report)}: {report.primary} {value:.4f} is outside {low:.4f} to {high:.4f}"
        if len({row.id for row in report.rows}) != len(report.rows):
            yield f"{_name(report)}: an utterance occurs twice"


@check("report-miscounted", "error", hint="remove it, or evaluate again with --attach", idle=_not_recounted)
def report_miscounted(subject: Subject) -> Iterator[str]:
    """A report's errors of words or characters are not those that its own texts give.

    Every row holds the reference and the hypothesis; both are normalised as the report says and compared.
    """
    for report in subject.reports if subject.recount else ():
        assert subject.recount is not None
        for difference in subject.recount(report):
            yield f"{_name(report)}, {difference}"


@check(
    "forgetting-unsupported",
    "error",
    hint="attach the reports on all its test sets: `compare --attach`",
    idle=_no_reports,
)
def forgetting_unsupported(subject: Subject) -> Iterator[str]:
    """A report says what was forgotten on a test set that no attached report has these counts of.

    The adapter's errors are those of a report on the same test set, and the base model's are beside it.
    """
    counted = {
        (report.data_sha256, _primary(report, other), _primary(report, report))
        for report in subject.reports
        for other in report.beside or ()
        if other.is_base_model
    }
    for report in subject.reports:
        for item in report.forgetting.sets if report.forgetting else ():
            if (item.data_sha256, item.before, item.after) not in counted:
                yield f"{_name(report)}: forgetting on {item.data} {item.split}: in no attached report"


@check("score-unsupported", "error", needs="entry", hint="run `adapter-hub registry rebuild`", idle=no_claims)
def score_unsupported(subject: Subject) -> Iterator[str]:
    """The registry shows a score that no attached report's counts give.

    A score names data, split, normaliser and decoding; a report on this function digest with the same ones
    has to give the same value and number of utterances (invariant 7).
    """
    known = subject.claims is not None or subject.claims_problems
    if subject.block is None or subject.artifact is None or not known:
        return  # nobody asked the store, or it could not be reached
    supported = set(scores_of(subject.reports))
    for score in subject.block.scores:
        if score not in supported:
            yield f"{score.metric} {score.value:.4f} on {score.data} {score.split}: in no attached report"


@check("score-missing", "warning", needs="entry", hint="run `adapter-hub registry rebuild`", idle=no_claims)
def score_missing(subject: Subject) -> Iterator[str]:
    """A report is attached in the store and the registry does not show its score."""
    if subject.block is None:
        return
    shown = set(subject.block.scores)
    for score in scores_of(subject.reports):
        if score not in shown:
            yield f"{score.metric} {score.value:.4f} on {score.data} {score.split} is not in the registry"


@check("status-differs", "error", needs="entry", hint="run `adapter-hub registry rebuild`", idle=no_claims)
def status_differs(subject: Subject) -> Iterator[str]:
    """The registry's status or reason of a version is not the last one in the store's status.json."""
    if subject.block is None or subject.expected is None:
        return
    for name in ("status", "reason", "since"):
        found, wanted = getattr(subject.block, name), getattr(subject.expected, name)
        if found != wanted:
            yield f"the registry's {name} is {found}, status.json gives {wanted}"


@check("quarantine-elsewhere", "error", hint="do not use it, or ask who put it into quarantine")
def quarantine_elsewhere(subject: Subject) -> Iterator[str]:
    """The adapter is in quarantine, although what lists it does not say so.

    This machine remembers so, or another version that does the same (its function digest) is in
    quarantine: what an adapter does is not made better by another name.
    """
    if subject.standings is None or subject.artifact is None:
        return
    own = subject.standings.of(subject.artifact.digest, subject.manifest.function_digest)
    listed = subject.block is not None and subject.block.status == "quarantined"
    if own and own.status == "quarantined" and not listed:
        yield f"does the same as {own}" if own.other else str(own)


@check("status-foreign", "error", hint="remove the entry; it was written for other bytes", idle=no_claims)
def status_foreign(subject: Subject) -> Iterator[str]:
    """An entry of status.json is about this version's number and another digest."""
    for entry in subject.claims.statuses if subject.claims else ():
        about_this = entry.version == subject.manifest.version
        if about_this and subject.artifact and entry.digest != subject.artifact.digest:
            yield f"status {entry.status} of {entry.time} is about {entry.digest}"


def _primary(report: EvaluationReport, counts: EvaluationReport | Beside) -> ErrorCounts:
    return counts.words if report.primary == "wer" else counts.characters


def _name(report: EvaluationReport) -> str:
    return f"report {sha256_hex(report.to_bytes())[:12]}…"
