"""`base-model fetch|show`: the models that adapters are made for."""

from __future__ import annotations

from pathlib import Path

import click

from adapter_hub.cli.terminal.arguments import PLACE, json_option
from adapter_hub.cli.terminal.echo import echo_json, echo_line
from adapter_hub.cli.terminal.global_options import GlobalOptions


@click.group("base-model")
def base_model() -> None:
    """Fetch a base model from the Hub, or identify one by its digest."""


@base_model.command(short_help="Fetch a base model from the Hub.")
@click.argument("repo_id", metavar="ID", type=PLACE)
@click.option("--revision", metavar="REVISION", help="Branch, tag or commit. Default: the newest commit.")
@json_option
@click.pass_obj
def fetch(options: GlobalOptions, repo_id: str, revision: str | None, as_json: bool) -> None:
    """Fetch a base model, like openai/whisper-small, into the cache, and verify every file.

    If the Hub's own client has the same commit in its cache, that copy is used.
    """
    from adapter_hub.base_model.fetching import fetch_base_model
    from adapter_hub.cli.terminal.progress import DownloadBar

    with DownloadBar() as arrivals:
        cache = options.cache_folder
        folder, commit = fetch_base_model(repo_id, revision, cache=cache, progress=arrivals.add)
    _show(options, repo_id, folder, commit, as_json)


@base_model.command(short_help="Show the digest of a base model.")
@click.argument("id_or_folder", metavar="ID|FOLDER", type=PLACE)
@click.option("--revision", metavar="REVISION", help="Branch, tag or commit of a model on the Hub.")
@json_option
@click.pass_obj
def show(options: GlobalOptions, id_or_folder: str, revision: str | None, as_json: bool) -> None:
    """Show the digest of a base model: the same for a re-saved copy, different for other weights.

    The id is the one that manifests get: that of a model which the digest is known to be, or a plain name.
    A folder whose name looks like an id is written ./namespace/name; ID=FOLDER says what a folder is.
    """
    from adapter_hub.base_model.finding import find_base_model

    folder, commit = find_base_model(id_or_folder, revision, cache=options.cache_folder)
    _show(options, id_or_folder, folder, commit, as_json)


def _show(options: GlobalOptions, label: str, folder: Path, commit: str | None, as_json: bool) -> None:
    from adapter_hub.base_model.digest import stamped_digest
    from adapter_hub.base_model.finding import identified
    from adapter_hub.base_model.settings import read_config

    digest = stamped_digest(folder, options.cache_folder)
    name, known_commit = identified(label, folder, digest, options.cache_folder)
    row = {
        "id": name,
        "revision": commit or known_commit,
        "digest": digest,
        "architecture": (read_config(folder).get("architectures") or [None])[0],
        "path": str(folder),
    }
    if as_json:
        echo_json(row)
    else:
        for name, value in row.items():
            if value is not None:
                echo_line(f"{name + ':':14}{value}")
