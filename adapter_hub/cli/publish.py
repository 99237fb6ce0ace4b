"""`publish`: an artifact into a store, and its entry into the registry."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import click

from adapter_hub.cli.terminal.arguments import PATH, json_option
from adapter_hub.cli.terminal.echo import echo_json, echo_line, echo_note, echo_warnings
from adapter_hub.cli.terminal.global_options import GlobalOptions
from adapter_hub.cli.terminal.reports import kept_reports, read_report


@click.command()
@click.argument("folder", metavar="FOLDER", type=PATH)
@click.option("--as", "rename", metavar="NAME@VERSION", help="Publish the same weights under another name.")
@click.option(
    "--report",
    "reports",
    metavar="FILE",
    type=PATH,
    multiple=True,
    help="A report that `evaluate --out` has written, for the card. Can be given several times.",
)
@click.option("--private", is_flag=True, help="On the Hub: make new repositories private.")
@click.option(
    "--allow-quarantined",
    metavar="DIGEST",
    help="Digest of a quarantined version; publish anyway what has the same effect, or was made from it.",
)
@json_option
@click.pass_obj
def publish(
    options: GlobalOptions,
    folder: Path,
    rename: str | None,
    reports: tuple[Path, ...],
    private: bool,
    allow_quarantined: str | None,
    as_json: bool,
) -> None:
    """Publish the artifact in FOLDER: verify it, copy it to the store, then enter it in the registry.

    A published version never changes; publishing the same bytes again does nothing. To publish on the Hub,
    log in with `hf auth login` and use --store hf://NAMESPACE.
    """
    from adapter_hub.artifact.folder import Artifact
    from adapter_hub.exchange import publish as publish_artifact
    from adapter_hub.formats.reference import AdapterRef

    published = publish_artifact(
        folder,
        replace(options, private=private),
        rename=AdapterRef.parse(rename) if rename else None,
        allow_quarantined=allow_quarantined,
        reports=[read_report(file) for file in reports],
    )
    echo_warnings(published.warnings)
    if as_json:
        echo_json({"ref": published.ref, "digest": published.digest, "new": published.is_new})
    else:
        echo_line(f"{published.ref}  {published.digest}")
        if published.is_written and not published.is_new:
            echo_note(
                "was already published, but its files were missing from the store; they have been restored"
            )
        elif not published.is_new and not reports:
            echo_note("was already published; nothing changed")
    if published.is_new and not published.is_evaluated and not reports:
        function = Artifact.open(folder).manifest.function_digest
        kept = kept_reports(function, options.cache_folder)
        evaluate = f"evaluate {published.ref} --data FOLDER --beside base-model --attach"
        then = f"attach {kept[-1]}" if kept else evaluate
        echo_note(f"its card says that it was not evaluated yet; next: adapter-hub {then}")
