"""`search`: adapters on the Hub."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from adapter_hub.cli.terminal.arguments import json_option
from adapter_hub.cli.terminal.echo import echo_json, echo_note, echo_text
from adapter_hub.cli.terminal.global_options import GlobalOptions
from adapter_hub.cli.terminal.tables import fitting_table

if TYPE_CHECKING:
    from collections.abc import Iterator

    from adapter_hub.hub import RepoState


SPEECH = "automatic-speech-recognition"
# what PEFT's own cards say nothing of: the task. Their base model says it, and often their name
NAMES = ("whisper", "parakeet")
BASE_MODELS = (
    *(f"openai/whisper-{size}" for size in ("tiny", "base", "small", "medium", "large")),
    *(f"openai/whisper-{size}.en" for size in ("tiny", "base", "small", "medium")),
    *("openai/whisper-large-v2", "openai/whisper-large-v3", "openai/whisper-large-v3-turbo"),
    *("distil-whisper/distil-large-v3", "nvidia/parakeet-ctc-0.6b", "nvidia/parakeet-ctc-1.1b"),
)


@click.command()
@click.argument("text", metavar="[TEXT]", required=False)
@click.option("--language", metavar="TAG", help="Only adapters for this language, like da or pt-BR.")
@click.option(
    "--base-model", metavar="ID", help="Only adapters of this base model, like openai/whisper-small."
)
@click.option("--author", metavar="NAMESPACE", help="Only adapters of this user or organisation.")
@click.option(
    "--peft",
    is_flag=True,
    help="All PEFT adapters for speech recognition, which `import` takes, not only those of this library.",
)
@click.option(
    "--limit",
    metavar="N",
    type=click.IntRange(min=1),
    default=30,
    show_default=True,
    help="Maximum number of results.",
)
@json_option
@click.pass_obj
def search(
    options: GlobalOptions,
    text: str | None,
    language: str | None,
    base_model: str | None,
    author: str | None,
    peft: bool,
    limit: int,
    as_json: bool,
) -> None:
    """Search the Hub for adapters, whether or not a registry lists them; the most downloaded come first.

    The results can be pulled as hf://namespace/name. HF_ENDPOINT names the Hub; the default is
    https://huggingface.co.
    """
    from adapter_hub.cards.front_matter import iso_639
    from adapter_hub.hub import HubClient
    from adapter_hub.speech.languages import language_tag

    client = HubClient()
    tag = language_tag(language) if language else ""
    code = iso_639(tag) or tag
    found: dict[str, RepoState] = {}
    for filters, words in _queries(text, base_model, peft):
        asked = [*filters, *([code] if code else [])]
        most = limit if tag == code else None  # the Hub knows no regions: those are looked at here
        results = client.search(asked, author=author, text=words, limit=most)
        found |= {item.id: item for item in results if tag == code or _speaks(item, tag)}
    items = sorted(found.values(), key=lambda item: (-item.downloads, item.id))
    rows = [_row(item) for item in items[:limit]]
    if as_json:
        echo_json(rows)
    elif rows:
        headings = ["repository", "languages", "base model", "licence", "downloads", "updated", "made by"]
        spare = ["updated", "downloads", "licence", "made by"]
        echo_text(fitting_table(headings, [_cells(row) for row in rows], spare))
        if len(rows) == limit:
            echo_note(f"these are the first {limit}; --limit shows more")
    else:
        hint = "fewer conditions find more" if peft else "--peft also searches adapters of other tools"
        echo_note(f"nothing on {client.endpoint} matches; {hint}")


def _queries(text: str | None, base_model: str | None, peft: bool) -> Iterator[tuple[list[str], str | None]]:
    """Yield what to ask the Hub: the tags that a repository has to have, and a part of its name."""
    from adapter_hub.stores.hub_commits import TAG

    base = [f"base_model:adapter:{base_model}"] if base_model else []
    if not peft or base:
        yield ["peft" if peft else TAG, *base], text
        return
    yield ["peft", SPEECH], text
    for name in NAMES:
        if text is None or name in text.lower():
            yield ["peft"], text or name
    for known in BASE_MODELS:
        yield ["peft", f"base_model:adapter:{known}"], text


def _speaks(item: RepoState, tag: str) -> bool:
    wanted = tag.replace("_", "-").lower()
    return any(f"{spoken.replace('_', '-').lower()}-".startswith(f"{wanted}-") for spoken in item.languages)


def _row(item: RepoState) -> dict[str, Any]:
    from adapter_hub.stores.hub_commits import TAG

    ours = TAG in item.tags
    return {
        "repository": f"hf://{item.id}",
        "languages": list(item.languages),
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
