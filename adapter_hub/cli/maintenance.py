"""Keeping house: `registry rebuild|check` and `cache list|prune|verify`."""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from adapter_hub.cli.catalogue import json_option
from adapter_hub.cli.terminal.arguments import PATH, Number
from adapter_hub.cli.terminal.echo import (
    echo_json,
    echo_line,
    echo_note,
    echo_text,
    echo_warning,
    echo_warnings,
)
from adapter_hub.cli.terminal.settings import Settings
from adapter_hub.cli.terminal.tables import counted, size_text, table

if TYPE_CHECKING:
    from adapter_hub.formats.claims import Finding
    from adapter_hub.registry.contract import WritableRegistry
    from adapter_hub.stores.contract import Store


@click.group()
def registry() -> None:
    """Check the registry against its stores, or rebuild it from them."""


@registry.command(short_help="Compare the registry with its stores.")
@json_option
@click.pass_context
def check(ctx: click.Context, as_json: bool) -> None:
    """Compare every entry with what the stores hold; exits with 1 if they differ."""
    from adapter_hub.exchange import check as compare

    settings: Settings = ctx.obj
    own = settings.own_registry()
    findings = compare(own, _stores(settings, own))
    if as_json:
        echo_json([finding.to_json() for finding in findings])
    else:
        _echo_findings(findings)
        outcome = counted(len(findings), "difference") if findings else "registry and stores agree"
        echo_note(f"{own.label}: {outcome}")
    if findings:
        ctx.exit(1)


def _echo_findings(findings: Iterable[Finding]) -> None:
    for finding in findings:
        echo_line(f"{finding.severity}: {finding.ref}: {finding.message} [{finding.code}]")
        if finding.hint:
            echo_line(f"  {finding.hint}")


@registry.command(short_help="Rebuild the registry from its stores.")
@json_option
@click.pass_context
def rebuild(ctx: click.Context, as_json: bool) -> None:
    """Rebuild the registry's entries from the manifests, reports and statuses in its stores.

    A version whose bytes are lost keeps its entry. Exits with 1 if the stores could not give everything. A
    registry that cannot be read or written any more begins anew, under an id of its own.
    """
    from adapter_hub.exchange import rebuild as rebuild_registry

    settings: Settings = ctx.obj
    own = settings.own_registry()
    own.mend()
    with own.locked():  # a registry that is lost altogether counts as an empty one
        stores = _stores(settings, own)
        renewal = own.renewal
    rebuilt = rebuild_registry(own, stores, echo_warning)
    if renewal:
        echo_warnings([_about_renewal(own, renewal)])
    count = sum(len(versions) for versions in own.adapters.values())
    if as_json:
        found = [finding.to_json() for finding in rebuilt.findings]
        about = {"registry": own.label, "sequence": own.sequence, "versions": count}
        echo_json({**about, "changed": rebuilt.changed, "findings": found})
    else:
        _echo_findings(rebuilt.findings)
        outcome = "rebuilt" if rebuilt.changed else "unchanged"
        echo_line(f"{own.label}: {outcome}, {counted(count, 'version')}, sequence {own.sequence}")
    if rebuilt.findings:
        ctx.exit(1)


def _about_renewal(own: WritableRegistry, reason: str) -> str:
    from adapter_hub.registry.file import damaged_path

    kept = "its history has it" if own.is_on_hub else f"it is kept as {damaged_path(own.path)}"
    return (
        f"registry {own.label} began anew, with the id {own.registry_id}: {reason}; {kept}; whoever saw it "
        "is told once that this is another registry, and how to accept it"
    )


@registry.command(short_help="Let a registry count in its folder without being named.")
@click.argument("file", type=PATH, default=Path("registry.json"))
@click.option(
    "--namespace",
    metavar="NAME",
    help="Instead: let the registry that --registry names list adapters of this namespace, too.",
)
@click.pass_obj
def trust(settings: Settings, file: Path, namespace: str | None) -> None:
    """Let the registry FILE (./registry.json) count whenever a command is run in its folder.

    It decides where adapters come from, so trust only what you would name with --registry.
    """
    from adapter_hub.registry.trust import registry_id_of, trust_file, trust_registry

    if namespace is not None:
        from adapter_hub.registry.namespaces import trust_namespace

        own = settings.own_registry()
        trust_namespace(namespace, own)
        echo_note(f"{own.label}: trusted with {namespace}; remembered in {trust_file()}")
        return
    registry_id = registry_id_of(file)
    trust_registry(file, registry_id)
    echo_note(f"{file}: trusted, as registry {registry_id}; remembered in {trust_file()}")


def _stores(settings: Settings, own: WritableRegistry) -> list[Store]:
    """Return the stores that the registry's entries name, and the one that is configured.

    One that cannot be opened is told; its versions are among the findings unless another store has them.
    """
    from adapter_hub.errors import AdapterHubError
    from adapter_hub.exchange.places import open_location

    places = {
        location.store: location
        for versions in own.adapters.values()
        for block in versions.values()
        for location in block.locations
    }
    configured, cache = settings.own_store(), settings.open_cache().folder
    here, labels = configured.label(own.path), places.keys()
    stores = []
    for label in sorted(labels - {here}):
        try:
            stores.append(open_location(places[label], own, cache=cache))
        except AdapterHubError as error:
            echo_warnings([str(error)])
    return stores if own.is_embedded and labels and here not in labels else [*stores, configured]


@click.group()
def cache() -> None:
    """Look at, shrink or check the cache of pulled adapters."""


@cache.command("list", short_help="List what the cache holds.")
@json_option
@click.pass_obj
def list_entries(settings: Settings, as_json: bool) -> None:
    """List the adapters that were pulled, and what is kept of data, with size and last use."""
    opened = settings.open_cache()
    entries = [*opened.entries(), *opened.data()]
    rows = [
        {
            "ref": entry.ref,
            "digest": entry.digest or None,
            "size": entry.size,
            "used": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(entry.used)) if entry.used else None,
            "path": str(entry.path),
        }
        for entry in entries
    ]
    if as_json:
        echo_json(rows)
    elif rows:
        cells = [[row["ref"], size_text(int(row["size"] or 0)), row["used"], row["path"]] for row in rows]
        echo_text(table(["adapter", "size", "last used", "place"], cells))
    else:
        echo_note("the cache is empty")


@cache.command(short_help="Remove what was not used for a while.")
@click.option("--unused-days", type=Number(min=0), default=30.0, show_default=True, help="How long.")
@json_option
@click.pass_obj
def prune(settings: Settings, unused_days: float, as_json: bool) -> None:
    """Remove what nobody asked for in a while; the next pull or training brings it back."""
    gone = settings.open_cache().prune(unused_days)
    if as_json:
        echo_json([{"ref": entry.ref, "digest": entry.digest or None, "size": entry.size} for entry in gone])
        return
    for entry in gone:
        echo_line(f"removed {entry.ref}")
    echo_note(f"{size_text(sum(entry.size for entry in gone))} freed")


@cache.command(short_help="Hash every file in the cache again.")
@json_option
@click.pass_context
def verify(ctx: click.Context, as_json: bool) -> None:
    """Hash every file in the cache again; exits with 1 if one is damaged."""
    settings: Settings = ctx.obj
    problems = settings.open_cache().verify()
    if as_json:
        echo_json(problems)
    else:
        for ref, problem in problems.items():
            echo_line(f"{ref}: {problem}")
        outcome = f"{len(problems)} damaged; the next pull fetches them again" if problems else "all sound"
        echo_note(outcome)
    if problems:
        ctx.exit(1)
