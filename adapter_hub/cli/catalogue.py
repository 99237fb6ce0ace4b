"""Looking at adapters: `list`, `show`, `diff`, `lineage`, `card`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from adapter_hub.cli.settings import Settings, echo_json, echo_warnings
from adapter_hub.cli.tables import size_text, table

if TYPE_CHECKING:
    pass

METHODS = ("lora", "warm-start", "expert-pair", "average", "imported")
STATUSES = ("active", "deprecated", "yanked", "quarantined", "withdrawn")
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")
ref_argument = click.argument("ref", metavar="REF")


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
    rows = [
        row
        for row in _versions(settings)
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
        click.echo("no adapter fits; `adapter-hub list` without options shows all", err=True)
        return
    names = {row.get("digest", ""): f"{row['name']}@{row['version']}" for row in rows}
    click.echo(
        table(
            ["adapter", "language", "method", "rank", "from", "score", "size", "status"],
            [_cells(row, names, data) for row in rows],
        )
    )


def _versions(settings: Settings) -> Iterator[dict[str, Any]]:
    """Yield every version as plain data; one that several registries hold is yielded once."""
    from packaging.version import Version

    seen = set()
    for registry in settings.registries():
        echo_warnings(registry.warnings)
        for name, version in registry.unreadable:
            yield {"name": name, "version": version, "registry": str(registry.path), "status": "unreadable"}
        for name in sorted(registry.adapters):
            versions = registry.adapters[name]
            for version in sorted(versions, key=Version):
                block = versions[version]
                if (name, version, block.digest) not in seen:
                    seen.add((name, version, block.digest))
                    yield {
                        "name": name,
                        "version": version,
                        "registry": str(registry.path),
                        **block.to_json(),
                    }


def _sort_key(row: dict[str, Any], metric: str, data: str) -> tuple[bool, float]:
    scores = [score for score in row.get("scores", []) if (score["metric"], score["data"]) == (metric, data)]
    return (not scores, min((score["value"] for score in scores), default=0.0))


def _cells(row: dict[str, Any], names: dict[str, str], data: str | None) -> list[Any]:
    if "digest" not in row:  # a block that a newer program wrote
        return [f"{row['name']}@{row['version']}", *[None] * 6, row["status"]]
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
