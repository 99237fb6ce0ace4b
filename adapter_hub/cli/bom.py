"""`bom`: a version's bill of materials."""

from __future__ import annotations

from pathlib import Path

import click

from adapter_hub.cli.terminal.arguments import PATH, ref_argument
from adapter_hub.cli.terminal.echo import echo_json, echo_note, json_text
from adapter_hub.cli.terminal.global_options import GlobalOptions


@click.command()
@ref_argument
@click.option("--out", metavar="FILE", type=PATH, help="Write it to this file instead of printing it.")
@click.option("--json", "as_json", is_flag=True, help="Changes nothing: it is JSON in any case.")
@click.pass_obj
def bom(options: GlobalOptions, ref: str, out: Path | None, as_json: bool) -> None:
    """Write a bill of materials: what an adapter consists of and was made from, as CycloneDX 1.6.

    An ML-BOM in JSON: files, parents and all ancestors, base model and data sets with their digests and
    licences, authors, and the scores of attached reports. The same version gives the same bytes.
    """
    from adapter_hub.artifact.folder import Artifact
    from adapter_hub.cards.bom import bill_of_materials
    from adapter_hub.cli.terminal.version_lookup import ancestors_at_hand, find_version
    from adapter_hub.files.writing import write_atomically
    from adapter_hub.formats.reference import parse_source

    found = find_version(options, ref)
    if found.registry is None or found.block is None:
        source = parse_source(ref)
        assert isinstance(source, Path)
        ancestors = Artifact.open(source).ancestors()
    else:
        ancestors = ancestors_at_hand(found.registry, found.manifest.ref, found.block, options)
    bill = bill_of_materials(found.manifest, found.digest, ancestors, found.claims.reports)
    if out is None:
        echo_json(bill)
        return
    write_atomically(out, json_text(bill).encode())
    echo_note(f"bill of materials of {found.ref} in {out}")
