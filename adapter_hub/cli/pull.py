"""`pull`: adapters into the cache."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from adapter_hub.cli.terminal.arguments import PATH, PLACE, allow_quarantined_option, json_option
from adapter_hub.cli.terminal.echo import echo_error, echo_json, echo_line
from adapter_hub.cli.terminal.global_options import GlobalOptions
from adapter_hub.formats.reference import AdapterRef, parse_source

if TYPE_CHECKING:
    from adapter_hub.errors import AdapterHubError
    from adapter_hub.formats.manifest import BaseModelPin


@click.command()
@click.argument("refs", metavar="REF...", type=PLACE, nargs=-1, required=True)
@click.option(
    "--to",
    metavar="FOLDER",
    type=PATH,
    help="Also copy it to this folder; several go into sub-folders named like the adapters.",
)
@allow_quarantined_option
@click.option("--with-base-model", is_flag=True, help="Also fetch the base model, and check its digest.")
@json_option
@click.pass_obj
def pull(
    options: GlobalOptions,
    refs: tuple[str, ...],
    to: Path | None,
    allow_quarantined: str | None,
    with_base_model: bool,
    as_json: bool,
) -> int:
    """Fetch adapters into the cache, verify every byte, and print where they are.

    hf://namespace/name is fetched from its repository on the Hub, whether or not a registry lists it.
    """
    from adapter_hub.artifact.folder import Artifact
    from adapter_hub.cli.terminal.progress import DownloadBar
    from adapter_hub.exchange import pull as pull_adapter
    from adapter_hub.isolation import isolated

    rows: list[dict[str, str]] = []
    places = options.opened()

    def pull_one(ref: str) -> None:
        source = parse_source(ref)
        name = source.name if isinstance(source, AdapterRef) else Artifact.open(source).manifest.name
        target = to if to is None or len(refs) == 1 else to / name
        _check_target(target)
        with DownloadBar() as arrivals:
            artifact = pull_adapter(
                source,
                places,
                to=target,
                allow_quarantined=allow_quarantined,
                progress=arrivals.add,
            )
        row = {"ref": artifact.ref, "digest": artifact.digest, "path": str(artifact.path)}
        if not as_json:
            echo_line(f"{artifact.ref}  {artifact.path}")
        if with_base_model:
            row["base_model"] = str(_base_model(artifact.manifest.base_model, options.cache_folder))
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
    return 1 if failures else 0


def _check_target(folder: Path | None) -> None:
    """Refuse a folder with other content before anything is fetched."""
    from adapter_hub.errors import ConflictError
    from adapter_hub.formats.manifest import MANIFEST_FILE

    if folder is not None and folder.exists() and not (folder / MANIFEST_FILE).is_file():
        raise ConflictError(
            f"--to {folder}: exists and is not an artifact; name a folder that does not exist"
        )


def _base_model(pin: BaseModelPin, cache: Path) -> Path:
    """Return the folder of the base model that an adapter pins, fetched if this machine does not have it."""
    from adapter_hub.base_model.digest import EMBEDDED_ID, stamped_digest
    from adapter_hub.base_model.fetching import fetch_base_model
    from adapter_hub.base_model.finding import find_pinned_base_model
    from adapter_hub.cli.terminal.progress import DownloadBar
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
    with DownloadBar() as arrivals:
        folder, commit = fetch_base_model(repo.id, pin.revision, cache=cache, progress=arrivals.add)
    if (digest := stamped_digest(folder, cache)) != pin.digest:
        raise IntegrityError(
            f"base model {repo.id} at {commit} in {folder}: has the digest {digest}, the adapter was made "
            f"for {pin.digest}; name a copy of the right one with --base-model when you use it"
        )
    return folder
