"""`registry check|rebuild|trust`: the index of what is published."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from adapter_hub.cli.terminal.arguments import PATH, json_option
from adapter_hub.cli.terminal.echo import echo_json, echo_line, echo_note, echo_warning, echo_warnings
from adapter_hub.cli.terminal.findings import echo_findings
from adapter_hub.cli.terminal.global_options import GlobalOptions
from adapter_hub.cli.terminal.tables import counted

if TYPE_CHECKING:
    from adapter_hub.formats.claims import Finding
    from adapter_hub.registry.contract import WritableRegistry
    from adapter_hub.stores.contract import Store


@click.group()
def registry() -> None:
    """Check a registry against its stores, rebuild it from them, or trust it."""


@registry.command(short_help="Compare the registry with its stores.")
@json_option
@click.pass_obj
def check(options: GlobalOptions, as_json: bool) -> int:
    """Compare every entry of the registry with what is in its stores; exit with 1 if they differ.

    Adapters in a store that cannot be reached are named as not checked.
    """
    from adapter_hub.exchange import check as compare

    own = options.own_registry()
    findings = compare(own, _stores(options, own))
    differences = sum(finding.severity != "info" for finding in findings)
    if as_json:
        echo_json([finding.to_json() for finding in findings])
    else:
        echo_findings(findings)
        outcome = counted(differences, "difference") if differences else "registry and stores agree"
        echo_note(f"{own.label}: {outcome}{_unchecked(findings)}")
    return 1 if differences else 0


@registry.command(short_help="Rebuild the registry from its stores.")
@json_option
@click.pass_obj
def rebuild(options: GlobalOptions, as_json: bool) -> int:
    """Rebuild the entries of the registry from the manifests, reports and statuses in its stores.

    A version whose files are lost keeps its entry. A registry that can no longer be read or written is
    started from scratch, with a new id. Exits with 1 if the stores did not have everything.
    """
    from adapter_hub.exchange import rebuild as rebuild_registry

    options = replace(options, must_exist=False)  # it makes one where there is none
    own = options.own_registry()
    own.mend()
    with own.locked():  # a registry that is lost altogether counts as an empty one
        stores = _stores(options, own)
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
        echo_findings(rebuilt.findings)
        outcome = "rebuilt" if rebuilt.changed else "unchanged"
        left = _unchecked(rebuilt.findings)
        echo_line(f"{own.label}: {outcome}, {counted(count, 'version')}, sequence {own.sequence}{left}")
    return 1 if any(finding.severity != "info" for finding in rebuilt.findings) else 0


def _unchecked(findings: Sequence[Finding]) -> str:
    count = sum(finding.severity == "info" for finding in findings)
    return f"; {count} not checked" if count else ""


def _about_renewal(own: WritableRegistry, reason: str) -> str:
    from adapter_hub.registry.file import damaged_path

    kept = "its history has it" if own.is_on_hub else f"it is kept as {damaged_path(own.path)}"
    return (
        f"registry {own.label} was started from scratch, with the id {own.registry_id}: {reason}; {kept}; "
        "other machines that know it will refuse it once, and say how to accept it"
    )


@registry.command(short_help="Trust the registry of the current folder.")
@click.argument("file", metavar="[FILE]", type=PATH, default=Path("registry.json"))
@click.option(
    "--namespace",
    metavar="NAME",
    help="Instead, allow the registry that --registry names to list adapters in this namespace.",
)
@click.pass_obj
def trust(options: GlobalOptions, file: Path, namespace: str | None) -> None:
    """Trust the registry FILE (./registry.json): commands that run in its folder then use it.

    A registry decides where adapters come from, so trust only one that you would name with --registry.
    """
    from adapter_hub.registry.trust import registry_id_of, trust_file, trust_registry

    if namespace is not None:
        from adapter_hub.registry.namespaces import trust_namespace

        own = options.own_registry()
        trust_namespace(namespace, own)
        echo_note(f"{own.label}: trusted with the namespace {namespace}; remembered in {trust_file()}")
        return
    registry_id = registry_id_of(file)
    trust_registry(file, registry_id)
    echo_note(f"{file}: trusted, as registry {registry_id}; remembered in {trust_file()}")


def _stores(options: GlobalOptions, own: WritableRegistry) -> list[Store]:
    """Return the stores that the registry's entries name, and the one that is configured.

    One that cannot be opened is a warning; its versions are findings unless another store has them.
    """
    from adapter_hub.errors import AdapterHubError
    from adapter_hub.exchange.locations import open_location

    places = {
        location.store: location
        for versions in own.adapters.values()
        for block in versions.values()
        for location in block.locations
    }
    configured, cache = options.own_store(), options.cache_folder
    here, labels = configured.label(own.path), places.keys()
    stores = []
    for label in sorted(labels - {here}):
        try:
            stores.append(open_location(places[label], own, cache=cache))
        except AdapterHubError as error:
            echo_warnings([str(error)])
    return stores if own.is_embedded and labels and here not in labels else [*stores, configured]
