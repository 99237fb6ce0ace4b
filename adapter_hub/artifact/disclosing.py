"""Nothing that opens an account or names a machine goes out: looked for before anything is published."""

from __future__ import annotations

from collections.abc import Iterator

from adapter_hub.artifact.folder import ANCESTORS, Artifact
from adapter_hub.artifact.privacy import Disclosure, disclosures
from adapter_hub.artifact.safetensors_header import read_metadata
from adapter_hub.errors import IntegrityError
from adapter_hub.files.reading import read_bounded
from adapter_hub.formats.canonical import read_json
from adapter_hub.formats.claims import EvaluationReport

MAXIMUM_TEXT = 16 * 2**20  # bytes of a configuration or a licence
FOR_EVER = "a published version stays for ever: remove it there, then seal or import the adapter anew"


def artifact_disclosures(artifact: Artifact) -> Iterator[Disclosure]:
    """Yield what an artifact gives away in its manifest, its small files and the notes in its weights.

    Its ancestors' manifests are others' and published already; the audit of those tells of them.

    Raises:
        AdapterHubError, OSError: a file cannot be read.
    """
    yield from disclosures(artifact.manifest.to_json(), "adapter.json")
    for entry in artifact.manifest.files:
        path = artifact.path / entry.path
        if entry.path.startswith(f"{ANCESTORS}/"):
            continue
        if entry.path.endswith(".safetensors"):
            yield from disclosures(read_metadata(path), entry.path)
            continue
        raw = read_bounded(path, MAXIMUM_TEXT, follow=False)
        if entry.path.endswith(".json"):
            yield from disclosures(read_json(raw, entry.path), entry.path)
        else:
            yield from disclosures(raw.decode("utf-8", "replace"), entry.path)


def refuse_disclosures(artifact: Artifact) -> None:
    """Refuse to publish an artifact that holds a token, a password or a path of a machine.

    Raises:
        IntegrityError: with every field that does; what it holds is not repeated.
    """
    if found := list(dict.fromkeys(map(str, artifact_disclosures(artifact)))):
        raise IntegrityError(f"{artifact.ref} in {artifact.path}", found, FOR_EVER)


def refuse_report(report: EvaluationReport) -> None:
    """Refuse a report that holds such a thing in anything but what was said.

    Raises:
        IntegrityError: as `refuse_disclosures`.
    """
    if found := list(dict.fromkeys(map(str, disclosures(report.to_json(), "report")))):
        hint = "attach it without --with-speakers, or evaluate again on data that goes by another name"
        raise IntegrityError(f"report on {report.subject.name}", found, hint)
