"""Is the version what its name, its digest and the registry say? (invariants 1 and 4)."""

from __future__ import annotations

from collections.abc import Iterator

from packaging.version import Version

from adapter_hub.audit.checks import Subject, check
from adapter_hub.errors import AdapterHubError
from adapter_hub.formats.versions import check_version_step

_CHECKED_ELSEWHERE = frozenset({"digest", "locations", "scores", "status", "reason"})


@check(
    "manifest-unreadable",
    "error",
    needs="nothing",
    hint="pull it again; a manifest is never edited by hand",
)
def manifest_unreadable(subject: Subject) -> Iterator[str]:
    """adapter.json is missing, is not canonical JSON (RFC 8785), or breaks the schema.

    Identity is the sha256 of its bytes, so one content has one spelling: duplicate keys, NaN, an
    explicit null, an unknown field, or other spacing are refused.
    """
    if subject.absence == "unreadable":
        yield subject.problem


@check("bytes-elsewhere", "info", needs="entry", hint="name it, or pull it, to check it from the bytes up")
def bytes_elsewhere(subject: Subject) -> Iterator[str]:
    """A version on the Hub has not been pulled to this machine, so only its registry entry was checked.

    An audit of everything makes no requests; one that names the version fetches it first.
    """
    if subject.absence == "elsewhere":
        yield subject.problem


@check(
    "bytes-missing",
    "error",
    needs="entry",
    hint="publish the same bytes again, or, if they are lost, retire it: --status withdrawn --reason TEXT",
)
def bytes_missing(subject: Subject) -> Iterator[str]:
    """The registry lists a version whose bytes are at none of its locations.

    Publishing writes bytes first and the index second (invariant 4), so this means that a store was
    moved or that files were deleted from it. Withdrawn versions rightly have no bytes.
    """
    if subject.absence == "missing" and not subject.withdrawn:
        yield subject.problem


@check(
    "digest-differs",
    "error",
    hint="the version was replaced; quarantine it and publish a new one",
)
def digest_differs(subject: Subject) -> Iterator[str]:
    """The registry's digest is not the sha256 of adapter.json as it is.

    A (name, version) has one digest for ever (invariant 1): those who pinned it must not get another.
    """
    if subject.block and subject.artifact and subject.block.digest != subject.artifact.digest:
        yield f"adapter.json is {subject.artifact.digest}, the registry says {subject.block.digest}"


@check("entry-differs", "error", hint="run `adapter-hub registry rebuild`, which reads the manifests")
def entry_differs(subject: Subject) -> Iterator[str]:
    """The registry's summary of a version contradicts its manifest.

    Lists and resolution use the summary alone, so it has to be derived from the manifest.
    """
    block, expected = subject.block, subject.expected
    if block is None or expected is None:
        return
    if subject.ref != subject.manifest.ref:
        yield f"the registry lists {subject.ref}, the manifest is of {subject.manifest.ref}"
    found, wanted = block.to_json(), expected.to_json()
    for name in sorted((found.keys() | wanted.keys()) - _CHECKED_ELSEWHERE):
        if found.get(name) != wanted.get(name):
            yield f"{name}: the registry says {found.get(name)}, the manifest {wanted.get(name)}"


@check("version-rule", "error", hint="publish it again under a version that says what changed")
def version_rule(subject: Subject) -> Iterator[str]:
    """The version's number does not say what changed since the version before it.

    MAJOR: base model, languages, tokenizer or module set; MINOR: new weights, licence, dtype or rank;
    PATCH: the same weights. `publish` enforces it, so this registry was written by something else.
    """
    mine = Version(subject.manifest.version)
    earlier = [other for other in subject.versions if Version(other.version) < mine]
    try:
        check_version_step(earlier, subject.manifest)
    except AdapterHubError as error:
        yield str(error)
