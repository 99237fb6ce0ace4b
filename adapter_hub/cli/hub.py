"""What only a Hub has: `search`, and base models by `base-model fetch|show`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from adapter_hub.cli.catalogue import json_option
from adapter_hub.cli.terminal.arguments import PLACE
from adapter_hub.cli.terminal.echo import echo_json, echo_line, echo_note, echo_text
from adapter_hub.cli.terminal.settings import Settings
from adapter_hub.cli.terminal.tables import table

if TYPE_CHECKING:
    from adapter_hub.hub import RepoState

SPEECH = "automatic-speech-recognition"


@click.command()
@click.argument("text", required=False)
@click.option("--language", metavar="TAG", help="Only adapters for this language, like da.")
@click.option(
    "--base-model", metavar="ID", help="Only adapters of this base model, like openai/whisper-small."
)
@click.option("--author", metavar="NAMESPACE", help="Only this user's or organisation's.")
@click.option(
    "--peft", is_flag=True, help="Every PEFT adapter for speech, not only this library's: to import."
)
@click.option("--limit", type=click.IntRange(min=1), default=30, show_default=True, help="At most so many.")
@json_option
@click.pass_obj
def search(
    settings: Settings,
    text: str | None,
    language: str | None,
    base_model: str | None,
    author: str | None,
    peft: bool,
    limit: int,
    as_json: bool,
) -> None:
    """Search the Hub for adapters, whether or not a registry lists them; most downloaded first.

    What it finds is pulled as hf://namespace/name. It asks HF_ENDPOINT, by default huggingface.co.
    """
    from adapter_hub.hub import HubClient
    from adapter_hub.stores.hub_commits import TAG

    filters = ["peft", SPEECH] if peft else [TAG]
    filters += [language] if language else []
    filters += [f"base_model:adapter:{base_model}"] if base_model else []
    client = HubClient()
    rows = [_row(item) for item in client.search(filters, author=author, text=text, limit=limit)]
    if as_json:
        echo_json(rows)
    elif rows:
        headings = ["repository", "languages", "base model", "licence", "downloads", "updated", "made by"]
        echo_text(table(headings, [_cells(row) for row in rows]))
        if len(rows) == limit:
            echo_note(f"these are the first {limit}; --limit shows more")
    else:
        echo_note(f"nothing on {client.endpoint} fits; --peft searches adapters of other tools, too")


def _row(item: RepoState) -> dict[str, Any]:
    from adapter_hub.stores.hub_commits import TAG

    ours = TAG in item.tags
    return {
        "repository": f"hf://{item.id}",
        "languages": list(item.card_texts("language")),
        "base_model": list(item.card_texts("base_model")),
        "license": next(iter((*item.card_texts("license_name"), *item.card_texts("license"))), None),
        "downloads": item.downloads,
        "updated": item.updated,
        "private": item.private,
        "gated": bool(item.gated),
        "made_by": TAG if ours else "peft",
        "command": f"adapter-hub {'pull' if ours else 'import'} hf://{item.id}",
    }


def _cells(row: dict[str, Any]) -> list[Any]:
    return [
        row["repository"],
        ",".join(row["languages"]),
        ",".join(row["base_model"]),
        row["license"],
        row["downloads"],
        row["updated"][:10],
        row["made_by"],
    ]


@click.group("base-model")
def base_model() -> None:
    """Fetch a base model from the Hub, or show which one a folder holds."""


@base_model.command(short_help="Fetch a base model from the Hub.")
@click.argument("repo_id", metavar="ID", type=PLACE)
@click.option("--revision", metavar="COMMIT", help="Branch, tag or commit. Default: the newest.")
@json_option
@click.pass_obj
def fetch(settings: Settings, repo_id: str, revision: str | None, as_json: bool) -> None:
    """Fetch a base model like openai/whisper-small into the cache, every file hashed.

    One that the Hub's own client has in its cache, as it is on the Hub now, is used from there.
    """
    from adapter_hub.base_model.fetching import fetch_base_model
    from adapter_hub.cli.terminal.progress import Arrivals

    with Arrivals() as arrivals:
        cache = settings.open_cache().folder
        folder, commit = fetch_base_model(repo_id, revision, cache=cache, progress=arrivals.add)
    _show(settings, repo_id, folder, commit, as_json)


@base_model.command(short_help="Show a base model's digest.")
@click.argument("id_or_folder", metavar="ID|FOLDER", type=PLACE)
@click.option("--revision", metavar="COMMIT", help="Of a model on the Hub.")
@json_option
@click.pass_obj
def show(settings: Settings, id_or_folder: str, revision: str | None, as_json: bool) -> None:
    """Show a base model's digest: equal for a re-saved or re-sharded copy, another for other weights.

    A folder whose name looks like an ID is written ./namespace/name.
    """
    from adapter_hub.base_model.finding import find_base_model

    folder, commit = find_base_model(id_or_folder, revision, cache=settings.open_cache().folder)
    _show(settings, id_or_folder, folder, commit, as_json)


def _show(settings: Settings, label: str, folder: Path, commit: str | None, as_json: bool) -> None:
    from adapter_hub.base_model.digest import stamped_digest
    from adapter_hub.base_model.settings import read_config

    row = {
        "id": label,
        "revision": commit,
        "digest": stamped_digest(folder, settings.open_cache().folder),
        "architecture": (read_config(folder).get("architectures") or [None])[0],
        "path": str(folder),
    }
    if as_json:
        echo_json(row)
    else:
        for name, value in row.items():
            if value is not None:
                echo_line(f"{name + ':':14}{value}")
