"""Do the licences go together, from the data and the base model down to the adapter?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from adapter_hub.audit.checks import Subject, check
from adapter_hub.formats.licences import NO_LICENCE, lost_conditions, unknown_ids
from adapter_hub.formats.manifest import Manifest


@dataclass(frozen=True)
class Licensed:
    """Something that an adapter was made from.

    Attributes:
        what: it is, for people.
        licence: the expression recorded for it; None if there is none.
        path: how it came to the adapter, from the adapter on, like `a/b@1.0.0 ← seed c/d@1.0.0`.
        own: whether the adapter was made from it directly, with nothing between.
    """

    what: str
    licence: str | None
    path: str
    own: bool


def lineage_licences(subject: Subject) -> list[Licensed]:
    """Return what a version was made from with its licence: base model, data and ancestors, nearest first.

    Args:
        subject: with a manifest.
    """
    found: list[Licensed] = []
    if subject.base_model is not None and subject.base_model.licence is not None:
        base = f"base model {subject.manifest.base_model.id}"
        found.append(Licensed(base, subject.base_model.licence, f"{subject.manifest.ref} ← {base}", True))
    ancestors, _ = subject.ancestors
    waiting: list[tuple[Manifest, str]] = [(subject.manifest, subject.manifest.ref)]
    seen: set[str] = set()
    for manifest, path in waiting:  # which grows: nearest first
        own = manifest is subject.manifest
        for source in manifest.data:
            what = f"data set {source.id} ({source.split})"
            found.append(Licensed(what, source.license, f"{path} ← {what}", own))
        for parent in manifest.parents:
            made_from = ancestors.get(parent.digest)
            if made_from is not None and parent.digest not in seen:
                seen.add(parent.digest)
                there = f"{path} ← {parent.role} {made_from.ref}"
                waiting.append((made_from, there))
                found.append(Licensed(f"{parent.role} {made_from.ref}", made_from.license, there, own))
    return found


@check(
    "licence-conflict",
    "warning",
    needs="bytes",
    hint="ask whoever holds the rights, or publish a version under a licence that keeps the condition",
)
def licence_conflict(subject: Subject) -> Iterator[str]:
    """The adapter's licence drops a condition of what it was made from: data, base model, or an ancestor.

    Compared are the SPDX expressions on record: share-alike, non-commercial, no-derivatives and OpenRAIL's
    limits of use, each with the way that it came. It is a hint for people, not legal advice: a holder of
    the rights may have agreed, and whether weights are derived from data is for courts.
    """
    own = subject.manifest.license
    for item in lineage_licences(subject):
        if item.licence is not None and (lost := lost_conditions(item.licence, own)):
            yield f"{own} does not keep what {item.licence} asks ({'; '.join(lost)}): {item.path}"


@check("licence-unknown", "info", needs="bytes", hint="read it yourself, or ask its author")
def licence_unknown(subject: Subject) -> Iterator[str]:
    """What a licence in the lineage asks for is not known here, so it was not compared.

    It is none of SPDX's, one of its author's own (`LicenseRef-…`), one that the small table of this program
    lacks, or an ancestor or its data have none on record.
    """
    own = subject.manifest.license
    if own not in NO_LICENCE and (strange := unknown_ids(own)):  # without one it is licence-missing
        yield f"{', '.join(strange)}: {subject.manifest.ref}"
    for item in lineage_licences(subject):
        if item.licence is None or item.licence in NO_LICENCE:
            if not item.own or item.licence is not None:  # its own data are data-licence-missing
                yield f"no licence on record: {item.path}"
        elif strange := unknown_ids(item.licence):
            yield f"{', '.join(strange)}: {item.path}"
