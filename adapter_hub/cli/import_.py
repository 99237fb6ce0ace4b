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
    from adapter_hub.exchange.peft_sources import PeftSource
    from adapter_hub.formats.manifest import BaseModelPin
    from adapter_hub.formats.reference import AdapterRef


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
    help="The base model it was trained on; ID=FOLDER says which model a folder holds. Default: as its "
    "configuration or its card says.",
)
@click.option("--force", is_flag=True, help="Import it for another base model than it names.")
@click.option("--subfolder", metavar="FOLDER", help="Of SOURCE, where the adapter is, like checkpoint-500.")
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
    force: bool,
    subfolder: str | None,
    name: str | None,
    out: Path | None,
    licence: str | None,
    authors: tuple[str, ...],
    task: str,
    timestamps: bool,
    as_json: bool,
) -> None:
    """Import a third-party PEFT adapter.

    SOURCE is a folder, hf://namespace/name@revision, or the address of a page of the Hub. The adapter is
    checked against its base model and written as an artifact, which `adapter-hub publish` publishes. It must
    be a plain LoRA on linear layers, in safetensors. What it was trained on remains unknown, and the audit
    says so.
    """
    import tempfile

    from adapter_hub.artifact.effects import effect_of
    from adapter_hub.artifact.peft import WEIGHTS_FILE
    from adapter_hub.base_model.digest import EMBEDDED_ID
    from adapter_hub.base_model.finding import remember_folder
    from adapter_hub.cards import spdx_licence
    from adapter_hub.exchange.importing import Identity, decode_languages_of, import_peft, languages_of
    from adapter_hub.exchange.peft_sources import open_peft

    with tempfile.TemporaryDirectory(prefix="adapter-hub-") as scratch:
        found = open_peft(source, Path(scratch), subfolder or "")
        own_name = re.sub(r"[^a-z0-9]+", "-", found.label.lower()).strip("-") or "adapter"
        ref = _ref(name, own_name)
        target = out or Path(f"{own_name}-adapter")
        if not (languages or found.languages):
            raise InvalidInputError(
                f"{source}: does not say its language; name it with --language, like --language da"
            )
        base = _base_model(options.cache_folder, source, base_model, found, force=force)
        identity = Identity(
            name=ref.name,
            version=str(ref.version),
            languages=languages_of(
                languages or found.languages, decode_languages, known=decode_languages_of(base.folder)
            ),
            license=licence or spdx_licence(found.license),
            authors=authors,
            task=task,
            timestamps=timestamps,
            source=found.source,
            named_base_model=base.named,
        )
        artifact = import_peft(found.folder, target, identity, base.pin, base.folder)
        if base.pin.revision is None and base.pin.id != EMBEDDED_ID:
            remember_folder(base.folder, base.pin.digest, options.cache_folder)
    row = {"ref": artifact.ref, "digest": artifact.digest, "path": str(artifact.path)}
    if as_json:
        echo_json(row)
    else:
        echo_line(f"{artifact.ref}  {artifact.path}")
        if idle := str(effect_of(artifact.path / WEIGHTS_FILE)):
            echo_note(idle)
        echo_note(f"publish it with `adapter-hub publish {target}`")


def _ref(name: str | None, own_name: str) -> AdapterRef:
    """Return what the artifact is called."""
    from adapter_hub.formats.reference import AdapterRef

    ref = AdapterRef.parse(name or f"imported/{own_name}@1.0.0")
    if ref.version is None:
        raise InvalidInputError(f"--as {name}: expected NAME@VERSION, like {ref.name}@1.0.0")
    return ref


@dataclass(frozen=True)
class _Base:
    """The base model that an adapter is imported for, and the other one that it names, if any."""

    folder: Path
    pin: BaseModelPin
    named: str | None


def _base_model(cache: Path, source: str, wanted: str | None, found: PeftSource, *, force: bool) -> _Base:
    """Find the base model, and compare the user's word with the adapter's.

    Args:
        cache: the cache's folder.
        source: the adapter, as the user named it.
        wanted: the user's word, which may be a folder; None takes the adapter's, which may not.
        found: what the adapter says of itself.
        force: take the user's word where the two disagree.

    Raises:
        InvalidInputError: the adapter names none that others have, or another one.
        NotFoundError, AccessError, UnreachableError.
    """
    from adapter_hub.exchange.importing import base_model_pin, other_base_model

    if wanted is None and found.base_model is None:
        raise InvalidInputError(
            f"{source}: {found.said}; name its base model, like --base-model openai/whisper-small"
        )
    revision = found.base_model_revision if wanted is None else None
    name = wanted or str(found.base_model)
    folder, commit = _copy(cache, name, revision, may_fetch=bool(found.source))
    pin = base_model_pin(folder, name, commit, cache=cache)
    named = other_base_model(found.base_model, pin, cache) if wanted else None
    if named and not force:
        raise InvalidInputError(
            f"{source}: it names {shown(named, 100)} as its base model, --base-model is {pin.id}; leave out "
            "--base-model, or import it for the other one all the same with --force"
        )
    if wanted and found.base_model and not named and found.base_model.lower() != pin.id.lower():
        echo_note(f"it names {shown(found.base_model, 100)} as its base model, which {pin.id} is taken to be")
    return _Base(folder, pin, named)


def _copy(cache: Path, name: str, revision: str | None, *, may_fetch: bool) -> tuple[Path, str | None]:
    """Return the folder of a base model and its commit; fetched where the adapter is fetched, too."""
    from adapter_hub.base_model.digest import EMBEDDED_ID
    from adapter_hub.base_model.fetching import fetch_base_model
    from adapter_hub.base_model.finding import find_base_model
    from adapter_hub.cli.terminal.progress import DownloadBar
    from adapter_hub.hub import RepoId

    try:
        repo = RepoId(name).id
    except InvalidInputError:
        repo = None
    if not may_fetch or repo in (None, EMBEDDED_ID):
        return find_base_model(name, revision, cache=cache)
    with DownloadBar() as arrivals:
        return fetch_base_model(name, revision, cache=cache, progress=arrivals.add)
