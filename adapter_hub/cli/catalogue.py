"""Looking at adapters: `list`, `show`, `diff`, `lineage`, `card`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from adapter_hub.cli.terminal.arguments import PLACE
from adapter_hub.cli.terminal.echo import echo_json, echo_note, echo_text, echo_warnings
from adapter_hub.cli.terminal.settings import Settings
from adapter_hub.cli.terminal.tables import counted, size_text, table

if TYPE_CHECKING:
    from adapter_hub.cli.terminal.looking import Looked
    from adapter_hub.formats.claims import EvaluationReport
    from adapter_hub.formats.manifest import Manifest
    from adapter_hub.formats.registry_file import VersionBlock
    from adapter_hub.registry.resolution import Resolved
    from adapter_hub.registry.standing import Standing

METHODS = ("lora", "warm-start", "expert-pair", "average", "imported")
STATUSES = ("active", "deprecated", "yanked", "quarantined", "withdrawn")
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")
ref_argument = click.argument("ref", metavar="REF", type=PLACE)


@click.command("list")
@click.option("--language", metavar="TAG", help="Only adapters for this language, like da or pt-BR.")
@click.option("--base-model", metavar="ID", help="Only adapters of this base model, by id or digest.")
@click.option("--method", type=click.Choice(METHODS), help="Only adapters made by this method.")
@click.option("--status", type=click.Choice(STATUSES), help="Only versions of this status.")
@click.option("--sort", type=click.Choice(["wer", "cer"]), help="Best score first; needs --data.")
@click.option("--data", metavar="ID", help="The data set whose test score is shown and sorted by.")
@json_option
@click.pass_obj
def list_adapters(
    settings: Settings,
    language: str | None,
    base_model: str | None,
    method: str | None,
    status: str | None,
    sort: str | None,
    data: str | None,
    as_json: bool,
) -> None:
    """List every version that the registries know: yours, then the embedded catalogue."""
    if sort and not data:
        raise click.UsageError("--sort needs --data ID: scores on different data do not compare")
    everything = list(_versions(settings))
    rows = [
        row
        for row in everything
        if (language is None or language.lower() in [tag.lower() for tag in row.get("languages", ())])
        and (base_model is None or base_model in row.get("base_model", {}).values())
        and (method is None or row.get("method") == method)
        and (status is None or row["status"] == status)
    ]
    if sort:
        assert data is not None
        rows.sort(key=lambda row: _sort_key(row, sort, data))
    if as_json:
        echo_json(rows)
        return
    if not rows:
        echo_note("no adapter fits; `adapter-hub list` without options shows all")
        return
    names = {row.get("digest", ""): f"{row['name']}@{row['version']}" for row in everything}
    echo_text(
        table(
            ["adapter", "language", "method", "rank", "from", "score", "size", "status"],
            [_cells(row, names, data) for row in rows],
        )
    )


def _versions(settings: Settings) -> Iterator[dict[str, Any]]:
    """Yield every version as plain data; one that several registries hold is yielded once."""
    from packaging.version import Version

    from adapter_hub.registry.standing import Standings

    seen = set()
    registries = settings.registries()
    standings = Standings(registries)
    for registry in registries:
        echo_warnings(registry.warnings)
        for (name, version), why in registry.unreadable.items():
            row = {"name": name, "version": version, "registry": registry.label}
            yield {**row, "status": "unreadable", "reason": why}
        for name in sorted(registry.adapters):
            versions = registry.adapters[name]
            for version in sorted(versions, key=Version):
                block = versions[version]
                if (name, version, block.digest) not in seen:
                    seen.add((name, version, block.digest))
                    yield {
                        "name": name,
                        "version": version,
                        "registry": registry.label,
                        **block.to_json(),
                        **_strictest(standings.of(block.digest, block.function_digest), block),
                    }


def _strictest(standing: Standing | None, block: VersionBlock) -> dict[str, str]:
    """Return the status and its reason where another registry, or this machine's memory, is stricter."""
    if standing is None or standing.status == block.status:
        return {}
    return {"status": standing.status, "reason": str(standing)}


def _sort_key(row: dict[str, Any], metric: str, data: str) -> tuple[bool, float]:
    scores = [score for score in row.get("scores", []) if (score["metric"], score["data"]) == (metric, data)]
    return (not scores, min((score["value"] for score in scores), default=0.0))


def _cells(row: dict[str, Any], names: dict[str, str], data: str | None) -> list[Any]:
    from adapter_hub.formats.registry_file import unreadable_ref

    if "digest" not in row:  # an entry that cannot be read
        return [unreadable_ref(row["name"], row["version"]), *[None] * 6, row["status"]]
    scores = [score for score in row.get("scores", []) if data in (None, score["data"])]
    scores = [score for score in scores if score["split"] == "test"] or scores
    best = min(scores, key=lambda score: float(score["value"]), default=None)
    parents = [names.get(parent["digest"], parent["digest"][7:19]) for parent in row.get("parents", [])]
    return [
        f"{row['name']}@{row['version']}",
        ",".join(row["languages"]),
        row["method"],
        row["rank"],
        ",".join(parents),
        f"{best['metric'].upper()} {100 * best['value']:.1f} %" if best else None,
        size_text(row["size"]),
        row["status"],
    ]


@click.command()
@ref_argument
@json_option
@click.pass_obj
def show(settings: Settings, ref: str, as_json: bool) -> None:
    """Show everything that is known of one adapter version."""
    from adapter_hub.cli.terminal.looking import look

    found = look(settings, ref)
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


def _facts(found: Looked) -> Iterator[tuple[str, str]]:
    """Yield the lines of `show`: what it is, where it comes from, how good it is, where it is."""
    from adapter_hub.stores.summary import version_size

    manifest, block = found.manifest, found.block
    if found.standing:
        yield "status", _status(found.standing)
    yield "method", manifest.method
    for language in manifest.languages:
        yield "language", f"{language.tag} (decoded as {language.decode_language})"
    yield "task", manifest.task + (", with timestamps" if manifest.timestamps else "")
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
    if standing.told_by or standing.other:
        return f"{standing.status}: {standing}"
    return standing.status + (f": {standing.reason}" if standing.reason else "")


def _composition(manifest: Manifest) -> Iterator[tuple[str, str]]:
    if manifest.gate:
        yield "gate", f"{manifest.gate.kind}, {manifest.gate.parameters} parameters"
    for parent in manifest.parents:
        weight = "" if parent.weight is None else f", weight {parent.weight:g}"
        yield parent.role, f"{parent.name}@{parent.version}{weight}"


def _result(report: EvaluationReport) -> str:
    low, high = 100 * report.interval.low, 100 * report.interval.high
    where = f"{report.data} {report.split}, {counted(len(report.rows), 'utterance')}"
    return f"{report.primary.upper()} {100 * report.value:.1f} % ({low:.1f} to {high:.1f}) on {where}"


@click.command()
@click.argument("first", metavar="REF", type=PLACE)
@click.argument("second", metavar="REF", type=PLACE)
@json_option
@click.pass_obj
def diff(settings: Settings, first: str, second: str, as_json: bool) -> None:
    """Show in which fields two adapter versions differ."""
    from adapter_hub.cli.terminal.looking import look

    one, other = look(settings, first), look(settings, second)
    left, right = (dict(_flat(item.manifest.to_json())) for item in (one, other))
    names = [name for name in dict.fromkeys([*left, *right]) if left.get(name) != right.get(name)]
    if as_json:
        echo_json({name: [left.get(name), right.get(name)] for name in names})
    elif names:
        rows = [[_short(name), *(_short(side.get(name)) for side in (left, right))] for name in names]
        echo_text(table(["field", one.ref, other.ref], rows))
    else:
        echo_note(f"{one.ref} and {other.ref} are the same")


def _short(value: Any) -> str:
    text = "" if value is None else " ".join(str(value).split())
    return text if len(text) <= 60 else f"{text[:59]}…"


def _flat(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield `(dotted path, value)`; items of lists are named by what identifies them, not by position."""
    if isinstance(value, dict):
        for name, item in value.items():
            yield from _flat(item, f"{path}.{name}" if path else name)
    elif isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
        for number, item in enumerate(value):
            keys = (item[name] for name in ("path", "tag", "role", "measure", "id") if name in item)
            yield from _flat(item, f"{path}[{next(keys, number)}]")
    elif value != []:
        yield path, value


@click.command()
@ref_argument
@click.option("--descendants", is_flag=True, help="What was made from it, instead of what it was made from.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["tree", "json", "mermaid"]),
    default="tree",
    show_default=True,
    help="How to print it.",
)
@click.option("--json", "as_json", is_flag=True, help="The same as --format json.")
@click.pass_obj
def lineage(settings: Settings, ref: str, descendants: bool, form: str, as_json: bool) -> None:
    """Show what an adapter came from, or what came from it, across all registries."""
    from adapter_hub.artifact.folder import Artifact
    from adapter_hub.formats.reference import is_local
    from adapter_hub.registry.lineage import lineage_graph, lineage_json, render_mermaid, render_tree
    from adapter_hub.registry.resolution import look_up

    registries = settings.registries()
    if is_local(ref):
        artifact = Artifact.open(ref)
        digest = artifact.digest
        graph = lineage_graph(registries, {digest: artifact.manifest, **artifact.ancestors()})
    else:
        parsed, registries = settings.open_ref(ref, registries)
        found = look_up(parsed, registries)
        echo_warnings(found.warnings)
        digest = found.block.digest
        graph = lineage_graph(registries, _ancestors_at_hand(found, settings))
    if as_json or form == "json":
        echo_json(lineage_json(graph, digest, descendants=descendants))
    else:
        render = render_mermaid if form == "mermaid" else render_tree
        echo_text(render(graph, digest, descendants=descendants))


def _ancestors_at_hand(found: Resolved, settings: Settings) -> dict[str, Manifest]:
    """Return the manifests that the artifact carries, where its bytes can be seen without a request."""
    from adapter_hub.artifact.folder import read_ancestors
    from adapter_hub.stores.folder import FolderStore
    from adapter_hub.stores.opening import open_store

    for location in found.block.locations:
        store = open_store(location.store, found.registry.path) if "://" not in location.store else None
        if isinstance(store, FolderStore):
            return read_ancestors(store.path / found.name / found.version)[0]
    pulled = settings.open_cache().get(found.block.digest) if found.block.parents else None
    return pulled.ancestors() if pulled else {}


@click.command()
@ref_argument
@json_option
@click.pass_obj
def card(settings: Settings, ref: str, as_json: bool) -> None:
    """Print an adapter's model card, rendered from its manifest, reports and status."""
    from adapter_hub.cards import render_card
    from adapter_hub.cli.terminal.looking import look

    found = look(settings, ref)
    status = found.claims.status_of(found.manifest.version)
    store = found.block.locations[0].store if found.block and found.block.locations else ""
    text = render_card(found.manifest, found.claims.reports, status, store=store)
    if as_json:
        echo_json({"ref": found.ref, "digest": found.digest, "card": text})
    else:
        echo_text(text)
