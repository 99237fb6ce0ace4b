"""Pinning what an application uses: `lock` and `sync`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from adapter_hub.cli.catalogue import json_option
from adapter_hub.cli.terminal.arguments import PATH, PLACE
from adapter_hub.cli.terminal.echo import echo_error, echo_json, echo_line, echo_note, echo_warning
from adapter_hub.cli.terminal.settings import Settings

if TYPE_CHECKING:
    from adapter_hub.errors import AdapterHubError

file_option = click.option(
    "--file",
    "path",
    metavar="FILE",
    type=PATH,
    default=Path("adapters.lock"),
    show_default=True,
    help="The lock file.",
)


@click.command()
@click.argument("refs", metavar="[REF]...", type=PLACE, nargs=-1)
@file_option
@json_option
@click.pass_obj
def lock(settings: Settings, refs: tuple[str, ...], path: Path, as_json: bool) -> None:
    """Write down to the byte which adapters an application uses, for `adapter-hub sync --locked`.

    REFs are what it asks for, like 'mini/da~=1.0'; exactly these are locked. Without REFs, those that the
    file holds are resolved again, which brings newer versions. Every version is pulled and verified.
    """
    from adapter_hub.exchange import lock as lock_adapters
    from adapter_hub.files.reading import read_bounded
    from adapter_hub.formats.lock_file import MAXIMUM_SIZE, read_lock

    before = read_bounded(path, MAXIMUM_SIZE) if path.is_file() else None
    locked = lock_adapters(
        refs or read_lock(path).requirements,
        registries=settings.registries(),
        cache=settings.open_cache(),
        path=path,
        tell=echo_warning,
    )
    rows = []
    for text in locked.requirements:
        adapter = locked.chosen(text)
        assert adapter is not None
        rows.append({"requirement": text, "ref": adapter.ref, "digest": adapter.digest})
    changed = read_bounded(path, MAXIMUM_SIZE) != before
    if as_json:
        echo_json({"file": str(path), "changed": changed, "adapters": rows})
        return
    for row in rows:
        echo_line(f"{row['requirement']}  {row['ref']}  {row['digest']}")
    echo_note(f"{path}: {'written' if changed else 'unchanged'}")


@click.command()
@click.option("--locked", is_flag=True, help="Install exactly what the file says, or fail; never write it.")
@file_option
@click.option(
    "--to",
    metavar="FOLDER",
    type=PATH,
    help="Copy each to a folder below this one, named like the adapter; an older version gives way.",
)
@click.option("--allow-quarantined", metavar="DIGEST", help="Take this quarantined version all the same.")
@json_option
@click.pass_context
def sync(
    ctx: click.Context,
    locked: bool,
    path: Path,
    to: Path | None,
    allow_quarantined: str | None,
    as_json: bool,
) -> None:
    """Install the adapters of a lock file, and print where they are; exits with 1 if any could not be.

    Without --locked, what was edited in its requirements, or must not be used any more, is locked again
    first. Needs no network and no store for what is in the cache.
    """
    from adapter_hub.exchange import bring_up_to_date
    from adapter_hub.exchange import sync as install

    settings: Settings = ctx.obj
    registries, cache = settings.registries(), settings.open_cache()
    told: dict[str, None] = {}
    problems: dict[str, AdapterHubError] = {}

    def tell(line: str) -> None:
        if line not in told:
            echo_warning(line)
        told[line] = None

    if not locked:
        bring_up_to_date(
            path, registries=registries, cache=cache, allow_quarantined=allow_quarantined, tell=tell
        )
    installed = install(
        path,
        registries=registries,
        cache=cache,
        to=to,
        allow_quarantined=allow_quarantined,
        tell=tell,
        failed=problems.__setitem__,
    )
    rows: list[dict[str, Any]] = [
        {"ref": artifact.ref, "digest": artifact.digest, "path": str(artifact.path)} for artifact in installed
    ]
    if as_json:
        echo_json(rows + [{"ref": ref, "error": str(error)} for ref, error in problems.items()])
    else:
        for row in rows:
            echo_line(f"{row['ref']}  {row['path']}")
    for error in problems.values():
        echo_error(error)
    if problems:
        ctx.exit(1)
