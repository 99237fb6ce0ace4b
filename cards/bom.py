"""A bill of materials: what an adapter consists of and was made from, as CycloneDX 1.6 in JSON (an ML-BOM).

    bom = bill_of_materials(artifact.manifest, artifact.digest, artifact.ancestors(), reports)

Plain data, made here: CycloneDX's own Python library loses the model card. The same records give the same
bytes: the time is the manifest's, and the serial number follows from the content.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from hashlib import sha256
from typing import Any
from uuid import UUID

from adapter_hub.base_model.families import family_of_architecture
from adapter_hub.cards.front_matter import describe_decoding
from adapter_hub.formats.canonical import canonical_bytes, hex_of, sha256_hex
from adapter_hub.formats.claims import EvaluationReport
from adapter_hub.formats.licences import NO_LICENCE, spdx_or_none
from adapter_hub.formats.manifest import MANIFEST_FILE, BaseModelPin, DataSource, Manifest, Parent
from adapter_hub.packages import package_versions

Plain = dict[str, Any]
TASKS = {"transcribe": "automatic-speech-recognition", "translate": "speech-translation"}


def bill_of_materials(
    manifest: Manifest,
    digest: str,
    ancestors: Mapping[str, Manifest],
    reports: Sequence[EvaluationReport] = (),
) -> Plain:
    """Return the bill of materials of a version as plain data.

    Args:
        manifest: of the version.
        digest: of the manifest.
        ancestors: manifests by digest, as far as they are at hand; the bill says whether all are.
        reports: evaluations; those of other functions are left out.
    """
    line = _Lineage(manifest, ancestors)
    made = [(digest, manifest), *line.known.items()]
    data = {_data_ref(source): source for _, item in made for source in item.data}
    bases = {item.base_model.digest: item.base_model for _, item in reversed(made)}
    bom = {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "timestamp": manifest.created,
            "tools": {"components": [_tool()]},
            "component": {
                **_adapter(manifest, digest),
                "pedigree": {"ancestors": [_ancestor(*item) for item in line.parents.items()]},
                "components": [_file(MANIFEST_FILE, hex_of(digest))]
                + [_file(entry.path, entry.sha256) for entry in manifest.files],
                "modelCard": _model_card(manifest, reports),
            },
        },
        "components": [_base_model(pin) for pin in bases.values()]
        + [_data_set(ref, source) for ref, source in data.items()],
        "dependencies": list(_dependencies(made, {*bases, *data, *line.parents, digest})),
        "compositions": [{"aggregate": "incomplete" if line.gaps else "complete", "dependencies": [digest]}],
    }
    serial = UUID(bytes=sha256(canonical_bytes(bom)).digest()[:16], version=5)
    return {**bom, "serialNumber": f"urn:uuid:{serial}"}


class _Lineage:
    """The ancestors of a version, nearest first.

    Attributes:
        known: their manifests by digest.
        parents: by digest, all that is known of each: a manifest, or what its child's says.
        gaps: whether something in the lineage is not known: a manifest, or where an import came from.
    """

    def __init__(self, manifest: Manifest, ancestors: Mapping[str, Manifest]) -> None:
        self.known: dict[str, Manifest] = {}
        self.parents: dict[str, tuple[Parent, Manifest | None]] = {}
        waiting = [manifest]
        for item in waiting:  # which grows
            for parent in item.parents:
                if parent.digest not in self.parents:
                    found = ancestors.get(parent.digest)
                    self.parents[parent.digest] = parent, found
                    if found is not None:
                        self.known[parent.digest] = found
                        waiting.append(found)
        self.gaps = len(self.known) < len(self.parents) or any(item.method == "imported" for item in waiting)


def _adapter(manifest: Manifest, digest: str) -> Plain:
    """Return an adapter version as a component, without what it was made from."""
    namespace, _, name = manifest.name.partition("/")
    languages = ", ".join(language.tag for language in manifest.languages)
    return {
        "type": "machine-learning-model",
        "bom-ref": digest,
        "authors": [{"name": author} for author in manifest.authors],
        "group": namespace,
        "name": name,
        "version": manifest.version,
        "description": f"Adapter of {manifest.base_model.id} for {languages}",
        "hashes": _hashes(digest),
        **_licences(manifest.license),
        "properties": _properties(
            method=manifest.method,
            manifest_digest=digest,
            weights_digest=manifest.weights_digest,
            function_digest=manifest.function_digest,
            source=manifest.source,
        ),
    }


def _ancestor(digest: str, known: tuple[Parent, Manifest | None]) -> Plain:
    parent, manifest = known
    if manifest is not None:
        return _adapter(manifest, digest)
    namespace, _, name = parent.name.partition("/")
    return {
        "type": "machine-learning-model",
        "bom-ref": digest,
        "group": namespace,
        "name": name,
        "version": parent.version,
        "hashes": _hashes(digest),
        "properties": _properties(
            manifest_digest=digest,
            weights_digest=parent.weights_digest,
            function_digest=parent.function_digest,
        ),
    }


def _base_model(pin: BaseModelPin) -> Plain:
    namespace, _, name = pin.id.rpartition("/")
    return {
        "type": "machine-learning-model",
        "bom-ref": pin.digest,
        **({"group": namespace} if namespace else {}),
        "name": name,
        **({"version": pin.revision} if pin.revision else {}),
        "hashes": _hashes(pin.digest),
        "modelCard": {"modelParameters": _architecture(pin)},
        "properties": _properties(base_model_digest=pin.digest),
    }


def _data_set(ref: str, source: DataSource) -> Plain:
    about = f"split {source.split}, {source.hours:.3f} hours, {source.utterances} utterances"
    return {
        "type": "data",
        "bom-ref": ref,
        "name": source.id,
        **({"version": source.revision} if source.revision else {}),
        "hashes": _hashes(source.sha256),
        **_licences(source.license),
        "data": [{"type": "dataset", "name": source.id, "description": about}],
    }


def _model_card(manifest: Manifest, reports: Sequence[EvaluationReport]) -> Plain:
    used = list(dict.fromkeys(map(_data_ref, manifest.data)))
    own = [report for report in reports if report.subject.function_digest == manifest.function_digest]
    return {
        "modelParameters": {
            **({"approach": {"type": "supervised"}} if manifest.training else {}),
            "task": TASKS[manifest.task],
            **_architecture(manifest.base_model),
            "datasets": [{"ref": ref} for ref in used],
            "inputs": [{"format": "audio"}],
            "outputs": [{"format": "text"}],
        },
        "quantitativeAnalysis": {"performanceMetrics": [_metric(report) for report in own]},
        "properties": [
            *({"name": "adapter-hub:language", "value": language.tag} for language in manifest.languages),
            *_properties(rank=str(manifest.rank)),
        ],
    }


def _metric(report: EvaluationReport) -> Plain:
    digest = sha256_hex(report.to_bytes())
    return {
        "type": report.primary,
        "value": f"{report.value:.6f}",
        "slice": f"{report.data} {report.split} (sha256:{report.data_sha256}), {len(report.rows)} "
        f"utterances, {describe_decoding(report)}; report sha256:{digest}",
        "confidenceInterval": {
            "lowerBound": f"{report.interval.low:.6f}",
            "upperBound": f"{report.interval.high:.6f}",
        },
    }


def _dependencies(made: Sequence[tuple[str, Manifest]], every: set[str]) -> Iterator[Plain]:
    """Yield for every component what it was made from; what is known by its digest alone has nothing."""
    for digest, manifest in made:
        parents = [parent.digest for parent in manifest.parents]
        direct = [manifest.base_model.digest, *parents, *map(_data_ref, manifest.data)]
        yield {"ref": digest, "dependsOn": list(dict.fromkeys(direct))}
    for ref in sorted(every - {digest for digest, _ in made}):
        yield {"ref": ref}


def _architecture(pin: BaseModelPin) -> Plain:
    family = family_of_architecture(pin.architecture).partition("_")[0]
    return {"architectureFamily": family, "modelArchitecture": pin.architecture}


def _tool() -> Plain:
    return {
        "type": "application",
        "name": "adapter-hub",
        "version": package_versions(["adapter-hub"]).get("adapter-hub", "unknown"),
    }


def _file(path: str, digest: str) -> Plain:
    return {"type": "file", "name": path, "hashes": _hashes(digest)}


def _hashes(digest: str) -> list[Plain]:
    return [{"alg": "SHA-256", "content": hex_of(digest)}]


def _licences(text: str | None) -> Plain:
    """Return the licences of a component: an expression, or what somebody wrote in its place."""
    if text is None or text in NO_LICENCE:
        return {}
    spdx = spdx_or_none(text)
    return {"licenses": [{"expression": spdx} if spdx else {"license": {"name": text}}]}


def _properties(**values: str | None) -> list[Plain]:
    named = {f"adapter-hub:{name.replace('_', '-')}": value for name, value in values.items()}
    return [{"name": name, "value": value} for name, value in named.items() if value is not None]


def _data_ref(source: DataSource) -> str:
    """Return what a data set is called within the bill: its content, its name and its licence decide."""
    identity = [source.id, source.revision, source.split, source.license, source.sha256]
    return f"data:{sha256_hex(canonical_bytes(identity))[:16]}:{source.sha256}"
