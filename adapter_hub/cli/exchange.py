"""Moving adapters: `publish`, `pull`, `retire`, `import`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import click

from adapter_hub.cli.catalogue import json_option, ref_argument
from adapter_hub.cli.settings import Settings, echo_json, echo_warnings

if TYPE_CHECKING:
    from adapter_hub.report import Status


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--as", "rename", metavar="NAME@VERSION", help="Publish the same weights under another name.")
@json_option
@click.pass_obj
def publish(settings: Settings, folder: Path, rename: str | None, as_json: bool) -> None:
    """Publish the artifact in FOLDER: verified, its bytes into the store, then its entry into the registry.

    A published version never changes. Publishing the same bytes again does nothing.
    """
    from adapter_hub.exchange import publish as publish_artifact
    from adapter_hub.reference import AdapterRef

    published = publish_artifact(
        folder,
        registry=settings.own_registry(),
        store=settings.own_store(),
        rename=AdapterRef.parse(rename) if rename else None,
    )
    echo_warnings(published.warnings)
    if as_json:
        echo_json({"ref": published.ref, "digest": published.digest, "new": published.is_new})
    else:
        click.echo(f"{published.ref}  {published.digest}")
        if not published.is_new:
            click.echo("was published already, nothing changed", err=True)


@click.command()
@click.argument("refs", metavar="REF...", nargs=-1, required=True)
@click.option("--to", metavar="FOLDER", type=click.Path(path_type=Path), help="Copy it to this folder too.")
@click.option("--allow-quarantined", metavar="DIGEST", help="Take this quarantined version all the same.")
@json_option
@click.pass_obj
def pull(
    settings: Settings, refs: tuple[str, ...], to: Path | None, allow_quarantined: str | None, as_json: bool
) -> None:
    """Fetch adapters into the cache, verified from the bytes up, and print where they are.

    With several REFs and --to, each goes to a folder of its own below it, named like the adapter.
    """
    from adapter_hub.exchange import pull as pull_adapter

    rows = []
    for ref in refs:
        target = to if to is None or len(refs) == 1 else to / ref.partition("@")[0].partition("~")[0]
        artifact = pull_adapter(
            ref,
            registries=settings.registries(),
            cache=settings.open_cache(),
            to=target,
            allow_quarantined=allow_quarantined,
            tell=lambda line: echo_warnings([line]),
        )
        rows.append({"ref": artifact.ref, "digest": artifact.digest, "path": str(artifact.path)})
        if not as_json:
            click.echo(f"{artifact.ref}  {artifact.path}")
    if as_json:
        echo_json(rows)


@click.command()
@ref_argument
@click.option(
    "--status",
    type=click.Choice(["yanked", "deprecated", "quarantined", "withdrawn", "active"]),
    required=True,
    help="yanked: no new use; deprecated: warns; quarantined: refused, descendants too; "
    "withdrawn: its files are removed; active: back in use.",
)
@click.option("--reason", metavar="TEXT", required=True, help="Why; shown to everybody who asks for it.")
@json_option
@click.pass_obj
def retire(settings: Settings, ref: str, status: Status, reason: str, as_json: bool) -> None:
    """Change the status of one published version, and tell which descendants that affects."""
    from adapter_hub.exchange import retire as retire_version
    from adapter_hub.reference import AdapterRef

    affected = retire_version(
        AdapterRef.parse(ref),
        status,
        reason,
        registry=settings.own_registry(),
        store=settings.own_store(),
    )
    if as_json:
        echo_json({"ref": ref, "status": status, "descendants": affected})
        return
    click.echo(f"{ref} is {status}")
    for item in affected:
        click.echo(f"descendant: {item}")


@click.command("import")
@click.argument("source", metavar="PEFT_FOLDER")
@click.option("--language", "languages", metavar="TAG", multiple=True, required=True, help="BCP 47.")
@click.option(
    "--decode-language",
    "decode_languages",
    metavar="CODE",
    multiple=True,
    help="Whisper's token for the language, where it is not the tag's first part.",
)
@click.option("--base-model", metavar="ID|FOLDER", required=True, help="What it was trained on.")
@click.option("--as", "name", metavar="NAME@VERSION", help="Its name. Default: imported/<folder>@1.0.0.")
@click.option("--out", metavar="FOLDER", type=click.Path(path_type=Path), help="Default: <folder>-adapter.")
@click.option("--license", "licence", metavar="SPDX", default="LicenseRef-unknown", help="Its licence.")
@click.option("--author", "authors", metavar="NAME", multiple=True, help="Who made it; may be repeated.")
@click.option(
    "--task", type=click.Choice(["transcribe", "translate"]), default="transcribe", help="What it does."
)
@click.option("--timestamps", is_flag=True, help="It was trained with timestamp tokens.")
@json_option
@click.pass_obj
def import_adapter(
    settings: Settings,
    source: str,
    languages: tuple[str, ...],
    decode_languages: tuple[str, ...],
    base_model: str,
    name: str | None,
    out: Path | None,
    licence: str,
    authors: tuple[str, ...],
    task: str,
    timestamps: bool,
    as_json: bool,
) -> None:
    """Make an artifact of somebody's PEFT adapter, checked against the base model; publish it afterwards.

    Plain LoRA on linears only, as safetensors. What it was trained on stays unknown, and the audit says so.
    """
    from adapter_hub.base_model import find_base_model
    from adapter_hub.errors import InvalidInputError
    from adapter_hub.importing import Identity, base_model_pin, import_peft, languages_of
    from adapter_hub.reference import AdapterRef

    if source.startswith("hf://"):
        raise InvalidInputError(f"{source}: not a folder; download it and name the folder")
    own_name = re.sub(r"[^a-z0-9]+", "-", Path(source).resolve().name.lower()).strip("-") or "adapter"
    ref = AdapterRef.parse(name or f"imported/{own_name}@1.0.0")
    if ref.version is None:
        raise InvalidInputError(f"--as {name}: expected NAME@VERSION, like {ref.name}@1.0.0")
    target = out or Path(f"{own_name}-adapter")
    folder, revision = find_base_model(base_model)
    artifact = import_peft(
        Path(source),
        target,
        Identity(
            name=ref.name,
            version=ref.version,
            languages=languages_of(languages, decode_languages),
            license=licence,
            authors=authors,
            task=task,
            timestamps=timestamps,
        ),
        base_model_pin(folder, base_model, revision),
        folder,
    )
    row = {"ref": artifact.ref, "digest": artifact.digest, "path": str(artifact.path)}
    if as_json:
        echo_json(row)
    else:
        click.echo(f"{artifact.ref}  {artifact.path}")
        click.echo(f"publish it with `adapter-hub publish {target}`", err=True)
