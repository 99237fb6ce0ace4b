"""`lock`: the exact versions that an application uses, written to a file."""

from __future__ import annotations

from pathlib import Path

import click

from adapter_hub.cli.terminal.arguments import PLACE, json_option
from adapter_hub.cli.terminal.echo import echo_json, echo_line, echo_note
from adapter_hub.cli.terminal.global_options import GlobalOptions
from adapter_hub.cli.terminal.lock_options import lock_file_option


@click.command()
@click.argument("refs", metavar="[REF]...", type=PLACE, nargs=-1)
@lock_file_option
@json_option
@click.pass_obj
def lock(options: GlobalOptions, refs: tuple[str, ...], path: Path, as_json: bool) -> None:
    """Write a lock file that pins the adapters of an application to the byte.

    REFs are its requirements, like 'mini/da~=1.0', and replace those in the file. Without REFs, the
    requirements in the file are resolved again, which brings newer versions. Every version is pulled and
    verified. `adapter-hub sync --locked` installs what the file pins.
    """
    from adapter_hub.exchange import lock as lock_adapters
    from adapter_hub.files.reading import read_bounded
    from adapter_hub.formats.lock_file import MAXIMUM_SIZE, read_lock

    before = read_bounded(path, MAXIMUM_SIZE) if path.is_file() else None
    locked = lock_adapters(
        refs or read_lock(path).requirements,
        options,
        path=path,
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
