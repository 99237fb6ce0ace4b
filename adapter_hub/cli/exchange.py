"""Moving adapters: `publish`, `pull`, `retire`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from adapter_hub.cli.catalogue import json_option, ref_argument
from adapter_hub.cli.terminal.arguments import PATH, PLACE
from adapter_hub.cli.terminal.echo import (
    echo_error,
    echo_json,
    echo_line,
    echo_note,
    echo_warning,
    echo_warnings,
)
from adapter_hub.cli.terminal.settings import Settings

if TYPE_CHECKING:
    from adapter_hub.errors import AdapterHubError
    from adapter_hub.formats.claims import Status
    from adapter_hub.formats.manifest import BaseModelPin


@click.command()
@click.argument("folder", type=PATH)
@click.option("--as", "rename", metavar="NAME@VERSION", help="Publish the same weights under another name.")
@click.option("--private", is_flag=True, help="On the Hub: make new repositories private.")
@click.option(
    "--allow-quarantined",
    metavar="DIGEST",
    help="Publish what does the same as this quarantined version, or was made from it, all the same.",
)
@json_option
@click.pass_obj
def publish(
    settings: Settings,
    folder: Path,
    rename: str | None,
    private: bool,
    allow_quarantined: str | None,
    as_json: bool,
) -> None:
    """Publish the artifact in FOLDER: verified, its bytes into the store, then its entry into the registry.

    A published version never changes. Publishing the same bytes again does nothing. To the Hub: with
    --store hf://NAMESPACE, after `hf auth login`.
    """
    from adapter_hub.exchange import publish as publish_artifact
    from adapter_hub.formats.reference import AdapterRef

    published = publish_artifact(
        folder,
        registry=settings.own_registry(private=private),
        store=settings.own_store(private=private),
        rename=AdapterRef.parse(rename) if rename else None,
        allow_quarantined=allow_quarantined,
    )
    echo_warnings(published.warnings)
    if as_json:
        echo_json({"ref": published.ref, "digest": published.digest, "new": published.is_new})
    else:
        echo_line(f"{published.ref}  {published.digest}")
        if published.is_written and not published.is_new:
            echo_note("was published already, and the store did not have its bytes: they are there again")
        elif not published.is_new:
            echo_note("was published already, nothing changed")


@click.command()
@click.argument("refs", metavar="REF...", type=PLACE, nargs=-1, required=True)
@click.option("--to", metavar="FOLDER", type=PATH, help="Copy it to this folder too.")
@click.option("--allow-quarantined", metavar="DIGEST", help="Take this quarantined version all the same.")
@click.option(
    "--with-base-model", is_flag=True, help="Fetch its base model, too, and check that it is the one."
)
@json_option
@click.pass_obj
def pull(
    settings: Settings,
    refs: tuple[str, ...],
    to: Path | None,
    allow_quarantined: str | None,
    with_base_model: bool,
    as_json: bool,
) -> None:
    """Fetch adapters into the cache, verified from the bytes up, and print where they are.

    hf://namespace/name goes past the registry to its repository. With several REFs and --to, each goes to a
    folder of its own below it, named like the adapter.
    """
    from adapter_hub.cli.terminal.progress import Arrivals
    from adapter_hub.exchange import pull as pull_adapter
    from adapter_hub.isolation import isolated

    rows: list[dict[str, str]] = []
    registries, cache = settings.registries(), settings.open_cache()

    def pull_one(ref: str) -> None:
        name = ref.removeprefix("hf://").partition("@")[0].partition("~")[0]
        target = to if to is None or len(refs) == 1 else to / name
        _check_target(target)
        with Arrivals() as arrivals:
            artifact = pull_adapter(
                ref,
                registries=registries,
                cache=cache,
                to=target,
                allow_quarantined=allow_quarantined,
                tell=echo_warning,
                progress=arrivals.add,
            )
        row = {"ref": artifact.ref, "digest": artifact.digest, "path": str(artifact.path)}
        if not as_json:
            echo_line(f"{artifact.ref}  {artifact.path}")
        if with_base_model:
            row["base_model"] = str(_base_model(artifact.manifest.base_model, cache.folder))
            if not as_json:
                echo_line(f"{artifact.manifest.base_model.id}  {row['base_model']}")
        rows.append(row)

    failures: list[AdapterHubError] = []
    if len(refs) == 1:
        pull_one(refs[0])
    for ref in refs if len(refs) > 1 else ():
        with isolated(ref, failures.append):
            pull_one(ref)
    if as_json:
        echo_json(rows)
    for failure in failures:
        echo_error(failure)
    if failures:
        click.get_current_context().exit(1)


def _check_target(folder: Path | None) -> None:
    """Refuse a folder that holds something else before anything is fetched for it."""
    from adapter_hub.errors import ConflictError
    from adapter_hub.formats.manifest import MANIFEST_FILE

    if folder is not None and folder.exists() and not (folder / MANIFEST_FILE).is_file():
        raise ConflictError(f"--to {folder}: exists and is no artifact; name a folder that does not exist")


def _base_model(pin: BaseModelPin, cache: Path) -> Path:
    """Return the folder of the base model that an adapter pins; fetched if it is not here."""
    from adapter_hub.base_model.digest import EMBEDDED_ID, stamped_digest
    from adapter_hub.base_model.fetching import fetch_base_model
    from adapter_hub.base_model.finding import find_pinned_base_model
    from adapter_hub.cli.terminal.progress import Arrivals
    from adapter_hub.errors import IntegrityError, InvalidInputError, NotFoundError
    from adapter_hub.hub import RepoId

    try:
        return find_pinned_base_model(pin, cache)[0]
    except NotFoundError:
        if pin.id == EMBEDDED_ID:
            raise
        try:
            repo = RepoId(pin.id)
        except InvalidInputError:
            repo = None
        if repo is None:
            raise
    with Arrivals() as arrivals:
        folder, commit = fetch_base_model(repo.id, pin.revision, cache=cache, progress=arrivals.add)
    if (digest := stamped_digest(folder, cache)) != pin.digest:
        raise IntegrityError(
            f"base model {repo.id} at {commit} in {folder}: has digest {digest}, the adapter was made for "
            f"{pin.digest}; name a copy of the right one with --base-model when you use it"
        )
    return folder


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
    """Change the status of one published version, and print which descendants that affects."""
    from adapter_hub.exchange import retire as retire_version
    from adapter_hub.formats.reference import AdapterRef

    affected = retire_version(
        AdapterRef.parse(ref),
        status,
        reason,
        registry=settings.own_registry(),
        store=settings.own_store(),
        tell=echo_warning,
    )
    if as_json:
        echo_json({"ref": ref, "status": status, "descendants": affected})
        return
    echo_line(f"{ref} is {status}")
    for item in affected:
        echo_line(f"descendant: {item}")
