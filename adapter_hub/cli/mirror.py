"""`mirror`: versions copied from store to store."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import click

from adapter_hub.cli.terminal.arguments import PLACE, json_option
from adapter_hub.cli.terminal.echo import echo_error, echo_json, echo_line, echo_note
from adapter_hub.cli.terminal.global_options import GlobalOptions
from adapter_hub.cli.terminal.progress import Bar
from adapter_hub.formats.reference import is_address, is_folder_of_store

if TYPE_CHECKING:
    from adapter_hub.exchange import Mirrored
    from adapter_hub.stores.contract import Store


@click.command()
@click.argument("refs", metavar="[REF]...", type=PLACE, nargs=-1)
@click.option(
    "--from",
    "source",
    metavar="STORE",
    type=PLACE,
    required=True,
    help="Store to copy from; it is only read.",
)
@click.option("--to", "target", metavar="STORE", type=PLACE, required=True, help="Store to copy to.")
@click.option(
    "--withdraw",
    is_flag=True,
    help="Also remove the files of versions that were withdrawn in the source.",
)
@json_option
@click.pass_obj
def mirror(
    options: GlobalOptions, refs: tuple[str, ...], source: str, target: str, withdraw: bool, as_json: bool
) -> int:
    """Copy versions, with their ancestors, reports and statuses, from one store to another.

    A STORE is a folder, `embedded`, or hf://namespace. A name without a version means all its versions;
    without REFs, everything is copied. A status in the source never loosens one in the target. After an
    interruption, the same command resumes. Exits with 1 if a version could not be copied.
    """
    from adapter_hub.exchange import mirror as mirror_versions

    bar = Bar(f"mirroring to {target}", 0)

    def progress(item: Mirrored, done: int, total: int) -> None:
        bar.total = total
        bar.at(done)

    try:
        mirrored = mirror_versions(
            refs,
            options,
            source=_open(options, source, must_exist=True),
            target=_open(options, target),
            withdraw=withdraw,
            progress=progress,
        )
    finally:
        bar.close()
    if as_json:
        echo_json([_row(item) for item in mirrored])
    else:
        for item in mirrored:
            if item.outcome != "failed":
                added = f", reports and statuses added: {item.claims}" if item.claims else ""
                echo_line(f"{item.ref}  {item.outcome}{added}")
    failed = [item for item in mirrored if item.outcome == "failed"]
    for item in failed:
        echo_error(item.problem)
    if failed:
        return 1
    if not as_json:
        echo_note(_next_step(options, target))
    return 0


def _row(item: Mirrored) -> dict[str, str | int]:
    row: dict[str, str | int] = {"ref": item.ref, "outcome": item.outcome, "claims": item.claims}
    return {**row, "error": item.problem} if item.problem else row


def _open(options: GlobalOptions, text: str, must_exist: bool = False) -> Store:
    from adapter_hub.errors import NotFoundError
    from adapter_hub.stores.opening import open_store

    here = Path.cwd() / "registry.json"
    if not is_folder_of_store(text):
        return open_store(text, here, cache=options.cache_folder)
    folder = Path(text).expanduser()
    if must_exist and not folder.is_dir():
        raise NotFoundError(
            f"store {text}: there is no such folder; expected one with namespace/name/version/… in it"
        )
    return open_store(str(folder.absolute()), here)


def _next_step(options: GlobalOptions, target: str) -> str:
    """Return how to make a registry of what is now in the target."""
    if is_address(target):
        registry = "hf://datasets/NAMESPACE/NAME"
    else:
        registry = shlex.quote(str(Path(target) / "registry.json"))
    places = f"--registry {registry} --store {shlex.quote(target)}"
    return f"make a registry of it with `adapter-hub {places} registry rebuild`"
