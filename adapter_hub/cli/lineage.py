"""`lineage`: what an adapter was made from, and what was made from it."""

from __future__ import annotations

from pathlib import Path

import click

from adapter_hub.cli.terminal.arguments import ref_argument
from adapter_hub.cli.terminal.echo import echo_json, echo_text, echo_warnings
from adapter_hub.cli.terminal.global_options import GlobalOptions
from adapter_hub.cli.terminal.version_lookup import ancestors_at_hand, open_ref
from adapter_hub.formats.reference import parse_source


@click.command()
@ref_argument
@click.option(
    "--descendants", is_flag=True, help="Show what was made from it, instead of what it was made from."
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["tree", "json", "mermaid"]),
    default="tree",
    show_default=True,
    help="Format of the output.",
)
@click.option("--json", "as_json", is_flag=True, help="Same as --format json.")
@click.pass_obj
def lineage(options: GlobalOptions, ref: str, descendants: bool, form: str, as_json: bool) -> None:
    """Show what an adapter was made from, or what was made from it, across all registries."""
    from adapter_hub.artifact.folder import Artifact
    from adapter_hub.registry.lineage import lineage_graph, lineage_json, render_mermaid, render_tree
    from adapter_hub.registry.resolution import look_up

    registries = options.registries()
    source = parse_source(ref)
    if isinstance(source, Path):
        artifact = Artifact.open(source)
        digest = artifact.digest
        graph = lineage_graph(registries, {digest: artifact.manifest, **artifact.ancestors()})
    else:
        parsed, places = open_ref(source, options)
        registries = places.registries()
        found = look_up(parsed, registries)
        echo_warnings(found.warnings)
        digest = found.block.digest
        graph = lineage_graph(registries, ancestors_at_hand(found.registry, found.ref, found.block, options))
    if as_json or form == "json":
        echo_json(lineage_json(graph, digest, descendants=descendants))
    else:
        render = render_mermaid if form == "mermaid" else render_tree
        echo_text(render(graph, digest, descendants=descendants))
