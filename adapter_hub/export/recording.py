"""The card and the record beside an exported model, and whether its files are still those of the record.

record = finish(folder, target, about, [(artifact, 1.0)])
record = check_export(Path("out/da"))
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from adapter_hub.artifact.folder import Artifact
from adapter_hub.cards import render_export_card
from adapter_hub.errors import IntegrityError
from adapter_hub.files.reading import file_sha256
from adapter_hub.formats.canonical import canonical_bytes
from adapter_hub.formats.export_record import EXPORT_FILE, SCHEMA, ExportedFile, ExportRecord
from adapter_hub.formats.full_fine_tune import ModelParent
from adapter_hub.formats.manifest import Language, joint_license
from adapter_hub.formats.times import utc_now
from adapter_hub.packages import package_versions

CARD = "README.md"
PACKAGES = ("adapter-hub", "ctranslate2", "safetensors", "torch", "transformers")


def check_export(folder: Path) -> ExportRecord:
    """Return the record of an exported model whose files are those that it lists.

    Args:
        folder: that `export_model` wrote.

    Raises:
        NotFoundError: no record. InvalidInputError: it is not sound. IntegrityError: every difference.
    """
    record = ExportRecord.read(folder)
    found = {file.path: file for file in _files(folder)}
    listed = {file.path: file for file in record.files}
    differences = [f"{path}: not listed" for path in sorted(found.keys() - listed.keys())]
    differences += [f"{path}: missing" for path in sorted(listed.keys() - found.keys())]
    differences += [
        f"{path}: other bytes than those that were exported"
        for path in sorted(listed.keys() & found.keys())
        if listed[path] != found[path]
    ]
    if differences:
        raise IntegrityError(f"{folder}, an export of {record.ref}", differences, "export it again")
    return record


def finish(
    folder: Path, target: Path, about: Mapping[str, Any], parts: Sequence[tuple[Artifact, float]]
) -> ExportRecord:
    """Write card and record beside the files in a folder, and make room where it is going to be.

    Args:
        folder: holds the model's files, and nothing else.
        target: what the folder is renamed to next: nothing is there, or an empty folder.
        about: of the record: format, precision, base model and digest.
        parts: the adapters with their weights; none for the base model alone.
    """
    manifests = [artifact.manifest for artifact, _ in parts]
    spoken: dict[str, Language] = {tongue.tag: tongue for one in manifests for tongue in one.languages}
    fields: dict[str, Any] = dict(about) | {
        "schema": SCHEMA,
        "created": utc_now(),
        "adapters": [_parent(artifact, weight).to_json() for artifact, weight in parts],
        "languages": [tongue.to_json() for tongue in spoken.values()],
        "packages": package_versions(PACKAGES),
    }
    if manifests:
        licence = joint_license(manifest.license for manifest in manifests)
        fields |= {"task": manifests[0].task, "license": licence}
    draft = _record(fields, folder)
    card = render_export_card(draft, manifests, target.name)
    (folder / CARD).write_text(card, encoding="utf-8")
    for path in folder.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
    record = _record(fields, folder)
    (folder / EXPORT_FILE).write_bytes(record.to_bytes())
    with suppress(OSError):  # an empty folder makes way
        target.rmdir()
    return record


def _record(fields: dict[str, Any], folder: Path) -> ExportRecord:
    files = [file.to_json() for file in _files(folder)]
    return ExportRecord.parse(canonical_bytes(fields | {"files": files}), str(folder / EXPORT_FILE))


def _parent(artifact: Artifact, weight: float) -> ModelParent:
    name, version = artifact.manifest.name, artifact.manifest.version
    return ModelParent(kind="adapter", name=name, version=version, digest=artifact.digest, weight=weight)


def _files(folder: Path) -> list[ExportedFile]:
    """Return all files of an exported model but its record, sorted by path."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file() or path.is_symlink())
    return [
        ExportedFile(
            path=path.relative_to(folder).as_posix(), size=path.stat().st_size, sha256=file_sha256(path)
        )
        for path in paths
        if path != folder / EXPORT_FILE
    ]
