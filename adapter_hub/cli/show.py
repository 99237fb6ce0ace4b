"""`show`: everything that is known about one version."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from adapter_hub.cli.terminal.arguments import json_option, ref_argument
from adapter_hub.cli.terminal.echo import echo_json, echo_text
from adapter_hub.cli.terminal.global_options import GlobalOptions
from adapter_hub.cli.terminal.tables import counted, size_text, table

if TYPE_CHECKING:
    from adapter_hub.cli.terminal.version_lookup import FoundVersion
    from adapter_hub.formats.claims import EvaluationReport
    from adapter_hub.formats.manifest import Manifest
    from adapter_hub.registry.standing import Standing


@click.command()
@ref_argument
@json_option
@click.pass_obj
def show(options: GlobalOptions, ref: str, as_json: bool) -> None:
    """Show everything that is known about one adapter version."""
    from adapter_hub.cli.terminal.version_lookup import find_version

    found = find_version(options, ref)
    if as_json:
        echo_json(
            {
                "ref": found.ref,
                "digest": found.digest,
                "registry": found.registry.label if found.registry else None,
                "entry": found.block.to_json() if found.block else None,
                "status": found.standing.status if found.standing else None,
                "reason": str(found.standing)
                if found.standing and found.standing.status != "active"
                else None,
                "manifest": found.manifest.to_json(),
            }
        )
        return
    echo_text(table(["", found.ref], list(_facts(found))))


def _facts(found: FoundVersion) -> Iterator[tuple[str, str]]:
    """Yield the rows of the table: what it is, where it comes from, how good it is, where it is."""
    from adapter_hub.stores.summary import version_size

    manifest, block = found.manifest, found.block
    if found.standing:
        yield "status", _status(found.standing)
    yield "method", manifest.method
    for language in manifest.languages:
        yield "language", f"{language.tag} (decoded as {language.decode_language})"
    yield "task", manifest.task + (", with timestamps" if manifest.timestamps else "")
    if manifest.input_seconds:
        yield "input", f"{manifest.input_seconds:g} s of audio at a time while training"
    base = manifest.base_model
    yield "base model", base.id + (f" at {base.revision}" if base.revision else "")
    for section in manifest.lora:
        role = "" if section.role == "self" else f"{section.role}: "
        count = f"{section.parameters} parameters in {counted(len(section.modules), 'module')}"
        yield "lora", f"{role}rank {section.rank}, {section.dtype}, {count}"
    yield from _composition(manifest)
    for source in manifest.data:
        yield (
            "data",
            f"{source.id} {source.split}: {counted(source.utterances, 'utterance')}, {source.hours:.2f} h",
        )
    for similarity in manifest.similarity:
        best = sorted(similarity.scores.items(), key=lambda item: -item[1])[:4]
        yield "similarity", ", ".join(f"{language} {100 * score:.1f} %" for language, score in best)
    if manifest.training:
        yield "training", f"{manifest.training.steps} steps on {manifest.training.hardware}"
    yield "created", manifest.created + (f" by {', '.join(manifest.authors)}" if manifest.authors else "")
    yield "licence", manifest.license
    for report in found.claims.reports_on(manifest.function_digest):
        yield "result", _result(report)
    yield "size", size_text(version_size(manifest))
    yield "digest", found.digest
    yield "weights", manifest.weights_digest
    yield "function", manifest.function_digest
    for location in block.locations if block else ():
        yield "location", " ".join(filter(None, (location.store, location.path, location.repo)))


def _status(standing: Standing) -> str:
    if standing.source or standing.other:
        return f"{standing.status}: {standing}"
    return standing.status + (f": {standing.reason}" if standing.reason else "")


def _composition(manifest: Manifest) -> Iterator[tuple[str, str]]:
    if manifest.gate:
        yield "gate", f"{manifest.gate.kind}, {manifest.gate.parameters} parameters"
    for parent in manifest.parents:
        weight = "" if parent.weight is None else f", weight {parent.weight:g}"
        yield parent.role, f"{parent.name}@{parent.version}{weight}"


def _result(report: EvaluationReport) -> str:
    from adapter_hub.formats.claims import sample_of

    low, high = 100 * report.interval.low, 100 * report.interval.high
    where = f"{report.data} {report.split}, {counted(len(report.rows), 'utterance')}"
    over = sample_of(report.interval.unit, len(report.rows), report.speakers)
    limits = f"{low:.1f} to {high:.1f}, 95 % over {over}"
    return f"{report.primary.upper()} {100 * report.value:.1f} % ({limits}) on {where}"
