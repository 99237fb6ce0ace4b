"""A registry's entry of a version, computed only from what a store holds.

    block = version_block(manifest, digest, claims, locations)

So the registry can be rebuilt from the stores at any time, and comes out the same.
"""

from __future__ import annotations

from collections.abc import Iterable

from adapter_hub.formats.claims import PUBLISHED, Decoding, EvaluationReport
from adapter_hub.formats.manifest import Manifest
from adapter_hub.formats.registry_file import (
    BLOCK_SCHEMA,
    BaseModelLink,
    Location,
    ParentLink,
    Score,
    VersionBlock,
)
from adapter_hub.stores.contract import Claims


def version_block(
    manifest: Manifest,
    digest: str,
    claims: Claims,
    locations: Iterable[Location],
    manifest_size: int | None = None,
) -> VersionBlock:
    """Return the registry's block of a version.

    Args:
        manifest: of the version.
        digest: of the manifest.
        claims: reports and statuses about the name.
        locations: where the version is.
        manifest_size: bytes of `adapter.json`, if that is known already.
    """
    status = claims.status_of(manifest.version)
    active = status is None or status.status == "active"
    from_the_start = status is None or (active and status.reason == PUBLISHED)
    values = {
        "schema": BLOCK_SCHEMA,
        "digest": digest,
        "weights_digest": manifest.weights_digest,
        "function_digest": manifest.function_digest,
        "method": manifest.method,
        "languages": tuple(language.tag for language in manifest.languages),
        "decode_languages": tuple(language.decode_language for language in manifest.languages),
        "base_model": BaseModelLink(id=manifest.base_model.id, digest=manifest.base_model.digest),
        "rank": manifest.rank,
        "parents": tuple(ParentLink(role=parent.role, digest=parent.digest) for parent in manifest.parents),
        "license": manifest.license,
        "size": version_size(manifest, manifest_size),
        "locations": sorted_locations(locations),
        "published": claims.published(manifest.version) or manifest.created,
        "scores": scores_of(claims.reports_on(manifest.function_digest)),
        "status": "active" if status is None else status.status,
        "reason": None if active or status is None else status.reason,
        "since": None if from_the_start or status is None else status.time,
    }
    return VersionBlock.model_validate(values)


def version_size(manifest: Manifest, manifest_size: int | None = None) -> int:
    """Return the bytes of a version: all its files and the manifest.

    Args:
        manifest: of the version.
        manifest_size: bytes of `adapter.json`, if that is known already.
    """
    own = len(manifest.to_bytes()) if manifest_size is None else manifest_size
    return sum(entry.size for entry in manifest.files) + own


def sorted_locations(locations: Iterable[Location]) -> tuple[Location, ...]:
    """Return each location once, in an order that does not depend on who was first.

    Args:
        locations: in any order, possibly repeated.
    """
    unique = {item.to_bytes(): item for item in locations}
    return tuple(unique[key] for key in sorted(unique))


def scores_of(reports: Iterable[EvaluationReport]) -> tuple[Score, ...]:
    """Return one score for every way of measuring; of several reports the newest counts.

    Args:
        reports: on one version.
    """
    newest: dict[tuple[str, ...], Score] = {}
    for report in sorted(reports, key=lambda report: (report.created, report.value, len(report.rows))):
        score = score_of(report)
        key = (score.data, score.split, score.data_sha256, score.normaliser, score.decoding, score.metric)
        newest[key] = score
    return tuple(newest[key] for key in sorted(newest))


def score_of(report: EvaluationReport) -> Score:
    """Return the summary of a report: its primary metric.

    Args:
        report: of an evaluation.
    """
    return Score(
        data=report.data,
        split=report.split,
        data_sha256=report.data_sha256,
        normaliser=report.normaliser,
        decoding=describe_decoding(report.decoding),
        metric=report.primary,
        value=report.value,
        n=len(report.rows),
    )


def describe_decoding(decoding: Decoding) -> str:
    """Return `greedy` or `beam 5`, with `auto language`, `timestamps` and `fallback` where they apply.

    Args:
        decoding: of a report.
    """
    parts = ["greedy" if decoding.beams == 1 else f"beam {decoding.beams}"]
    parts += ["auto language"] if decoding.language == "auto" else []
    parts += ["timestamps"] if decoding.timestamps else []
    parts += ["fallback"] if decoding.temperatures else []
    return ", ".join(parts)
