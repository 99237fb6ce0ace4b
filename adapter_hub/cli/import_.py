"""`import`: a third-party PEFT adapter made an artifact."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from adapter_hub.cli.terminal.arguments import PATH, PLACE, json_option
from adapter_hub.cli.terminal.echo import echo_json, echo_line, echo_note
from adapter_hub.cli.terminal.global_options import GlobalOptions
from adapter_hub.cli.terminal.training_options import trained_for_options
from adapter_hub.errors import InvalidInputError
from adapter_hub.escaping import shown

if TYPE_CHECKING:
    from adapter_hub.exchange.importing import PeftSource


@click.command("import")
@click.argument("source", metavar="SOURCE", type=PLACE)
@click.option(
    "--language",
    "languages",
    metavar="TAG",
    multiple=True,
    help="BCP 47 tag of what it transcribes; may be repeated. Default: as its card says.",
)
@click.option(
    "--decode-language",
    "decode_languages",
    metavar="CODE",
    multiple=True,
    help="Whisper's code for the language, where it is not the first part of the tag; may be repeated.",
)
@click.option(
    "--base-model",
    metavar="ID|FOLDER",
    type=PLACE,
    help="The base model it was trained on. Default: as its configuration says.",
)
@click.option(
    "--as", "name", metavar="NAME@VERSION", help="Name of the artifact. Default: imported/FOLDER@1.0.0."
)
@click.option(
    "--out",
    metavar="FOLDER",
    type=PATH,
    help="Folder of the artifact; must not exist. Default: SOURCE's name with -adapter.",
)
@click.option(
    "--license", "licence", metavar="SPDX", help="SPDX identifier of its licence. Default: as its card says."
)
@trained_for_options
@json_option
@click.pass_obj
def import_(
    options: GlobalOptions,
    source: str,
    languages: tuple[str, ...],
    decode_languages: tuple[str, ...],
    base_model: str | None,
    name: str | None,
    out: Path | None,
    licence: str | None,
    authors: tuple[str, ...],
    task: str,
    timestamps: bool,
    as_json: bool,
) -> None:
    """Import a third-party PEFT adapter.

    SOURCE is a folder, or hf://namespace/name@revision. The adapter is checked against its base model and
    written as an artifact, which `adapter-hub publish` publishes. It must be a plain LoRA on linear layers,
    in safetensors. What it was trained on remains unknown, and the audit says so.
    """
    import tempfile

    from adapter_hub.artifact.effects import effect_of
    from adapter_hub.artifact.peft import WEIGHTS_FILE
    from adapter_hub.exchange.importing import Identity, base_model_pin, import_peft, languages_of
    from adapter_hub.formats.reference import AdapterRef

    with tempfile.TemporaryDirectory(prefix="adapter-hub-") as scratch:
        cache = options.cache_folder
        found = _peft_source(source, Path(scratch), languages, base_model, licence, cache)
        own_name = re.sub(r"[^a-z0-9]+", "-", found.label.lower()).strip("-") or "adapter"
        ref = AdapterRef.parse(name or f"imported/{own_name}@1.0.0")
        if ref.version is None:
            raise InvalidInputError(f"--as {name}: expected NAME@VERSION, like {ref.name}@1.0.0")
        target = out or Path(f"{own_name}-adapter")
        identity = Identity(
            name=ref.name,
            version=ref.version,
            languages=languages_of(found.languages, decode_languages),
            license=found.license,
            authors=authors,
            task=task,
            timestamps=timestamps,
            source=found.source,
        )
        pin = base_model_pin(found.base_model_folder, found.base_model, found.base_model_revision)
        artifact = import_peft(found.folder, target, identity, pin, found.base_model_folder)
    row = {"ref": artifact.ref, "digest": artifact.digest, "path": str(artifact.path)}
    if as_json:
        echo_json(row)
    else:
        echo_line(f"{artifact.ref}  {artifact.path}")
        if idle := str(effect_of(artifact.path / WEIGHTS_FILE)):
            echo_note(idle)
        echo_note(f"publish it with `adapter-hub publish {target}`")


@dataclass(frozen=True)
class _PeftSource:
    """A PEFT adapter on this machine, with what is known about it."""

    label: str
    folder: Path
    source: str | None
    languages: tuple[str, ...]
    license: str
    base_model: str
    base_model_folder: Path
    base_model_revision: str | None


def _peft_source(
    source: str,
    scratch: Path,
    languages: tuple[str, ...],
    base_model: str | None,
    licence: str | None,
    cache: Path,
) -> _PeftSource:
    """Find the adapter and its base model; from the Hub, if that is where the adapter comes from."""
    from adapter_hub.artifact.peft_config import read_peft_config
    from adapter_hub.cards import spdx_licence
    from adapter_hub.exchange.importing import PeftSource, download_peft
    from adapter_hub.formats.reference import is_hub

    if is_hub(source):
        found, folder = download_peft(source, scratch), scratch
        label = source.partition("@")[0].rpartition("/")[2]
    else:
        folder, label = Path(source), Path(source).resolve().name
        found = PeftSource(None, base_model=read_peft_config(folder).base_model_name_or_path)
    wanted = base_model or found.base_model
    if not (languages or found.languages):
        raise InvalidInputError(
            f"{source}: does not say its language; name it with --language, like --language da"
        )
    if not wanted:
        raise InvalidInputError(f"{source}: does not say its base model; name it with --base-model")
    base_folder, commit = _base_model(cache, wanted, None if base_model else found, bool(found.source))
    return _PeftSource(
        label,
        folder,
        found.source,
        languages or found.languages,
        licence or spdx_licence(found.license),
        wanted,
        base_folder,
        commit,
    )


def _base_model(
    cache: Path, wanted: str, said: PeftSource | None, may_fetch: bool
) -> tuple[Path, str | None]:
    """Return the folder of the base model and its commit; fetched where the adapter is fetched, too.

    Args:
        cache: the cache's folder.
        wanted: the user's word, which may be a folder, or what the adapter says, which may not.
        said: what the adapter says of itself; None where `wanted` is the user's word.
        may_fetch: whether the Hub may be asked.

    Raises:
        InvalidInputError: the adapter names a folder, which is one on its maker's machine.
        NotFoundError, AccessError, UnreachableError.
    """
    from adapter_hub.base_model.digest import EMBEDDED_ID
    from adapter_hub.base_model.fetching import fetch_base_model
    from adapter_hub.base_model.finding import find_base_model
    from adapter_hub.cli.terminal.progress import DownloadBar
    from adapter_hub.hub import RepoId

    try:
        repo = RepoId(wanted).id
    except InvalidInputError:
        repo = None
    if said is not None and repo is None:
        raise InvalidInputError(
            f"the adapter's base model is {shown(wanted, 120)}, which is not the id of a model on the Hub; "
            "name a copy with --base-model"
        )
    revision = None if said is None else said.base_model_revision
    if not may_fetch or repo in (None, EMBEDDED_ID):
        return find_base_model(wanted, revision, cache=cache)
    with DownloadBar() as arrivals:
        return fetch_base_model(wanted, revision, cache=cache, progress=arrivals.add)
