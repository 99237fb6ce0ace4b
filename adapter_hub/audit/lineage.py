"""Does the adapter come from where it says, and what became of its ancestors? (invariant 3)."""

from __future__ import annotations

from collections.abc import Iterator

from adapter_hub.artifact.folder import lineage_problems
from adapter_hub.audit.checks import Subject, check
from adapter_hub.formats.canonical import hex_of


def _no_average(subject: Subject) -> str:
    if subject.manifest.method != "average":
        return "it is not an average"
    return _not_recomputed(subject)


def _no_extraction(subject: Subject) -> str:
    if subject.manifest.extraction is None:
        return "it was not taken out of a full model"
    return _not_recomputed(subject)


def _not_recomputed(subject: Subject) -> str:
    return "" if subject.recompute is not None else "nothing was computed again: --probe was not asked for"


@check(
    "ancestor-unsound", "error", needs="bytes", hint="pull it again; ancestors' manifests are never edited"
)
def ancestor_unsound(subject: Subject) -> Iterator[str]:
    """A file in ancestors/ is not a canonical manifest, or its name is not its digest."""
    yield from subject.ancestors[1]


@check(
    "lineage", "error", needs="bytes", hint="seal the artifact again with the parents that it was made from"
)
def lineage(subject: Subject) -> Iterator[str]:
    """A parent's manifest is missing from ancestors/, was created later, or has another base model.

    Checked for all ancestors, not only the parents: a seed or expert has to exist before its child and
    to share the base model's digest, or warm start and combination mean nothing.
    """
    ancestors, _ = subject.ancestors
    yield from lineage_problems(subject.manifest, ancestors)


@check(
    "input-shorter",
    "warning",
    needs="bytes",
    hint="do not decode it on shorter inputs than its parents know; ask its maker to seal it again",
)
def input_shorter(subject: Subject) -> Iterator[str]:
    """The adapter claims a shorter encoder input than a parent was trained on, or none at all.

    `input_seconds` is the length below which an adapter may fail, so what is made from several has the
    longest of them.
    """
    own, (ancestors, _) = subject.manifest.input_seconds, subject.ancestors
    for parent in subject.manifest.parents:
        theirs = ancestors[parent.digest].input_seconds if parent.digest in ancestors else None
        if theirs is not None and (own is None or own < theirs):
            claimed = "no input length" if own is None else f"{own:g} s"
            yield f"{claimed}, and its {parent.role} {parent.name}@{parent.version} {theirs:g} s"


@check(
    "ancestor-quarantined",
    "error",
    needs="bytes",
    hint="retire this adapter too, or train it again from a sound seed",
)
def ancestor_quarantined(subject: Subject) -> Iterator[str]:
    """An ancestor was quarantined: its bytes or data are not to be trusted, nor what was made from them."""
    yield from _retired(subject, {"quarantined"})


@check(
    "ancestor-retired", "warning", needs="bytes", hint="see `adapter-hub show` on the ancestor for the reason"
)
def ancestor_retired(subject: Subject) -> Iterator[str]:
    """An ancestor was yanked, deprecated or withdrawn; the adapter works, and its makers should know."""
    yield from _retired(subject, {"yanked", "deprecated", "withdrawn"})


@check(
    "ancestor-unregistered", "info", needs="bytes", hint="add the registry that has it, or ask its publisher"
)
def ancestor_unregistered(subject: Subject) -> Iterator[str]:
    """No registry at hand knows an ancestor, so its status is unknown; its manifest is in the artifact."""
    ancestors, _ = subject.ancestors
    for digest, manifest in ancestors.items():
        if digest not in subject.known:
            yield f"{manifest.ref} ({hex_of(digest)[:12]}…) is in no registry here"


@check(
    "average-differs",
    "error",
    needs="bytes",
    hint="do not use it; average the components that it names again",
    idle=_no_average,
)
def average_differs(subject: Subject) -> Iterator[str]:
    """An average's weights are not what its components give with the recorded weights and method.

    Computed from the components' own bytes, so only with --probe. A published update may be as far from
    the computed one as the recorded truncation and the rounding of its precision allow, and no farther.
    """
    if subject.recompute is None or subject.artifact is None or subject.manifest.method != "average":
        return
    if not list(_absent(subject)):
        parents = [subject.components[parent.digest] for parent in subject.manifest.parents]
        yield from subject.recompute(subject.artifact, parents)


@check(
    "average-unchecked",
    "info",
    needs="bytes",
    hint="pull the component, or add the registry that has it",
    idle=_no_average,
)
def average_unchecked(subject: Subject) -> Iterator[str]:
    """--probe was asked for and a component's bytes are not here, so the average cannot be computed again.

    Components are looked for in the registries' stores on this machine and in the cache, by their digests.
    """
    for ref in _absent(subject):
        yield f"{ref}, a component, is not on this machine"


@check(
    "extraction-differs",
    "error",
    needs="bytes",
    hint="do not use it; extract it from the full model again",
    idle=_no_extraction,
)
def extraction_differs(subject: Subject) -> Iterator[str]:
    """An extracted adapter is farther from its full model than its manifest says, or another one's.

    The errors of every module and of what no LoRA holds are measured again from the full model's own
    tensors, so only with --probe.
    """
    if subject.recompute is not None and subject.artifact is not None and subject.full_model is not None:
        yield from subject.recompute(subject.artifact, [subject.full_model])


@check(
    "extraction-unchecked",
    "info",
    needs="bytes",
    hint="name the full model with `audit --base-model FOLDER`",
    idle=_no_extraction,
)
def extraction_unchecked(subject: Subject) -> Iterator[str]:
    """--probe was asked for and the model that the adapter was taken out of is not here.

    It is looked for by its digest, among the base models that were named, fetched or used on this machine.
    """
    section = subject.manifest.extraction
    if subject.recompute is not None and section is not None and subject.full_model is None:
        yield f"the full model ({hex_of(section.digest)[:12]}…) is not on this machine"


def _absent(subject: Subject) -> Iterator[str]:
    """Yield the components whose bytes are missing, if an average is to be computed again."""
    if subject.recompute is not None and subject.manifest.method == "average":
        for parent in subject.manifest.parents:
            if parent.digest not in subject.components:
                yield f"{parent.name}@{parent.version} ({hex_of(parent.digest)[:12]}…)"


def _retired(subject: Subject, statuses: set[str]) -> Iterator[str]:
    ancestors, _ = subject.ancestors
    for digest in sorted(ancestors):
        told = subject.standings.of(digest, ancestors[digest].function_digest) if subject.standings else None
        known = told or subject.known.get(digest)
        if known and known.status in statuses:
            yield f"ancestor {told or f'{known.ref} is {known.status}'}"
