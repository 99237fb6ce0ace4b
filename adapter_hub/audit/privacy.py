"""What does a published version give away of its makers and of the people who were recorded?"""

from __future__ import annotations

from collections.abc import Iterator

from adapter_hub.artifact.privacy import Kind, artifact_disclosures, disclosures, names_people
from adapter_hub.audit.checks import Subject, check
from adapter_hub.formats.canonical import sha256_hex


@check(
    "secret-published",
    "error",
    needs="bytes",
    hint="revoke it now, wherever it opens something; then withdraw the version and publish one without it",
)
def secret_published(subject: Subject) -> Iterator[str]:
    """A token, a key or a password is in the manifest, a small file, a report or a weights file's notes.

    `publish` refuses such an artifact, so this one was published by something else. What is published is
    copied: only revoking the secret helps.
    """
    yield from _found(subject, "secret")


@check(
    "machine-path",
    "warning",
    needs="bytes",
    hint="publish the same weights again, sealed here: paths are replaced by what they stand for",
)
def machine_path(subject: Subject) -> Iterator[str]:
    """A path on somebody's machine is published, which often holds a person's name.

    Looked for in the manifest, the small files, the reports and the notes in a weights file's header.
    """
    yield from _found(subject, "path")


@check("people-named", "info", hint="`evaluate --attach` publishes numbers and digests instead")
def people_named(subject: Subject) -> Iterator[str]:
    """A published report holds names of speakers or of audio files, which may be those of people."""
    for report in subject.reports:
        if names_people(report):
            yield f"report {sha256_hex(report.to_bytes())[:12]}… on {report.data} {report.split}"


def _found(subject: Subject, kind: Kind) -> Iterator[str]:
    if subject.artifact is None:
        return
    found = list(artifact_disclosures(subject.artifact))
    for report in subject.reports:
        name = f"report {sha256_hex(report.to_bytes())[:12]}…"
        found += disclosures(report.to_json(), name)
    yield from dict.fromkeys(str(item) for item in found if item.kind == kind)
