"""`extract`: a full fine-tune made an adapter."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from adapter_hub.cli.terminal.arguments import PLACE, json_option
from adapter_hub.cli.terminal.echo import echo_json, echo_line, echo_note, echo_text
from adapter_hub.cli.terminal.global_options import GlobalOptions
from adapter_hub.cli.terminal.progress import Bar, DownloadBar
from adapter_hub.cli.terminal.tables import table
from adapter_hub.cli.terminal.training_options import out_artifact_option, trained_for_options
from adapter_hub.errors import InvalidInputError

if TYPE_CHECKING:
    from adapter_hub.trainers.averaging.extracting import Extraction

WORST = 5  # tensors with the largest change that is lost


@click.command()
@click.argument("source", metavar="SOURCE", type=PLACE)
@click.option(
    "--base-model", metavar="ID|FOLDER", type=PLACE, required=True, help="What it was trained from."
)
@click.option("--rank", type=int, help="Rank of every module at most.")
@click.option("--energy", type=float, metavar="SHARE", help="Keep this share of each change, like 0.9.")
@click.option("--as", "as_ref", metavar="NAME@VERSION", required=True, help="What to call the adapter.")
@click.option(
    "--language",
    "languages",
    metavar="TAG",
    multiple=True,
    required=True,
    help="BCP 47 tag of what it transcribes; may be repeated.",
)
@click.option("--license", "licence", metavar="SPDX", required=True, help="SPDX identifier of its licence.")
@trained_for_options
@out_artifact_option
@json_option
@click.pass_obj
def extract(
    options: GlobalOptions,
    source: str,
    base_model: str,
    rank: int | None,
    energy: float | None,
    as_ref: str,
    languages: tuple[str, ...],
    licence: str,
    authors: tuple[str, ...],
    task: str,
    timestamps: bool,
    out: Path,
    as_json: bool,
) -> None:
    """Turn a full fine-tune into an adapter, as near as a LoRA can be.

    SOURCE is a folder, or hf://namespace/name@revision. Give --rank or --energy. The change of every linear
    is cut to its largest singular values; the change of norms, biases, embeddings and convolutions is
    lost. Both losses are printed, and the error of the logits on the probe.
    """
    from adapter_hub.exchange.importing import Identity, languages_of
    from adapter_hub.formats.reference import AdapterRef
    from adapter_hub.model.base_model import load_base_model
    from adapter_hub.trainers.averaging.extracting import extract as run

    ref = AdapterRef.parse(as_ref)
    if ref.version is None:
        raise InvalidInputError(f"--as {as_ref}: expected NAME@VERSION, like {ref.name}@1.0.0")
    folder, origin = _found(source, options)
    identity = Identity(
        name=ref.name,
        version=ref.version,
        languages=languages_of(languages),
        license=licence,
        authors=authors,
        task=task,
        timestamps=timestamps,
        source=origin,
    )
    base = load_base_model(base_model, device=options.device, cache=options.cache_folder)
    bar = Bar("extracting", 0)

    def progress(done: int, of: int) -> None:
        bar.total = of
        bar.at(done)

    made, found = run(base, folder, out, identity, rank=rank, energy=energy, progress=progress)
    bar.close()
    if as_json:
        echo_json(
            {
                "ref": made.ref,
                "digest": made.digest,
                "path": str(made.path),
                "error": found.update.error,
                "errors": {module.path: module.error for module in found.update.modules},
                "left_out": found.left_out,
                "logits_error": found.logits_error,
                "other_generation": found.other_generation,
            }
        )
    else:
        echo_line(f"{made.ref} {made.digest} in {out}")
        _show(found)
    if found.other_generation:
        echo_note(f"{source} generates by other settings; the adapter runs by the base model's")
    echo_note(f"next: adapter-hub publish {out}")


def _found(source: str, options: GlobalOptions) -> tuple[Path, str | None]:
    """Return the full model's folder, and its address where it came from the Hub."""
    from adapter_hub.base_model.fetching import fetch_base_model
    from adapter_hub.formats.reference import is_hub
    from adapter_hub.hub import RepoId

    if not is_hub(source):
        return Path(source), None
    address, _, revision = source.partition("@")
    repo = RepoId.parse(address)
    with DownloadBar() as arriving:
        folder, commit = fetch_base_model(
            repo.id, revision or None, cache=options.cache_folder, progress=arriving.add
        )
    return folder, f"{repo}@{commit}"


def _show(found: Extraction) -> None:
    echo_line(
        f"relative error: {found.update.error:.4f} of the linears' change, "
        f"{found.logits_error:.4f} of the probe's logits"
    )
    if found.left_out:
        worst = sorted(found.left_out.items(), key=lambda item: -item[1])[:WORST]
        echo_line(f"left out: the change of {len(found.left_out)} tensors that no LoRA holds, the largest")
        echo_text(table(["tensor", "relative norm"], [[name, f"{norm:.2e}"] for name, norm in worst]))
